"""ckptsync push"""

from collections.abc import Mapping
from typing import Any

import click

from ckptsync.cli import ask
from ckptsync.cli.answer import Answer
from ckptsync.cli.invocation import Invocation, json_option, pipeline_argument
from ckptsync.cli.wording import counted, described
from ckptsync.errors import NothingToDo
from ckptsync.failure import Failure
from ckptsync.operations.orders import Push
from ckptsync.operations.resolve import LATEST
from ckptsync.units import format_size


@click.command("push")
@pipeline_argument
@click.option(
    "--checkpoint",
    metavar="ENGINE_ID",
    default=LATEST,
    show_default=True,
    help="The engine's own id of the checkpoint to push.",
)
@click.option(
    "--new-timeline",
    is_flag=True,
    help="Push it although the bucket's latest is newer, or of another life of the engine.",
)
@click.option("--error-if-none", is_flag=True, help="Exit with 4 if it was synced already.")
@json_option
@click.pass_obj
def command(
    invocation: Invocation,
    name: str | None,
    checkpoint: str,
    new_timeline: bool,
    error_if_none: bool,
) -> Answer:
    """Push the newest complete checkpoint to the bucket.

    Only what the bucket does not have is uploaded. A push that was interrupted leaves the
    bucket's checkpoints as they were; running it again goes on where it stopped.
    """
    config = invocation.config()
    order = Push(engine_id=None if checkpoint == LATEST else checkpoint, new_timeline=new_timeline)
    document = ask.carry_out(invocation, config, config.choose(name), order)
    return Answer(
        document=document,
        lines=lambda: [_line(document)],
        verdict=Failure.of(
            NothingToDo(f"the checkpoint was already synced to {document['bucket']}")
        )
        if document["already_synced"] and error_if_none
        else None,
    )


def _line(document: Mapping[str, Any]) -> str:
    checkpoint, where = document["checkpoint"], document["bucket"]
    if document["already_synced"]:
        return f"already synced: {described(checkpoint)} is in {where}"
    return (
        f"pushed {described(checkpoint)} to {where}: "
        f"{format_size(checkpoint['bytes'])} in {counted(document['files'], 'file')}, "
        f"{format_size(checkpoint['new_bytes'])} new, in {document['seconds']:.1f} s"
    )
