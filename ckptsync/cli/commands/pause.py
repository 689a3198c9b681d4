"""ckptsync pause"""

import click

from ckptsync.cli import pausing
from ckptsync.cli.answer import Answer
from ckptsync.cli.invocation import Invocation, json_option, pipeline_argument


@click.command("pause")
@pipeline_argument
@json_option
@click.pass_obj
def command(invocation: Invocation, name: str | None) -> Answer:
    """Let the daemon push and pull nothing by itself.

    Until 'ckptsync resume', also across restarts. What is under way is finished, and what is
    asked for is done, an activation too; a paused primary still notices that it was displaced.
    """
    return pausing.set_paused(invocation, name, paused=True)
