"""ckptsync unkeep"""

from collections.abc import Mapping
from typing import Any

import click

from ckptsync.cli import ask
from ckptsync.cli.answer import Answer
from ckptsync.cli.invocation import Invocation, json_option, pipeline_argument
from ckptsync.cli.keeping import keep_name
from ckptsync.operations.orders import Unkeep


@click.command("unkeep")
@click.argument("keep", callback=keep_name, metavar="NAME")
@pipeline_argument
@json_option
@click.pass_obj
def command(invocation: Invocation, keep: str, name: str | None) -> Answer:
    """Take a name away that keeps a checkpoint.

    Nothing is deleted by that; the next prune judges the checkpoint as any other. A name that is
    not there is no error.
    """
    config = invocation.config()
    document = ask.carry_out(invocation, config, config.choose(name), Unkeep(name=keep))
    return Answer(document=document, lines=lambda: [_line(document)])


def _line(document: Mapping[str, Any]) -> str:
    where, name = document["bucket"], document["name"]
    if document["already"]:
        return f"there is no keep '{name}' in {where}"
    return f"'{name}' no longer keeps checkpoint {document['checkpoint']} in {where}"
