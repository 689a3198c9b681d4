"""Who may commit. Pure decisions over a head and what this node remembers of itself.

The epoch in head is the fencing token: whoever raises it displaces the writer before, whose
next swap then fails. No clock and no lease takes part.
"""

from dataclasses import dataclass

from ckptsync.errors import Fenced, ForeignWriter, RollbackDetected, WrongRepository
from ckptsync.model import CheckpointId
from ckptsync.repository import keys
from ckptsync.repository.descriptor import Descriptor
from ckptsync.repository.head import Head
from ckptsync.state.identity import Remembered


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """The node as heads and manifests name it."""

    name: str
    pipeline: str


def require_own_repository(descriptor: Descriptor, me: Remembered, node: Node, where: str) -> None:
    """Raises WrongRepository before anything is written to somebody else's bucket."""
    if descriptor.pipeline != node.pipeline:
        raise WrongRepository(
            f"{where} belongs to pipeline '{descriptor.pipeline}', not to '{node.pipeline}'",
            hint="give every pipeline a bucket or prefix of its own",
        )
    if me.repository_id is not None and me.repository_id != descriptor.repository_id:
        raise WrongRepository(
            f"{where} holds repository {descriptor.repository_id}; "
            f"this node last wrote to repository {me.repository_id} there",
            hint="somebody replaced the bucket's contents: find out who, or use another prefix",
        )


def is_older(head: Head, me: Remembered) -> bool:
    """Whether this node has seen, or written, a newer head of the same repository.

    `me` has to be recalled before head is read.
    """
    return me.repository_id == head.repository_id and (
        head.revision < me.revision or head.epoch < me.epoch or _is_superseded(head, me)
    )


def _is_superseded(head: Head, me: Remembered) -> bool:
    # The numbers alone do not tell: who knows no better may have gone on from an older head.
    return head.writer.write_id in me.superseded


def require_no_rollback(head: Head, me: Remembered, where: str) -> None:
    """Raises RollbackDetected if the head is older than one this node has seen, or written."""
    if is_older(head, me):
        seen = (
            "its writer's last write is one that this node had replaced by later ones"
            if _is_superseded(head, me)
            else f"this node has seen revision {me.revision}, epoch {me.epoch}"
        )
        raise RollbackDetected(
            f"{where}: head.json is at revision {head.revision}, epoch {head.epoch}, but {seen}: "
            "the bucket went back in time",
            hint="nothing was written; if the bucket was restored from an older copy and that is "
            "to hold: ckptsync repair accept-rollback",
        )


def require_writer(head: Head, me: Remembered, where: str) -> None:
    """Raises Fenced, ForeignWriter unless this node is the writer that head names."""
    writer = head.writer
    if not me.instances:
        raise ForeignWriter(
            f"{where} is written by node '{writer.node}' (epoch {head.epoch}); "
            "this host remembers nothing of having been that writer",
            hint="to take over from it: ckptsync activate, or standby = true; "
            "if this is that host, put its state directory back",
        )
    if writer.instance not in me.instances:
        if not me.held_epoch:
            raise ForeignWriter(
                f"{where} is written by node '{writer.node}' (epoch {head.epoch}), "
                "which this node never was",
                hint=f"push from node '{writer.node}', or take over: ckptsync activate",
            )
        raise Fenced(
            f"{where}: node '{writer.node}' took over at epoch {head.epoch}; "
            f"this node last wrote at epoch {me.held_epoch}",
            hint=f"push from node '{writer.node}'; to make this one a standby: ckptsync rejoin",
        )
    require_own_write(head, me, where)
    if writer.state != "active":
        raise Fenced(
            f"{where}: this node's writer is '{writer.state}'"
            + (f" to node '{writer.released_to}'" if writer.released_to else ""),
        )


def require_own_write(head: Head, me: Remembered, where: str) -> None:
    """Raises ForeignWriter if what this node's writer wrote last is not a write of this node."""
    writer = head.writer
    if writer.write_id not in me.write_ids:
        raise ForeignWriter(
            f"{where}: a copy of this node has written in its name (write {writer.write_id}); "
            "two machines share one state directory or were cloned",
            hint="stop one of them, and give it a state directory and prefix of its own",
        )


def require_instance(head: Head, instance: str | None, where: str) -> None:
    """Raises Fenced unless head's writer is this instance, in whatever state."""
    if head.writer.instance != instance:
        raise Fenced(
            f"{where}: node '{head.writer.node}' took over at epoch {head.epoch}",
            hint="ckptsync topology shows who is what",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Where the next checkpoint goes on from.

    `parent` is the checkpoint before it; `forks` says that a new timeline begins there, and why.
    """

    parent: CheckpointId | None
    forks: str | None = None


def line(head: Head, me: Remembered, *, new_timeline: bool) -> Line:
    """Choose the timeline: a pull of an older checkpoint forks where it went back to."""
    back = went_back_to(head, me)
    if back is not None:
        return Line(parent=back, forks=going_back(back))
    if new_timeline:
        return Line(parent=head.latest, forks="push: --new-timeline")
    return Line(parent=head.latest)


def going_back(to: CheckpointId) -> str:
    """The reason that a timeline's record gives."""
    return f"pull: went back to {to}"


def went_back_to(head: Head, me: Remembered) -> CheckpointId | None:
    """The older checkpoint that a pull put in place, if nothing was committed from there yet."""
    restored, pushing = me.restored, me.pushing
    if restored is None or restored.checkpoint_id == head.latest:
        return None
    if pushing is not None and head.next_seq > keys.seq(CheckpointId(pushing.checkpoint_id)):
        return None  # the process died between its swap and its note of it
    return CheckpointId(restored.checkpoint_id)


def may_jump(head: Head, me: Remembered) -> bool:
    """Whether the next checkpoint need not follow from the one before it.

    A repair saw that the local storage does not, and nothing was committed since.
    """
    repair = me.repair
    return (
        repair is not None
        and repair.unrelated
        and (repair.instance, repair.next_seq) == (head.writer.instance, head.next_seq)
    )


def timeline_after(head: Head) -> int:
    return max(timeline.id for timeline in head.timelines) + 1
