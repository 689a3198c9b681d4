"""The way that the active timeline took: which checkpoints lie behind the latest one. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from ckptsync.model import CheckpointId
from ckptsync.repository import keys
from ckptsync.repository.head import Entry, Fork, Head, Timeline


def path(head: Head) -> Mapping[int, int]:
    """The timelines that the active one came by, itself first, each with the greatest seq on it.

    What was committed on an older one after the fork is not behind the latest checkpoint.
    """
    timelines = {timeline.id: timeline for timeline in head.timelines}
    bounds: dict[int, int] = {}
    current, bound = head.timeline, head.next_seq - 1
    while current in timelines and current not in bounds:
        bounds[current] = bound
        fork = timelines[current].parent
        if fork is None or fork.checkpoint is None:
            break
        current, bound = fork.timeline, min(bound, keys.seq(fork.checkpoint))
    return bounds


def on_path(entry: Entry, path: Mapping[int, int]) -> bool:
    """Whether a checkpoint lies on a path of `path`."""
    return entry.seq <= path.get(entry.timeline, 0)


def newest_live(head: Head, entries: Iterable[Entry]) -> Entry | None:
    """On the path, of entries that come with the newest first; None where there is none.

    No more are asked for than it takes, since older ones may lie in pages.
    """
    way = path(head)
    return next((each for each in entries if each.state == "live" and on_path(each, way)), None)


def with_latest(head: Head, entries: Iterable[Entry]) -> Head:
    """A head whose latest is the newest live checkpoint on the path, or null where there is none.

    `entries` are all of this head, in pages too, the newest first. For whoever has moved the path,
    or has brought a checkpoint back to life while latest is null.
    """
    newest = newest_live(head, entries)
    return head.model_copy(update={"latest": None if newest is None else newest.id})


def latest_fault(head: Head, latest: Entry | None) -> str | None:
    """Why what head calls `latest` cannot be it. `latest` is its entry, None where there is none.

    It is live, and lies on the path. Where it is null, no checkpoint in head is both.
    """
    if head.latest is None:
        newest = newest_live(head, reversed(head.checkpoints))
        return None if newest is None else f"latest is null, though checkpoint {newest.id} is live"
    if latest is None:
        return f"latest is checkpoint {head.latest}, which is not among the checkpoints"
    if latest.state != "live":
        return f"latest is checkpoint {latest.id}, which is {latest.state}"
    if not on_path(latest, path(head)):
        return (
            f"latest is checkpoint {latest.id} of timeline {latest.timeline}, "
            f"which timeline {head.timeline} did not come from"
        )
    return None


def forked(
    number: int,
    parent: CheckpointId | None,
    head: Head,
    reason: str,
    at: datetime,
    *,
    node: str,
    epoch: int | None = None,
) -> Timeline:
    """A new timeline, begun by a node at a checkpoint of a head, or at none of it."""
    return Timeline(
        id=number,
        parent=fork(head, parent),
        epoch=epoch or head.epoch,
        node=node,
        reason=reason,
        at=at,
    )


def fork(head: Head, parent: CheckpointId | None) -> Fork:
    """Where a timeline begins that goes on from a checkpoint, or from none.

    The checkpoint may be forgotten: by its name what was before it lies on the path all the same.
    """
    if parent is None or not may_have_been(head, parent):
        return Fork(timeline=head.timeline, checkpoint=None)
    return Fork(timeline=keys.timeline(parent), checkpoint=parent)


def may_have_been(head: Head, checkpoint: CheckpointId) -> bool:
    """Whether head may have named it once, by its name alone.

    One that was never there is of a history that head went back from.
    """
    timeline, seq = keys.timeline(checkpoint), keys.seq(checkpoint)
    return seq < head.next_seq and any(each.id == timeline for each in head.timelines)
