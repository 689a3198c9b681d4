"""ckptsync keep"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

from ckptsync.cli import ask
from ckptsync.cli.answer import Answer
from ckptsync.cli.invocation import Invocation, json_option, pipeline_argument
from ckptsync.cli.keeping import ahead, asker, keep_name, name_for
from ckptsync.cli.wording import described, moment
from ckptsync.operations.orders import Keep


@click.command("keep")
@click.argument("checkpoint", metavar="latest|ID")
@pipeline_argument
@click.option(
    "--name",
    "keep",
    envvar="CKPTSYNC_KEEP_NAME",  # click would make it of "keep": "name" is the pipeline's
    callback=keep_name,
    metavar="NAME",
    help="What 'ckptsync unkeep' is told; if not given, ID as it is written here, or the id of "
    "the latest.",
)
@click.option(
    "--until",
    callback=ahead,
    metavar="WHEN",
    help="A date (2027-01-31, to its end), a time (2027-01-31T18:00+01:00), both in UTC unless "
    "they say otherwise, or how long from now (30d); without it, until 'ckptsync unkeep'.",
)
@json_option
@click.pass_obj
def command(
    invocation: Invocation,
    checkpoint: str,
    name: str | None,
    keep: str | None,
    until: datetime | None,
) -> Answer:
    """Keep a checkpoint from being pruned.

    ID is the checkpoint's or the engine's. One that is retired already comes back to life. A
    checkpoint may have several names, and is kept as long as one of them holds.
    """
    config = invocation.config()
    order = Keep(
        checkpoint=checkpoint,
        name=keep or name_for(checkpoint),
        until=until,
        by=asker(config.daemon.node),
    )
    document = ask.carry_out(invocation, config, config.choose(name), order)
    return Answer(document=document, lines=lambda: [_line(document)])


def _line(document: Mapping[str, Any]) -> str:
    kept = "already kept" if document["already"] else "kept"
    end = document["until"]
    until = "" if end is None else f" until {moment(datetime.fromisoformat(end))}"
    revived = "; it was retired, and is live again" if document["revived"] else ""
    return (
        f"{kept} {described(document['checkpoint'])} as '{document['name']}'{until} "
        f"in {document['bucket']}{revived}"
    )
