"""ckptsync rejoin"""

from collections.abc import Iterator, Mapping
from typing import Any

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
from ckptsync.cli.wording import set_aside
from ckptsync.operations.orders import Rejoin


@click.command("rejoin")
@pipeline_argument
@engine_stopped_option
@yes_option
@json_option
@click.pass_obj
def command(invocation: Invocation, name: str | None, engine_stopped: bool, yes: bool) -> Answer:
    """Make a node that was displaced a standby.

    What its storage holds is moved to 'quarantine' in the work directory: nothing is deleted.
    Then the daemon keeps the bucket's latest checkpoint warm here. The engine has to be stopped.
    """
    config = invocation.config()
    name = config.choose(name)
    return moving.move(
        invocation,
        config,
        name,
        Rejoin(engine_stopped=engine_stopped),
        what=f"What the storage of pipeline '{name}' holds here is moved to quarantine, and this "
        f"node, '{config.daemon.node}', becomes a standby.",
        lines=_lines,
        yes=yes,
    )


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    name = document["pipeline"]
    if document["already"]:
        yield f"already a standby of {name}"
    else:
        yield f"now a standby of {name}; {set_aside(document)}"
