"""What a command has to say: one value for machines and one for people, and how it ended."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from ckptsync.errors import CkptsyncError


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How a failure is told, whatever raised it."""

    kind: str
    message: str
    hint: str | None
    exit_code: int

    @classmethod
    def of(cls, error: CkptsyncError) -> "Failure":
        return cls(
            kind=type(error).__name__,
            message=str(error),
            hint=error.hint,
            exit_code=error.exit_code,
        )

    def document(self) -> Mapping[str, Any]:
        return {
            "kind": self.kind,
            "message": self.message,
            "hint": self.hint,
            "exit_code": self.exit_code,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    document: Mapping[str, Any]
    """For --json. Times are ISO 8601 in UTC, sizes bytes, durations seconds; an integer that may
    pass 2^53 is a string."""
    text: Callable[[], str]
    """For people; only called if it is shown."""
    asides: Sequence[str] = ()
    """Lines for people that are no part of the data."""
    verdict: CkptsyncError | None = None
    """The command did what it was asked, and this is what it found."""


def show(answer: Answer, *, as_json: bool) -> int:
    """Print an answer; the exit code. A JSON document has an "error" if that is not 0."""
    failure = None if answer.verdict is None else Failure.of(answer.verdict)
    if as_json:
        document = dict(answer.document)
        if failure is not None:
            document["error"] = failure.document()
        _write(json.dumps(document, indent=2))
    else:
        _write(plain(answer.text()))
        for line in answer.asides:
            click.echo(plain(line), err=True)
        if failure is not None:
            _complain(failure)
    return 0 if failure is None else failure.exit_code


def show_failure(failure: Failure, *, as_json: bool) -> int:
    """Say what went wrong, for people on stderr and with JSON on stdout too; the exit code."""
    _complain(failure)
    if as_json:
        _write(json.dumps({"error": failure.document()}, indent=2))
    return failure.exit_code


def plain(text: str) -> str:
    """Text as a terminal may see it: names come from buckets, and could hold escape sequences."""
    return "\n".join(map(escaped, text.split("\n")))


def escaped(name: str) -> str:
    """A name on one line."""
    if name.isprintable():
        return name
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in name)


def _complain(failure: Failure) -> None:
    click.echo(f"error: {plain(failure.message)}", err=True)
    if failure.hint:
        click.echo(f"try: {plain(failure.hint)}", err=True)


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
