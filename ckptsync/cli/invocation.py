"""What every command is given, and the parameters that several of them share."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

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


def _remember_json(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    context.ensure_object(Invocation).json = value
