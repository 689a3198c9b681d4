"""Rows and facts as people read them."""

import io
from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ckptsync.cli.answer import escaped

_WIDTH: Final = 10_000  # never folded nor cut: ids get copied, and terminals wrap by themselves


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Aligned columns below their headings."""
    drawn = Table(*headings, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        drawn.add_row(*map(_cell, row))
    return _render(drawn)


def facts(title: str, pairs: Iterable[tuple[str, str]]) -> str:
    """A title, and below it a line for each name and value."""
    drawn = Table.grid(padding=(0, 2, 0, 0))
    for name, value in pairs:
        drawn.add_row(f"  {name}", _cell(value))
    return f"{title}\n{_render(drawn)}"


def _cell(text: str) -> Text:
    """As it will be printed, on one line, so that it is measured so."""
    return Text(escaped(text))


def _render(drawn: Table) -> str:
    console = Console(file=io.StringIO(), width=_WIDTH, color_system=None)
    with console.capture() as captured:
        console.print(drawn)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())
