"""How the command line takes the names that protect checkpoints, and how long they do."""

import getpass
import os
from datetime import UTC, date, datetime, time
from typing import Final

import click

from ckptsync.moments import utc
from ckptsync.operations.resolve import LATEST
from ckptsync.repository.keeps import NAME_PATTERN
from ckptsync.units import parse_duration

_LONGEST: Final = 128
"""Of who asked: it lies in head, which every push writes anew."""


def keep_name(
    _context: click.Context, _parameter: click.Parameter, given: str | None
) -> str | None:
    """The callback of an option or argument that takes such a name."""
    if given is not None and not NAME_PATTERN.fullmatch(given):
        raise click.BadParameter(
            f"{given!r} is no name: it has to be of 1 to 64 letters, digits, '.', '_' and '-', "
            "and begin with a letter or a digit"
        )
    return given


def name_for(checkpoint: str) -> str | None:
    """What keeps a checkpoint for which no name is given: the id by which it was asked for, so that
    'ckptsync unkeep' knows it by that too. None where that cannot be a name.
    """
    fits = checkpoint != LATEST and NAME_PATTERN.fullmatch(checkpoint) is not None
    return checkpoint if fits else None


def ahead(
    _context: click.Context, _parameter: click.Parameter, given: str | None
) -> datetime | None:
    """The callback of an option that takes a moment to come."""
    if given is None:
        return None
    try:
        return moment_ahead(given, now=datetime.now(UTC))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def moment_ahead(text: str, *, now: datetime) -> datetime:
    """A moment in UTC: the end of a day, a date with a time, or a duration from now, in seconds.

    Raises ValueError with a sentence, also if it has passed.
    """
    moment = _day(text) or _moment(text) or _after(text, now)
    if moment <= now:
        raise ValueError(f"{text!r} has passed")
    return moment


def asker(node: str) -> str:
    """Who calls, as far as this host knows, for people to read in the bucket."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container may run as a user without a name
        user = str(os.getuid())
    readable = user.encode(errors="replace").decode()
    return f"{readable}@{node}"[:_LONGEST]


def _day(text: str) -> datetime | None:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return datetime.combine(day, time(23, 59, 59), UTC)


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return utc(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _after(text: str, now: datetime) -> datetime:
    try:
        duration = parse_duration(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is no moment: write a date (2027-01-31, to its end), a time "
            "(2027-01-31T18:00+01:00) or how long from now (30d)"
        ) from None
    try:
        moment = now + duration
    except OverflowError:
        raise ValueError(f"{text!r} is too far ahead") from None
    return moment if not moment.microsecond else moment.replace(microsecond=0)
