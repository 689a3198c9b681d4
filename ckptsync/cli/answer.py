"""What a command has to say: one value for machines and one for people, and how it ended."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from ckptsync.errors import CkptsyncError, ConfigError
from ckptsync.escaping import escaped, escaped_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How a failure is told, whatever raised it."""

    kind: str
    message: str
    hint: str | None
    exit_code: int
    problems: Sequence[str] = ()
    """What the message lists, a line each: its line ends are ours, not those of a quoted name."""

    @classmethod
    def of(cls, error: CkptsyncError) -> "Failure":
        return cls(
            kind=type(error).__name__,
            message=str(error),
            hint=error.hint,
            exit_code=error.exit_code,
            problems=error.problems if isinstance(error, ConfigError) else (),
        )

    def document(self) -> Mapping[str, Any]:
        return {
            "kind": self.kind,
            "message": self.message,
            "hint": self.hint,
            "exit_code": self.exit_code,
            "problems": list(self.problems),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    document: Mapping[str, Any]
    """For --json. Times are ISO 8601 in UTC, sizes bytes, durations seconds; an integer that may
    pass 2^53 is a string."""
    lines: Callable[[], Iterable[str]]
    """For people; only called if they are shown. Nothing that a line quotes can end it."""
    asides: Sequence[str] = ()
    """Lines for people that are no part of the data."""
    verdict: Failure | None = None
    """The command did what it was asked, and this is what it found."""


def show(answer: Answer, *, as_json: bool) -> int:
    """Print an answer; the exit code. A JSON document has an "error" if that is not 0."""
    failure = answer.verdict
    if as_json:
        document = dict(answer.document)
        if failure is not None:
            document["error"] = failure.document()
        _write(json.dumps(document, indent=2))
    else:
        _write("\n".join(map(escaped, answer.lines())))
        for line in answer.asides:
            click.echo(escaped(line), err=True)
        if failure is not None:
            _complain(failure)
    return 0 if failure is None else failure.exit_code


def show_failure(failure: Failure, *, as_json: bool) -> int:
    """Say what went wrong, for people on stderr and with JSON on stdout too; the exit code."""
    _complain(failure)
    if as_json:
        _write(json.dumps({"error": failure.document()}, indent=2))
    return failure.exit_code


def _complain(failure: Failure) -> None:
    shown = escaped_lines if failure.problems else escaped
    click.echo(f"error: {shown(failure.message)}", err=True)
    if failure.hint:
        click.echo(f"try: {escaped(failure.hint)}", err=True)


def _write(text: str) -> None:
    try:
        click.echo(text)
        sys.stdout.flush()
    except OSError as error:
        # Python flushes stdout once more as it ends, and would complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise CkptsyncError(f"cannot write the output: {error.strerror}") from error
