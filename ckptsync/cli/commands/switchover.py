"""ckptsync switchover"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

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
from ckptsync.config.model import Config
from ckptsync.errors import Cancelled, CkptsyncError, ConfigError, Refused
from ckptsync.failure import Failure
from ckptsync.model import Role
from ckptsync.operations.orders import Switchover
from ckptsync.operations.taking_back import take_back

if TYPE_CHECKING:
    from ckptsync.api.client import Client

_LOOK_EVERY: Final = 0.2  # seconds


@click.command("switchover")
@pipeline_argument
@click.option(
    "--to", metavar="NODE", help="The standby that takes over, where more than one is alive."
)
@click.option(
    "--timeout",
    callback=duration,
    default="60s",
    show_default=True,
    metavar="DURATION",
    help="How long that node has to take over; then this one goes on.",
)
@click.option("--reason", callback=checked_reason, metavar="TEXT", help="For the history.")
@engine_stopped_option
@click.option(
    "--cancel", is_flag=True, help="Take the pipeline back, while nobody has taken it over."
)
@yes_option
@json_option
@click.pass_obj
def command(
    invocation: Invocation,
    name: str | None,
    to: str | None,
    timeout: timedelta,
    reason: str | None,
    engine_stopped: bool,
    cancel: bool,
    yes: bool,
) -> Answer:
    """Give a pipeline to a standby, with nothing lost.

    To be run on the primary. The hook on_release stops the engine after a last checkpoint, which
    is pushed; then the standby activates itself, and this node becomes a standby. If that node
    does not take over in time, or with --cancel, this one goes on as the primary.
    """
    if cancel and to is not None:
        raise click.UsageError("--cancel goes without --to")
    config = invocation.config()
    name = config.choose(name)
    before = moving.survey(invocation, config, name, yes=yes or cancel)
    if cancel:
        return _cancelled(invocation, config, name, before)
    to = to or _only_standby(name, before)
    moving.agree(invocation, before, _what(config.daemon.node, name, to), yes=yes)
    order = Switchover(to=to, timeout=timeout, reason=reason, engine_stopped=engine_stopped)
    document = ask.carry_out(invocation, config, name, order)
    return moving.answer(before, moving.look(invocation, config, name), document, _lines)


def _only_standby(name: str, nodes: Nodes) -> str:
    """Raises Refused if none is alive; ConfigError if it cannot be told which is meant."""
    if isinstance(nodes, CkptsyncError):
        raise ConfigError(f"the nodes of '{name}' cannot be had: {nodes}", hint="say --to NODE")
    standbys = [
        each.node
        for each in nodes.nodes
        if each.fresh and each.role is Role.STANDBY and not each.this_node
    ]
    match standbys:
        case [only]:
            return only
        case []:
            raise Refused(
                f"no standby of '{name}' gives a sign of life in {nodes.store}",
                hint=f"'ckptsync topology {name}' shows the nodes",
            )
        case _:
            raise ConfigError(
                f"'{name}' has more than one standby: {', '.join(standbys)}", hint="say --to NODE"
            )


def _what(node: str, name: str, to: str) -> str:
    return (
        f"The engine of pipeline '{name}' stops after a last checkpoint, and node '{to}' takes "
        f"over from this one, '{node}'."
    )


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    name, node, checkpoint = document["pipeline"], document["node"], document["checkpoint"]
    last = "" if checkpoint is None else f"; the last checkpoint of this one is {checkpoint}"
    yield f"node '{node}' is the primary of {name} now, at epoch {document['epoch']}{last}"


def _cancelled(invocation: Invocation, config: Config, name: str, before: Nodes) -> Answer:
    def there(client: "Client") -> Role:
        client.cancel_switchover()
        # With a problem this node is the primary again, and its engine is still to be started.
        while (seen := client.snapshot()).switching is not None and seen.problem is None:
            if invocation.stop.wait(_LOOK_EVERY):
                raise Cancelled(
                    "the daemon goes on to take the pipeline back", hint=f"ckptsync status {name}"
                )
        return seen.role

    role = ask.either(
        invocation, config, name, "cancelling of the switchover", there=there, here=take_back
    )
    cancelled = role is Role.PRIMARY
    answer = moving.answer(
        before,
        moving.look(invocation, config, name),
        {"pipeline": name, "cancelled": cancelled, "role": str(role)},
        lambda _: [f"taken back: this node goes on as the primary of {name}"] if cancelled else [],
    )
    if cancelled:
        return answer
    late = Refused(
        f"it was too late: another node has taken '{name}' over, and this one is {role} now",
        hint=f"ckptsync topology {name}",
    )
    return replace(answer, verdict=Failure.of(late))
