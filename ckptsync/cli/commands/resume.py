"""ckptsync resume"""

import click

from ckptsync.cli import pausing
from ckptsync.cli.answer import Answer
from ckptsync.cli.invocation import Invocation, json_option, pipeline_argument


@click.command("resume")
@pipeline_argument
@json_option
@click.pass_obj
def command(invocation: Invocation, name: str | None) -> Answer:
    """End a pause: let the daemon push or pull by itself again."""
    return pausing.set_paused(invocation, name, paused=False)
