"""Asking whoever sits at the terminal before something is done that is not easily undone."""

import os
import select
import sys
import threading
from typing import Final

import click

from ckptsync.errors import Cancelled, ConfigError
from ckptsync.escaping import escaped

_STDIN: Final = 0
_STDERR: Final = 2
_GLANCE: Final = 0.2  # seconds; so soon an interrupt is noticed


def require_terminal() -> None:
    """Raises ConfigError where nobody could be asked."""
    if not (os.isatty(_STDIN) and os.isatty(_STDERR)):
        raise ConfigError(
            "this has to be confirmed, and there is no terminal to ask at", hint="say --yes"
        )


def confirm(what: str, *, stop: threading.Event, typed: str | None = None) -> None:
    """Say what will happen, and go on if the answer is yes, or `typed` where that is given.

    Raises Cancelled for any other answer, and on a stop. Without a terminal nobody says yes.
    """
    click.echo(escaped(what), err=True)
    wanted = "Go on? [y/N] " if typed is None else f"Type '{escaped(typed)}' to go on: "
    click.echo(wanted, err=True, nl=False)
    answer = _line(stop)
    agreed = answer.lower() in ("y", "yes") if typed is None else answer == typed
    if not agreed:
        raise Cancelled("not confirmed; nothing was changed")


def _line(stop: threading.Event) -> str:
    """Empty at the end of the input. Raises Cancelled."""
    while not stop.is_set():
        # A signal's handler only sets `stop`, and reading would just go on after it.
        if select.select([_STDIN], [], [], _GLANCE)[0]:
            line = sys.stdin.readline()
            if not line:
                click.echo(err=True)  # nobody ended the line
            return line.strip()
    raise Cancelled("stopped before it was confirmed; nothing was changed")
