"""ckptsync pull"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ckptsync.cli import ask, wiring
from ckptsync.cli.answer import Answer
from ckptsync.cli.invocation import (
    Invocation,
    engine_stopped_option,
    json_option,
    pipeline_argument,
)
from ckptsync.cli.progress import bar
from ckptsync.cli.wording import described
from ckptsync.config.model import Config
from ckptsync.errors import NothingToDo
from ckptsync.failure import Failure
from ckptsync.operations import outcomes
from ckptsync.operations.orders import Pull
from ckptsync.operations.pull import Wish, pull
from ckptsync.operations.recorded import recorded
from ckptsync.operations.resolve import LATEST
from ckptsync.units import format_size


@click.command("pull")
@pipeline_argument
@click.option(
    "--checkpoint",
    metavar="latest|ID",
    help="The one to pull, by its id or the engine's; a local checkpoint does not do then.",
)
@click.option(
    "--to",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Pull into a new directory, not into the pipeline's storage.",
)
@click.option("--force", is_flag=True, help="Put aside a local checkpoint that was never pushed.")
@engine_stopped_option
@click.option("--error-if-none", is_flag=True, help="Exit with 4 if there is no checkpoint.")
@json_option
@click.pass_obj
def command(
    invocation: Invocation,
    name: str | None,
    checkpoint: str | None,
    to: Path | None,
    force: bool,
    engine_stopped: bool,
    error_if_none: bool,
) -> Answer:
    """Pull a checkpoint from the bucket.

    It is verified, then appears whole or not at all. A local checkpoint is kept unless one is
    asked for with --checkpoint, or --to says where else to put it.
    """
    config = invocation.config()
    name = config.choose(name)
    if to is None:
        order = Pull(checkpoint=checkpoint, force=force, engine_stopped=engine_stopped)
        document = ask.carry_out(invocation, config, name, order)
    else:
        document = _elsewhere(invocation, config, name, checkpoint, to)
    return Answer(
        document=document,
        lines=lambda: [_line(document)],
        verdict=Failure.of(NothingToDo("there is no checkpoint to pull"))
        if document["outcome"] == "fresh" and error_if_none
        else None,
    )


def _elsewhere(
    invocation: Invocation, config: Config, name: str, checkpoint: str | None, to: Path
) -> Mapping[str, Any]:
    """Nobody else is concerned, so it needs neither the pipeline's lock nor its daemon."""
    with (
        wiring.wire(config, name, invocation.stop, reading=True) as pipeline,
        recorded(pipeline, "pull") as record,
        bar(f"pull {name}") as progress,
    ):
        wish = Wish(
            checkpoint=checkpoint or pipeline.standby.start_from or LATEST,
            explicit=True,
            to=to,
            required=pipeline.standby.required,
        )
        document = outcomes.pulled(pipeline, pull(pipeline, wish, progress=progress))
        record(document)
    return document


def _line(document: Mapping[str, Any]) -> str:
    checkpoint = document["checkpoint"]
    match document["outcome"]:
        case "pulled":
            return (
                f"pulled {described(checkpoint)} from {document['source']} to "
                f"{document['target']}: {format_size(checkpoint['bytes'])}, "
                f"{format_size(document['fetched_bytes'])} fetched, "
                f"in {document['seconds']:.1f} s"
            )
        case "kept":
            return (
                f"kept local checkpoint {checkpoint['engine_id']} (step {checkpoint['step']}); "
                "to have the bucket's in its place: "
                f"ckptsync pull {document['pipeline']} --checkpoint latest"
            )
        case _:
            searched = " or ".join(document["searched"])
            return f"no checkpoint found in {searched}; nothing was changed"
