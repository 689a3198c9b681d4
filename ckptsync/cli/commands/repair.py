"""ckptsync repair: accept-rollback, rebuild-head"""

from collections.abc import Iterator, Mapping
from typing import Any

import click

from ckptsync.cli import moving
from ckptsync.cli.answer import Answer
from ckptsync.cli.invocation import Invocation, json_option, pipeline_argument, yes_option
from ckptsync.cli.wording import counted
from ckptsync.operations.orders import AcceptRollback, RebuildHead


@click.group("repair", no_args_is_help=False)
def command() -> None:
    """Mend a bucket whose head was lost, or went back in time."""


@command.command("accept-rollback")
@pipeline_argument
@click.option("--force", is_flag=True, help="Although another node may be at work in the bucket.")
@yes_option
@json_option
@click.pass_obj
def accept_rollback(invocation: Invocation, name: str | None, force: bool, yes: bool) -> Answer:
    """Go on from a bucket that was restored from an older copy.

    What was pushed after that copy was made is given up. A primary takes the bucket anew, so that
    every other node believes it again; what lies in its storage is left alone, and the next push
    stores it on a timeline of its own. A standby just forgets what it had seen.
    """
    config = invocation.config()
    name = config.choose(name)
    return moving.move(
        invocation,
        config,
        name,
        AcceptRollback(force=force),
        what=f"What the bucket of pipeline '{name}' lost when it went back in time is given up; "
        "what it holds now is the truth.",
        lines=_accepted,
        yes=yes,
        typed=name,
    )


@command.command("rebuild-head")
@pipeline_argument
@click.option(
    "--force",
    is_flag=True,
    help="In place of a damaged head, too; although another node may be at work in the bucket; "
    "or although no checkpoint is left to be named.",
)
@yes_option
@json_option
@click.pass_obj
def rebuild_head(invocation: Invocation, name: str | None, force: bool, yes: bool) -> Answer:
    """Make a head anew, from the manifests in the bucket.

    It names every checkpoint that is whole, and this node as the writer. What was kept by name,
    and which checkpoints were retired or found bad, only the lost head knew. Nothing is deleted.
    """
    config = invocation.config()
    name = config.choose(name)
    return moving.move(
        invocation,
        config,
        name,
        RebuildHead(force=force),
        what=f"A new head.json is made for pipeline '{name}' from the manifests in its bucket, and "
        f"names this node, '{config.daemon.node}', as its writer.",
        lines=_rebuilt,
        yes=yes,
        typed=name,
    )


def _accepted(document: Mapping[str, Any]) -> Iterator[str]:
    where, latest = document["bucket"], document["latest"] or "no checkpoint"
    if document["already"]:
        yield f"{where} was accepted before; its latest is {latest}"
    elif document["taken"]:
        yield f"{where} is taken anew, at epoch {document['epoch']}; its latest is {latest}"
    else:
        yield f"{where} is believed again, at epoch {document['epoch']}; its latest is {latest}"
    for checkpoint in document["gone"]:
        yield f"gone: {checkpoint}"


def _rebuilt(document: Mapping[str, Any]) -> Iterator[str]:
    where, latest = document["bucket"], document["latest"] or "no checkpoint"
    named = counted(document["checkpoints"], "checkpoint")
    how = "was rebuilt before" if document["already"] else "is rebuilt"
    yield f"the head of {where} {how}: {named}, epoch {document['epoch']}, the latest {latest}"
    for each in document["left_out"]:
        yield f"left out: {each['key']} {each['reason']}"
