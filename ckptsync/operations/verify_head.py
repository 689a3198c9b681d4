"""What a head must say to make sense. Pure."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from ckptsync.repository import keys
from ckptsync.repository.head import Entry, Head


def order_faults(entries: Sequence[Entry], next_seq: int) -> Iterator[str]:
    """What is wrong with the numbers of entries that lie in one object, oldest first."""
    for entry in entries:
        if keys.seq(entry.id) != entry.seq:
            yield f"checkpoint {entry.id} has seq {entry.seq}, which its id contradicts"
        if entry.seq >= next_seq:
            yield f"checkpoint {entry.id} has seq {entry.seq}, though {next_seq} comes next"
    for before, after in pairwise(entries):
        if before.seq >= after.seq:
            yield f"checkpoint {after.id} stands behind {before.id}, though it is not newer"


def latest_fault(head: Head, latest: Entry | None) -> str | None:
    """Why what head calls `latest` cannot be it. `latest` is its entry, None where there is none.

    It is live, and lies on the way that the active timeline took.
    """
    if head.latest is None:
        return None
    if latest is None:
        return f"latest is checkpoint {head.latest}, which is not among the checkpoints"
    if latest.state != "live":
        return f"latest is checkpoint {latest.id}, which is {latest.state}"
    if not _on_path(head, latest):
        return (
            f"latest is checkpoint {latest.id} of timeline {latest.timeline}, "
            f"which timeline {head.timeline} did not come from"
        )
    return None


def _on_path(head: Head, entry: Entry) -> bool:
    """Whether the active timeline holds the checkpoint, or one that it forked from does."""
    timelines = {timeline.id: timeline for timeline in head.timelines}
    current, bound = timelines.get(head.timeline), head.next_seq
    while current is not None:
        if current.id == entry.timeline:
            return entry.seq <= bound
        fork = timelines.pop(current.id).parent
        if fork is None or fork.checkpoint is None:
            return False
        current, bound = timelines.get(fork.timeline), keys.seq(fork.checkpoint)
    return False
