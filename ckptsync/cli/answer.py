"""What a command has to say: one value for machines and one for people, and how it ended."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from ckptsync.errors import CkptsyncError
from ckptsync.escaping import escaped, escaped_lines
from ckptsync.failure import Failure


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
        lines = list(map(escaped, answer.lines()))
        if lines:
            _write("\n".join(lines))
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


def complaint(failure: Failure) -> Iterator[str]:
    """A failure as people read it, escaped."""
    shown = escaped_lines if failure.problems else escaped
    yield f"error: {shown(failure.message)}"
    if failure.hint:
        yield f"try: {escaped(failure.hint)}"


def _complain(failure: Failure) -> None:
    for line in complaint(failure):
        click.echo(line, err=True)


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
