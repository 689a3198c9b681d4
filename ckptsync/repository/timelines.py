"""The way that the active timeline took: which checkpoints lie behind the latest one. Pure."""

from collections.abc import Mapping
from datetime import datetime

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


def newest_live(head: Head) -> Entry | None:
    """On the path, of those in head itself; None where there is none."""
    way = path(head)
    live = (each for each in reversed(head.checkpoints) if each.state == "live")
    return next((each for each in live if on_path(each, way)), None)


def latest_fault(head: Head, latest: Entry | None) -> str | None:
    """Why what head calls `latest` cannot be it. `latest` is its entry, None where there is none.

    It is live, and lies on the path. Where it is null, no checkpoint in head is both.
    """
    if head.latest is None:
        newest = newest_live(head)
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
    parent: Entry | None,
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
        parent=Fork(
            timeline=parent.timeline if parent else head.timeline,
            checkpoint=parent.id if parent else None,
        ),
        epoch=epoch or head.epoch,
        node=node,
        reason=reason,
        at=at,
    )
