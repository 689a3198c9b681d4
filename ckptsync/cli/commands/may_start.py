"""ckptsync may-start"""

from collections.abc import Mapping
from typing import Any

import click

from ckptsync.cli import wiring
from ckptsync.cli.answer import Answer
from ckptsync.cli.invocation import Invocation, json_option, pipeline_argument
from ckptsync.operations.may_start import Permission, may_start

"""With HASTY below the 90 s that systemd gives a unit to start, whatever is configured."""


@click.command("may-start")
@pipeline_argument
@click.option(
    "--fresh",
    is_flag=True,
    help="Let it start from nothing, although there was a checkpoint.",
)
@json_option
@click.pass_obj
def command(invocation: Invocation, name: str | None, fresh: bool) -> Answer:
    """Tell a pipeline's unit whether its engine may start on this host.

    For ExecCondition= of that unit. The exit code is 0 if this node is the primary, says the
    bucket, or was when the bucket last answered (unless activation.start_unverified is false);
    11 if another node took over, or an operator has to judge; 13 on a standby, before an
    activation is through, while a switchover stops the engine, beside a copy of this node, or
    where the engine would start from nothing although there is a checkpoint; 16 if the bucket does
    not answer and this node was not the primary. A bucket whose head is lost is 12. Nothing is
    written. After a boot it may wait for half a minute, to tell this node from a copy of it.
    """
    config = invocation.config()
    name = config.choose(name)
    with wiring.wire(config, name, invocation.stop, backoff=wiring.HASTY, create=False) as pipeline:
        permission = may_start(pipeline, fresh=fresh)
        node = pipeline.node.name
    return Answer(
        document={"pipeline": name, "node": node, **_document(permission)},
        lines=lambda: [f"{name} may start on {node}: {permission.reason}"],
    )


def _document(permission: Permission) -> Mapping[str, Any]:
    return {
        "role": permission.role,
        "reason": permission.reason,
        "verified": permission.verified,
    }
