"""ckptsync activate"""

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

import click

from ckptsync.cli import ask, moving
from ckptsync.cli.answer import Answer
from ckptsync.cli.invocation import (
    Invocation,
    duration,
    engine_stopped_option,
    json_option,
    pipeline_argument,
    yes_option,
)
from ckptsync.cli.invocation import reason as checked_reason
from ckptsync.cli.moving import Nodes
from ckptsync.cli.wording import left_behind
from ckptsync.errors import TimedOut
from ckptsync.model import Role
from ckptsync.operations.orders import Activate

_REQUEST: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_NOT_YET: Final = (
    "bucket", "role", "already", "epoch", "timeline", "checkpoint", "left_behind", "seconds",
)  # fmt: skip
"""What is not known while a daemon goes on."""


def _request(_context: click.Context, _parameter: click.Parameter, given: str | None) -> str:
    if given is None:
        return str(uuid4())
    if not _REQUEST.fullmatch(given):
        raise click.BadParameter("it has 1 to 128 letters, digits and . _ : -")
    return given


@click.command("activate")
@pipeline_argument
@click.option(
    "--reason", callback=checked_reason, metavar="TEXT", help="For the history, and for the hooks."
)
@click.option(
    "--force",
    is_flag=True,
    help="Although the primary seems alive; and, if activation.on_pull_failure is 'local', "
    "although the bucket does not answer.",
)
@click.option(
    "--detach-replica",
    is_flag=True,
    help="Although the store marks the bucket as a replica: the replication has ended.",
)
@engine_stopped_option
@click.option(
    "--request",
    metavar="ID",
    callback=_request,
    help="Of your choice, or one that was printed: the same one never activates twice.",
)
@click.option(
    "--wait/--no-wait",
    default=True,
    show_default=True,
    help="Whether to wait until the daemon has done it.",
)
@click.option(
    "--timeout", callback=duration, metavar="DURATION", help="How long to wait, as in 10m."
)
@yes_option
@json_option
@click.pass_obj
def command(
    invocation: Invocation,
    name: str | None,
    reason: str | None,
    force: bool,
    detach_replica: bool,
    engine_stopped: bool,
    request: str,
    wait: bool,
    timeout: timedelta | None,
    yes: bool,
) -> Answer:
    """Make this node the primary of a pipeline.

    First it takes the bucket, so that no other node can push any more; then it pulls the latest
    checkpoint, and the hook on_activate starts the engine. That is refused while the present
    primary is alive and has not given the pipeline away. What was interrupted goes on when it is
    asked for again. A script says --yes.
    """
    config = invocation.config()
    name = config.choose(name)
    order = Activate(
        request=request,
        reason=reason,
        force=force,
        detach_replica=detach_replica,
        engine_stopped=engine_stopped,
    )
    before = moving.survey(invocation, config, name, yes=yes)
    moving.agree(invocation, before, _what(config.daemon.node, name, before), yes=yes)
    if not wait and ask.hand_in(config, name, order):
        return _begun(name, request, before)
    try:
        document = ask.carry_out(invocation, config, name, order, timeout=timeout)
    except TimedOut as error:
        raise TimedOut(str(error), hint=_again(name, request)) from error
    return moving.answer(
        before,
        moving.look(invocation, config, name),
        document,
        _lines,
        notes=() if wait else ("no daemon has the pipeline, so this command did it, and waited",),
    )


def _again(name: str, request: str) -> str:
    return f"ckptsync activate {name} --request {request}"


def _what(node: str, name: str, before: Nodes) -> str:
    displaced = moving.other_writer(before)
    loses = "" if displaced is None else f"; node '{displaced}' can push nothing any more"
    return f"This node, '{node}', takes pipeline '{name}' over as its primary{loses}."


def _begun(name: str, request: str, before: Nodes) -> Answer:
    document = {"pipeline": name, "request": request, **dict.fromkeys(_NOT_YET)}
    return moving.answer(
        before,
        None,
        document,
        lambda _: [request],
        notes=[f"the daemon goes on with it; to wait for its end: {_again(name, request)}"],
    )


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    name, epoch, checkpoint = document["pipeline"], document["epoch"], document["checkpoint"]
    going_on = f"it goes on from {checkpoint or 'nothing that its bucket knows'}"
    if document["role"] == Role.UNFENCED:
        yield (
            f"{name} runs here, though no other node could be fenced: {going_on}, and nothing is "
            f"pushed until {document['bucket']} answers"
        )
    elif document["already"]:
        yield f"already the primary of {name}, at epoch {epoch}"
    else:
        yield (
            f"now the primary of {name}, at epoch {epoch} on timeline {document['timeline']}: "
            f"{going_on}, after {document['seconds']:.1f} s"
        )
    if (loss := left_behind(document)) is not None:
        yield loss
