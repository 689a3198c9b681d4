"""What every command is given, and the parameters that several of them share."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ckptsync.operations.orders import LONGEST_REASON
from ckptsync.units import parse_duration

if TYPE_CHECKING:
    from ckptsync.config.model import Config

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True, kw_only=True)
class Invocation:
    """One call of the program. It is filled in while the command line is read."""

    stop: threading.Event
    """Set once the process was asked to end."""
    config_path: Path | None = None
    json: bool = False
    log_level: str | None = None
    """None: what suits the command."""
    json_logs: bool = False

    def config(self, *, secrets: bool = False) -> "Config":
        """With `secrets` their files must be readable. Raises ConfigError, PermissionRefused."""
        from ckptsync.cli.offered import checks
        from ckptsync.config import load

        return load.load(self.config_path or load.DEFAULT_PATH, checks(secrets=secrets))


def pipeline_argument(command: F) -> F:
    return click.argument("name", metavar="[PIPELINE]", required=False)(command)


def json_option(command: F) -> F:
    return click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_remember_json,
        help="Print one JSON document in place of text.",
    )(command)


def engine_stopped_option(command: F) -> F:
    return click.option(
        "--engine-stopped",
        is_flag=True,
        help="Your word that no engine runs there, where the layout cannot tell.",
    )(command)


def yes_option(command: F) -> F:
    return click.option("--yes", is_flag=True, help="Ask nothing.")(command)


def duration(
    _context: click.Context, _parameter: click.Parameter, given: str | None
) -> timedelta | None:
    """The callback of an option that takes one, written as in the configuration."""
    if given is None:
        return None
    try:
        parsed = parse_duration(given)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if not parsed:
        raise click.BadParameter("it has to be longer than nothing")
    return parsed


def _remember_json(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    context.ensure_object(Invocation).json = value


def reason(_context: click.Context, _parameter: click.Parameter, given: str | None) -> str | None:
    """The callback of an option that takes a text for the history."""
    if given is not None and len(given) > LONGEST_REASON:
        raise click.BadParameter(f"it has to be at most {LONGEST_REASON} characters long")
    return given
