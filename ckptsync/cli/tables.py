"""Rows and facts as people read them: columns of plain text, never folded nor cut.

Ids get copied, terminals wrap by themselves, and a bucket has thousands of checkpoints.
"""

from collections.abc import Iterable, Sequence
from typing import Final
from unicodedata import combining, east_asian_width

from ckptsync.escaping import escaped

_GAP: Final = "  "


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Aligned columns below their headings."""
    cells = [headings, *([escaped(cell) for cell in row] for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    return [_aligned(row, widths) for row in cells]


def facts(title: str, pairs: Iterable[tuple[str, str]]) -> list[str]:
    """A title, and below it a line for each name and value."""
    known = list(pairs)
    width = max((len(name) for name, _ in known), default=0)
    return [title, *(f"{_GAP}{name:<{width}}{_GAP}{value}".rstrip() for name, value in known)]


def _aligned(row: Iterable[str], widths: Iterable[int]) -> str:
    padded = (cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True))
    return _GAP.join(padded).rstrip()


def _width(cell: str) -> int:
    """In the cells of a terminal."""
    return len(cell) if cell.isascii() else sum(map(_cells, cell))


def _cells(character: str) -> int:
    if combining(character):
        return 0
    return 2 if east_asian_width(character) in "WF" else 1
