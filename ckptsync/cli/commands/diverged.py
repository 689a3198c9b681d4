"""ckptsync diverged"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import click

from ckptsync.cli import moving
from ckptsync.cli.answer import Answer
from ckptsync.cli.invocation import (
    Invocation,
    engine_stopped_option,
    json_option,
    pipeline_argument,
    yes_option,
)
from ckptsync.cli.wording import left_behind, set_aside
from ckptsync.operations.orders import SettleDivergence


@click.command("diverged")
@pipeline_argument
@click.option(
    "--keep",
    type=click.Choice(["local", "bucket"]),
    required=True,
    help="Whose state the pipeline goes on from: that of this host, or what the bucket has.",
)
@engine_stopped_option
@yes_option
@json_option
@click.pass_obj
def command(
    invocation: Invocation,
    name: str | None,
    keep: Literal["local", "bucket"],
    engine_stopped: bool,
    yes: bool,
) -> Answer:
    """Settle which state counts after this node ran without the bucket.

    It was activated by force while the bucket did not answer, and the bucket went on without it.
    To keep the local state takes the bucket over, with the engine running on; commits that others
    made meanwhile stay in the bucket, and are not gone on from. To keep the bucket's runs the
    hook on_fenced, moves the local state to 'quarantine' in the work directory, and makes this
    node a standby.
    """
    config = invocation.config()
    name = config.choose(name)
    return moving.move(
        invocation,
        config,
        name,
        SettleDivergence(keep=keep, engine_stopped=engine_stopped),
        what=_what(config.daemon.node, name, keep),
        lines=_lines,
        yes=yes,
        typed=name,
    )


def _what(node: str, name: str, keep: str) -> str:
    if keep == "bucket":
        return (
            f"The engine of pipeline '{name}' is stopped here, what it has done is moved to "
            f"quarantine, and this node, '{node}', becomes a standby."
        )
    return (
        f"Pipeline '{name}' goes on from what runs on this node, '{node}', and what others have "
        "committed meanwhile is left behind."
    )


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    name = document["pipeline"]
    if document["kept"] == "bucket":
        yield f"now a standby of {name}; {set_aside(document)}"
        return
    yield f"now the primary of {name}, at epoch {document['epoch']}: it goes on from what runs here"
    if (loss := left_behind(document)) is not None:
        yield loss
