"""Taking a repository anew whose head went back in time, or was lost. Pure.

Others may remember what is gone: a head that this node has never seen, an upload of their own
and the sweep generation it was made at. So every number is lifted beyond what any of them can
have seen. Revisions and sweep generations go to the milliseconds since 1970 for that, as no
counting gets there; what was uploaded before then counts as swept, and is uploaded again.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ckptsync.repository import epochs, timelines
from ckptsync.repository.claim import Claimant
from ckptsync.repository.head import Entry, Head, Writer

COUNTED: Final = 1 << 53
"""No epoch or sweep generation gets there by counting: what says so says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known to have been, beyond what the head itself says."""

    revision: int
    epoch: int
    next_seq: int
    generation: int = 0


def active(by: Claimant, at: datetime) -> Writer:
    return Writer(
        node=by.node,
        node_id=by.node_id,
        instance=by.instance,
        request=by.request,
        write_id="",
        since=at,
    )


def taken_anew(
    head: Head, by: Claimant, latest: Entry | None, known: Known, reason: str, at: datetime
) -> Head:
    """Go on from a head as its active writer, on a new timeline.

    `latest` is the entry of head's latest, `at` the store's time.
    """
    epoch = max(head.epoch, known.epoch) + 1
    timeline = epochs.timeline_after(head)
    parent = None if latest is None else latest.id
    clock = int(at.timestamp() * 1000)
    generation = max(head.sweep.generation, known.generation, clock) + 1
    return head.model_copy(
        update={
            "revision": max(head.revision, known.revision, clock) + 1,
            "epoch": epoch,
            "writer": active(by, at),
            "timeline": timeline,
            "timelines": (
                *head.timelines,
                timelines.forked(timeline, parent, head, reason, at, node=by.node, epoch=epoch),
            ),
            "next_seq": max(head.next_seq, known.next_seq),
            "sweep": head.sweep.model_copy(update={"generation": generation}),
        }
    )
