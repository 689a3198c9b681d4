"""Put measured text into a document, between two comments that stay."""

from pathlib import Path


class NoMarkers(RuntimeError):
    """The document has no place, or more than one, for this text."""


def replace_between(document: str, name: str, text: str) -> str:
    """The document with `text` between the two comments of `name`. Raises NoMarkers."""
    begin, end = f"<!-- {name} begins -->", f"<!-- {name} ends -->"
    before, found_begin, rest = document.partition(begin)
    old, found_end, after = rest.partition(end)
    if not (found_begin and found_end) or begin in old + after or end in after:
        raise NoMarkers(f"it needs one line '{begin}' and below it one line '{end}'")
    return f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}"


def require_markers(path: Path, name: str) -> None:
    """Find out before hours are spent. Raises NoMarkers, OSError."""
    _replaced(path, name, "")


def update(path: Path, name: str, text: str) -> None:
    """Replace the part of a file. Raises NoMarkers, OSError."""
    path.write_text(_replaced(path, name, text))


def _replaced(path: Path, name: str, text: str) -> str:
    try:
        return replace_between(path.read_text(), name, text)
    except NoMarkers as error:
        raise NoMarkers(f"{path}: {error}") from error
