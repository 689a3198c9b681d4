"""ckptsync config: check, example, import"""

from pathlib import Path

import click

from ckptsync.cli.answer import Answer
from ckptsync.cli.invocation import Invocation, json_option
from ckptsync.config.example import example as example_text
from ckptsync.config.feldera import import_feldera, read_feldera
from ckptsync.config.notes import notes
from ckptsync.errors import ConfigError


@click.group("config", no_args_is_help=False)
def command() -> None:
    """Check a configuration, print an example, or translate one."""


@command.command("check")
@json_option
@click.pass_obj
def check(invocation: Invocation) -> Answer:
    """Read the configuration, and say what it does not do.

    Every mistake in the file is reported at once, a secret that cannot be read among them.
    Nothing is connected to.
    """
    config = invocation.config(secrets=True)
    found = notes(config)
    names = sorted(config.pipelines)
    return Answer(
        document={"config": str(config.path), "pipelines": names, "notes": found},
        lines=lambda: [
            *(f"note: {note}" for note in found),
            f"{config.path} is valid; pipelines: {', '.join(names)}",
        ],
    )


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
