"""How far a transfer is, drawn on a terminal; elsewhere nothing is drawn."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ckptsync.model import Progress, ignore


@contextmanager
def bar(title: str) -> Iterator[Progress]:
    """Show the bytes moved on stderr while the block lasts, and then no more."""
    if not sys.stderr.isatty():
        yield ignore
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.FileSizeColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeElapsedColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as display:
        task = display.add_task(title, total=None)
        yield lambda moved: display.advance(task, moved)
