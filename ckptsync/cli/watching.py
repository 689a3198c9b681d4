"""Showing an answer again and again."""

import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import click

from ckptsync.cli.answer import Answer, complaint, show
from ckptsync.cli.wording import moment
from ckptsync.errors import Cancelled
from ckptsync.escaping import escaped

_CLEAR: Final = "\x1b[2J"
_HOME: Final = "\x1b[H"
_REST_OF_LINE: Final = "\x1b[K"
_REST_OF_SCREEN: Final = "\x1b[J"


def watch(
    look: Callable[[], Answer], *, every: timedelta, stop: threading.Event, as_json: bool
) -> int:
    """Show an answer and the next one, until a stop is asked for; the exit code.

    On a terminal each takes the place of the one before. The code is 0: being interrupted is how
    a watch ends, and what it saw last is no more its outcome than what it saw first.
    """
    redraws = sys.stdout.isatty() and not as_json
    before = _CLEAR
    while not stop.is_set():
        try:
            seen = look()
        except Cancelled:
            break
        answer = replace(seen, lines=partial(_dated, seen))
        if redraws:
            click.echo(before + _drawn(answer))
            before = ""
        else:
            show(answer, as_json=as_json)
        stop.wait(min(every.total_seconds(), threading.TIMEOUT_MAX))
    return 0


def _dated(answer: Answer) -> Iterator[str]:
    yield moment(datetime.now(UTC))
    yield from answer.lines()


def _drawn(answer: Answer) -> str:
    """In one piece, and written over what is there: a screen that was emptied first flickers."""
    lines = [*map(escaped, answer.lines()), *map(escaped, answer.asides)]
    if answer.verdict is not None:
        lines += complaint(answer.verdict)
    return _HOME + "".join(f"{line}{_REST_OF_LINE}\n" for line in lines) + _REST_OF_SCREEN
