"""The command line as a whole: its help, and what is loaded to show it."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from ckptsync.cli.application import COMMANDS, application
from ckptsync.config.load import DEFAULT_PATH


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_listed_with_the_first_line_of_its_help(name: str) -> None:
    command = application.get_command(click.Context(application), name)

    assert command is not None
    assert command.name == name
    assert command.help is not None
    assert command.help.splitlines()[0] == COMMANDS[name]


def test_help_names_every_command_and_the_default_configuration() -> None:
    shown = CliRunner().invoke(application, ["--help"]).output

    assert all(f"  {name} " in shown for name in COMMANDS)
    assert f"{DEFAULT_PATH} if not told" in " ".join(shown.split())


def test_every_reading_command_and_every_writing_one_speaks_json() -> None:
    pending: list[click.Command] = [application]
    silent = []
    while pending:
        command = pending.pop()
        if isinstance(command, click.Group):
            context = click.Context(command)
            names = command.list_commands(context)
            pending += [each for name in names if (each := command.get_command(context, name))]
        elif "--json" not in [option for each in command.params for option in each.opts]:
            silent.append(command.name)
    assert silent == []


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (("--help",), ("boto3", "rich", "pydantic", "structlog", "sqlite3", "asyncio")),
        (("--version",), ("boto3", "rich", "pydantic", "structlog", "sqlite3", "asyncio")),
        (("config", "example"), ("boto3", "botocore", "awscrt", "sqlite3")),
        (("config", "check"), ("boto3", "botocore", "awscrt")),
        (("-c", "/nonesuch", "list"), ("boto3", "botocore", "awscrt")),
    ],
)
def test_no_library_is_loaded_that_a_command_does_not_need(
    arguments: tuple[str, ...], unwanted: tuple[str, ...]
) -> None:
    code = (
        "import sys, threading; from ckptsync.cli.main import run;"
        f"run({list(arguments)!r}, threading.Event());"
        f"print('loaded:', sorted(set({unwanted!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "loaded: []"


@pytest.mark.parametrize(
    ("given", "meant"),
    [("forget", "prune"), ("gc", "prune"), ("delete", "prune"), ("pussh", "push")],
)
def test_a_command_that_is_not_there_is_told_what_may_be_meant(given: str, meant: str) -> None:
    shown = CliRunner().invoke(application, [given])

    assert shown.exit_code == 2
    assert f"there is no command '{given}'; did you mean '{meant}'?" in shown.output


def test_a_pipeline_argument_comes_last_and_may_be_left_out() -> None:
    context = click.Context(application)
    for name in COMMANDS:
        command = application.get_command(context, name)
        assert command is not None
        arguments = [each for each in command.params if isinstance(each, click.Argument)]
        if arguments:
            assert arguments[-1].name in ("name", "names")
            assert not arguments[-1].required
