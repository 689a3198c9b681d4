"""ckptsync config: check, example, import"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ckptsync.cli.answer import Answer
from ckptsync.cli.invocation import Invocation, json_option
from ckptsync.config.example import example as example_text
from ckptsync.config.feldera import import_feldera, read_feldera
from ckptsync.config.notes import notes
from ckptsync.errors import ConfigError
from ckptsync.units import parse_size

if TYPE_CHECKING:
    from ckptsync.config.forecast import Sizes


@click.group("config", no_args_is_help=False)
def command() -> None:
    """Check a configuration, print an example, or translate one."""


def _size(_context: click.Context, _parameter: click.Parameter, given: str | None) -> int | None:
    if given is None:
        return None
    try:
        return parse_size(given)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@command.command("check")
@click.option(
    "--checkpoint-size",
    metavar="SIZE",
    callback=_size,
    help="Of a whole checkpoint, such as 100GiB, where the last pushes do not tell.",
)
@click.option(
    "--new-size",
    metavar="SIZE",
    callback=_size,
    help="What of it is new from one push to the next; 5% if not told.",
)
@click.option(
    "--standbys",
    type=click.IntRange(0, 1_000),
    default=1,
    show_default=True,
    help="How many follow each bucket.",
)
@json_option
@click.pass_obj
def check(
    invocation: Invocation, checkpoint_size: int | None, new_size: int | None, standbys: int
) -> Answer:
    """Read the configuration, and say what it does not do.

    Every mistake in the file is reported at once, a secret that cannot be read among them. What
    each bucket will hold in the long run is foretold, and what that costs. Nothing is connected to.
    """
    from ckptsync.cli import forecasting
    from ckptsync.cli.sizes import remembered

    given = _sizes(checkpoint_size, new_size)
    config = invocation.config(secrets=True)
    found = notes(config)
    names = sorted(config.pipelines)
    states = []
    for name in names:
        seen = None if given is not None else remembered(config, name)
        basis = forecasting.basis(given, seen, standbys=standbys)
        states.append(forecasting.steady_state(name, config.pipelines[name], basis))
    return Answer(
        document={
            "config": str(config.path),
            "pipelines": names,
            "notes": found,
            "steady_state": [forecasting.document(state) for state in states],
        },
        lines=lambda: [
            *(f"note: {note}" for note in found),
            *(line for state in states for line in forecasting.lines(state)),
            f"{config.path} is valid; pipelines: {', '.join(names)}",
        ],
    )


def _sizes(whole: int | None, new: int | None) -> "Sizes | None":
    from ckptsync.cli.forecasting import partly
    from ckptsync.config.forecast import Sizes

    if whole is None:
        if new is not None:
            raise click.UsageError("--new-size goes with --checkpoint-size")
        return None
    if new is None:
        return partly(whole)
    if new > whole:
        raise click.UsageError("--new-size is at most --checkpoint-size")
    return Sizes(whole=whole, new=new)


@command.command("example")
@json_option
def example() -> Answer:
    """Print a configuration to start from."""
    return Answer(document={"toml": example_text()}, lines=lambda: _toml_lines(example_text()))


@command.command("import")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--name", help="Of the pipeline, where the file does not say.")
@click.option(
    "--storage-path",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the engine keeps its storage, where the file does not say.",
)
@click.option("--bucket", metavar="URL", help="s3://BUCKET/PREFIX, where the file does not say.")
@json_option
def import_(file: Path, name: str | None, storage_path: Path | None, bucket: str | None) -> Answer:
    """Translate a Feldera configuration into ours.

    FILE is the JSON of a runtime configuration or of a pipeline, or - for standard input. TOML
    goes to stdout; what has no counterpart here, and why, to stderr. No secret is copied.
    """
    imported = import_feldera(
        read_feldera(_read(file), str(file)), name=name, storage_path=storage_path, bucket=bucket
    )
    return Answer(
        document={
            "toml": imported.toml,
            "ignored": [{"setting": setting, "reason": why} for setting, why in imported.ignored],
            "warnings": list(imported.warnings),
        },
        lines=lambda: _toml_lines(imported.toml),
        asides=[
            *(f"warning: {warning}" for warning in imported.warnings),
            *(f"ignored: {setting} {why}" for setting, why in imported.ignored),
        ],
    )


def _toml_lines(text: str) -> list[str]:
    return text.rstrip("\n").split("\n")


def _read(file: Path) -> str:
    try:
        with click.open_file(str(file), encoding="utf-8") as opened:
            text: str = opened.read()
            return text
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 text: byte {error.start} is wrong") from error
