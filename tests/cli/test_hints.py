"""What messages advise to type can be typed."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import pytest

import ckptsync
from ckptsync.cli.application import COMMANDS, application

_PACKAGE: Final = Path(ckptsync.__file__).parent
_PROSE: Final = {"itself", "is", "wrote", "knows", "as", "on", "line"}
"""What follows the program's name where a sentence goes on."""
_LATER: Final = {"release", "drill"}
"""Commands that this version does not have."""


def _texts() -> Iterator[str]:
    """Every string of the program that an operator may read."""
    for path in sorted(_PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        documented = {
            node.body[0].value
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and node not in documented:
                yield text


def _options() -> Iterator[str]:
    pending: list[click.Command] = [application]
    while pending:
        command = pending.pop()
        for each in command.params:
            yield from (*each.opts, *each.secondary_opts)
        if isinstance(command, click.Group):
            context = click.Context(command)
            found = (command.get_command(context, name) for name in command.list_commands(context))
            pending += [each for each in found if each is not None]


def test_no_message_names_a_command_that_is_not_there() -> None:
    named = {word for text in _texts() for word in re.findall(r"\bckptsync ([a-z]+)\b", text)}

    assert named & set(COMMANDS)
    assert named - set(COMMANDS) - _PROSE == set()


def test_no_message_names_an_option_that_is_not_there() -> None:
    named = {
        option
        for text in _texts()
        if "rclone" not in text and not text.startswith("--s3-")
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)
    }

    assert "--checkpoint" in named
    assert named - {*_options(), "--help", "--version"} == set()


@pytest.mark.parametrize("command", sorted(_LATER - set(COMMANDS)))
def test_no_message_sends_to_what_a_later_version_may_have(command: str) -> None:
    assert [text for text in _texts() if re.search(rf"(ckptsync |'){command}\b", text)] == []
