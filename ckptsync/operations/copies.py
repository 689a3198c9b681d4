"""Another machine that is at work under the name of this node: a copy of it, most likely."""

from datetime import timedelta
from typing import Final

import structlog

from ckptsync.errors import Cancelled, PrimaryActive
from ckptsync.operations.pipeline import Pipeline
from ckptsync.repository import nodes

log = structlog.get_logger()

_MARGIN: Final = timedelta(seconds=2)  # some stores tell the time in whole seconds


def require_no_copy(pipeline: Pipeline) -> None:
    """Raises PrimaryActive if the node of this name beats on another machine; StoreError.

    A heartbeat that was just left by this node, before its host booted anew, stays as it is while
    we wait; that of a copy is renewed. Raises Cancelled on a stop meanwhile.
    """
    first = nodes.read(pipeline.store, pipeline.node.name)
    if first is None or not first.fresh or _is_ours(pipeline, first):
        return
    log.warning("node.same_elsewhere", node=pipeline.node.name, seconds=nodes.FRESH.seconds)
    age = max(first.age, timedelta(0))  # below that, the clock of the store was set back since
    if pipeline.stop.wait((nodes.FRESH - age + _MARGIN).total_seconds()):
        raise Cancelled("stopped while finding out whether a copy of this node is at work")
    again = nodes.read(pipeline.store, pipeline.node.name)
    if again is not None and again.modified != first.modified and not _is_ours(pipeline, again):
        raise PrimaryActive(
            f"{pipeline.store.name}: node '{pipeline.node.name}' is at work on another machine, "
            "too: a copy of it, or one of the same name",
            hint="stop one of the two, and give it a state directory and a node name of its own",
        )


def _is_ours(pipeline: Pipeline, seen: nodes.SeenNode) -> bool:
    beat = seen.heartbeat
    return beat is not None and beat.machine == pipeline.machine
