"""Asking at a terminal: real processes, with one or without."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from tests.e2e.terminal import Screen, terminal

_PATIENCE: Final = 60.0  # seconds
_PROGRAM: Final = """
import signal, sys, threading
from ckptsync.cli.confirm import confirm, require_terminal
from ckptsync.errors import CkptsyncError

stop = threading.Event()
signal.signal(signal.SIGINT, lambda *_: stop.set())
try:
    require_terminal()
    confirm(sys.argv[1], stop=stop, typed=sys.argv[2] or None)
except CkptsyncError as error:
    print(f"{type(error).__name__}: {error}; {error.hint}")
else:
    print("agreed")
"""


@contextmanager
def _asking(
    screen: Screen, *, typed: str = "", what: str = "The moon is moved."
) -> Iterator["subprocess.Popen[str]"]:
    """A process that has asked."""
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, what, typed],
        stdin=screen.descriptor,
        stdout=subprocess.PIPE,
        stderr=screen.descriptor,
        text=True,
    ) as process:
        try:
            screen.await_(lambda text: text.endswith(("[y/N] ", "to go on: ")))
            yield process
        finally:
            process.kill()


def _outcome(process: "subprocess.Popen[str]") -> str:
    return process.communicate(timeout=_PATIENCE)[0].strip()


@pytest.mark.parametrize("answer", ["y", "Y", "yes", " yes "])
def test_yes_is_yes(answer: str) -> None:
    with terminal() as screen, _asking(screen) as process:
        screen.type(f"{answer}\n")

        assert _outcome(process) == "agreed"
        assert screen.text.startswith("The moon is moved.\r\nGo on? [y/N] ")


@pytest.mark.parametrize("answer", ["\n", "n\n", "ja\n", "yess\n", "\x04"])
def test_anything_else_changes_nothing(answer: str) -> None:
    with terminal() as screen, _asking(screen) as process:
        screen.type(answer)

        assert _outcome(process).startswith("Cancelled: not confirmed; nothing was changed")


@pytest.mark.parametrize(
    ("answer", "outcome"), [("orders\n", "agreed"), ("y\n", "Cancelled"), ("Orders\n", "Cancelled")]
)
def test_what_is_graver_has_to_be_typed_out(answer: str, outcome: str) -> None:
    with terminal() as screen, _asking(screen, typed="orders") as process:
        screen.type(answer)

        assert _outcome(process).startswith(outcome)
        assert "Type 'orders' to go on: " in screen.text


def test_an_interrupt_ends_the_question_at_once() -> None:
    with terminal() as screen, _asking(screen) as process:
        process.send_signal(signal.SIGINT)

        assert _outcome(process).startswith("Cancelled: stopped before it was confirmed")


def test_what_will_happen_cannot_steer_the_terminal() -> None:
    with terminal() as screen, _asking(screen, what="\x1b[2Jnothing\nGo on? [y/N] ") as process:
        screen.type("y\n")

        assert _outcome(process) == "agreed"
        assert screen.text.startswith("\\x1b[2Jnothing\\x0aGo on? [y/N] \r\n")


@pytest.mark.parametrize("missing", ["stdin", "stderr"])
def test_nobody_is_asked_without_a_terminal(missing: str) -> None:
    with terminal() as screen:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, "what", ""],
            stdin=subprocess.DEVNULL if missing == "stdin" else screen.descriptor,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if missing == "stderr" else screen.descriptor,
            text=True,
            timeout=_PATIENCE,
            check=True,
        )

    assert done.stdout.startswith("ConfigError: this has to be confirmed")
    assert done.stdout.strip().endswith("say --yes")
