"""ckptsync topology"""

import click

from ckptsync.cli import topology as shown
from ckptsync.cli import wiring
from ckptsync.cli.answer import Answer
from ckptsync.cli.invocation import Invocation, json_option, pipeline_argument
from ckptsync.operations.topology import topology


@click.command("topology")
@pipeline_argument
@json_option
@click.pass_obj
def command(invocation: Invocation, name: str | None) -> Answer:
    """Show the nodes of a pipeline: their roles, and how far behind they are.

    What each said of itself in the bucket, at most some seconds old where its daemon runs, and
    which of them the bucket names as its writer. LAG is the time between the commit of what a
    node could go on from and the commit of the latest. A silent node has not been heard of for
    30 s.
    """
    config = invocation.config()
    name = config.choose(name)
    with wiring.wire(config, name, invocation.stop, backoff=wiring.HASTY, reading=True) as pipeline:
        found = topology(pipeline)
    return Answer(document=shown.document(found), lines=lambda: shown.lines(found))
