"""Whether another node is at work in a bucket that this one is about to take anew."""

from collections.abc import Sequence
from typing import Final

from ckptsync.errors import PrimaryActive
from ckptsync.model import Role
from ckptsync.operations.pipeline import Pipeline
from ckptsync.repository.head import Writer
from ckptsync.repository.nodes import FRESH, SeenNode

_AT_WORK: Final = (Role.PRIMARY, Role.ACTIVATING, Role.UNFENCED)


def require_alone(pipeline: Pipeline, seen: Sequence[SeenNode], writer: Writer | None) -> None:
    """Raises PrimaryActive if another node that is alive may be the primary.

    That is head's writer, in whatever role; who says so; and who says what cannot be read.
    """
    if not pipeline.takeover.guard:
        return
    for each in seen:
        claim = _claim(each, writer)
        if claim is None or not each.fresh or _is_ours(each, pipeline.machine):
            continue
        age = max(each.age.total_seconds(), 0)
        raise PrimaryActive(
            f"{pipeline.store.name}: node '{each.node}' was alive {age:.0f} s ago, and {claim}",
            hint=f"repair it from there; is that node gone, wait {FRESH.seconds} s or say --force",
        )


def _claim(seen: SeenNode, writer: Writer | None) -> str | None:
    beat = seen.heartbeat
    if beat is None:
        return "what it says of itself cannot be read"
    if writer is not None and beat.node_id == writer.node_id:
        return "head.json names it as the writer"
    if beat.role in _AT_WORK:
        return f"calls itself {beat.role}"
    return None


def _is_ours(seen: SeenNode, machine: str) -> bool:
    return seen.heartbeat is not None and seen.heartbeat.machine == machine
