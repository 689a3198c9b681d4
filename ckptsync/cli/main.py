"""The program: the one place where a failure becomes a message and an exit code."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import Final

import click

from ckptsync.cli.answer import Answer, show, show_failure
from ckptsync.cli.application import application
from ckptsync.cli.invocation import Invocation
from ckptsync.errors import CkptsyncError
from ckptsync.escaping import escaped_lines
from ckptsync.failure import Failure

_STOPPING: Final = (
    b"stopping as soon as the requests under way are answered or time out; "
    b"once more ends it at once\n"
)


def main() -> int:
    stop = threading.Event()
    _stop_on_signals(stop)
    return run(sys.argv[1:], stop)


def run(arguments: Sequence[str], stop: threading.Event) -> int:
    """Do what the command line says; the exit code."""
    invocation = Invocation(stop=stop)
    try:
        try:
            return _answer(arguments, invocation)
        except BrokenPipeError:
            raise
        except CkptsyncError as error:
            failure = Failure.of(error)
        except click.ClickException as error:
            failure = _misuse(error)
        except Exception as error:  # noqa: BLE001 - a bug: told with its origin, never hidden
            click.echo(escaped_lines(traceback.format_exc().rstrip("\n")), err=True)
            failure = Failure.bug(error, hint="report it with the lines above")
        # A usage error may come before --json itself was read.
        return show_failure(failure, as_json=invocation.json or "--json" in arguments)
    except BrokenPipeError:
        return 1  # whoever read has left, and wants no message


def _answer(arguments: Sequence[str], invocation: Invocation) -> int:
    outcome = application.main(
        list(arguments), prog_name="ckptsync", standalone_mode=False, obj=invocation
    )
    if isinstance(outcome, Answer):
        return show(outcome, as_json=invocation.json)
    return int(outcome)  # --help and --version


def _misuse(error: click.ClickException) -> Failure:
    context = error.ctx if isinstance(error, click.UsageError) else None
    command = "ckptsync" if context is None else context.command_path
    return Failure(
        kind="UsageError",
        message=" ".join(error.format_message().split()),
        hint=f"{command} --help",
        exit_code=error.exit_code,
    )


def _stop_on_signals(stop: threading.Event) -> None:
    def ask(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
        stop.set()
        if sys.stderr.isatty():
            os.write(sys.stderr.fileno(), _STOPPING)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
