"""How the bucket passes from one writer to another: what head becomes at each step. Pure.

The epoch goes up when somebody claims it, and at nothing else. From then on no other node can
commit, so the latest checkpoint stands still until the new writer commits one itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from ckptsync.model import CheckpointId
from ckptsync.repository import epochs, keys, timelines
from ckptsync.repository.head import Entry, Head, Writer


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimant:
    """Who takes the epoch."""

    node: str
    node_id: str
    instance: str
    """Made for this claim alone, and remembered before the swap that carries it."""
    request: str | None


def claimed(head: Head, by: Claimant, latest: Entry | None, reason: str, at: datetime) -> Head:
    """The next epoch, on a new timeline that goes on from `latest`, the entry of head's latest.

    The writer is still activating: it has nothing on its disk yet to go on from.
    """
    timeline = epochs.timeline_after(head)
    parent = None if latest is None else latest.id
    forked = timelines.forked(
        timeline, parent, head, reason, at, node=by.node, epoch=head.epoch + 1
    )
    return head.model_copy(
        update={
            "epoch": head.epoch + 1,
            "writer": _activating(by, at),
            "timeline": timeline,
            "timelines": (*head.timelines, forked),
        }
    )


def reclaimed(head: Head, by: Claimant, at: datetime) -> Head:
    """The next epoch for a claim that a crash interrupted, on the timeline that it has begun."""
    return head.model_copy(update={"epoch": head.epoch + 1, "writer": _activating(by, at)})


def confirmed(head: Head, restored: CheckpointId | None, entries: Iterable[Entry]) -> Head:
    """The writer is active; its timeline goes on from what was really restored.

    `entries` are those of head, in pages too, the newest first. What is not live any more, or not
    even there, is nobody's latest: then that is the newest one before it.
    """
    writer = head.writer.model_copy(update={"state": "active", "released_to": None})
    active = head.model_copy(update={"writer": writer})
    if restored == head.latest:
        return active
    parent = timelines.fork(head, restored)
    begun = (
        each.model_copy(update={"parent": parent}) if each.id == head.timeline else each
        for each in head.timelines
    )
    moved = active.model_copy(update={"timelines": tuple(begun)})
    return timelines.with_latest(moved, entries)


def live(entry: Entry) -> Entry:
    """As it was before it was retired."""
    return entry.model_copy(update={"state": "live", "retired_at": None})


def released(head: Head, to: str) -> Head:
    """The writer gives the bucket away; it commits nothing any more."""
    writer = head.writer.model_copy(update={"state": "released", "released_to": to})
    return head.model_copy(update={"writer": writer})


def taken_back(head: Head) -> Head:
    """The writer goes on: nobody has taken what it released."""
    writer = head.writer.model_copy(update={"state": "active", "released_to": None})
    return head.model_copy(update={"writer": writer})


def behind(latest: str | None, restored: str | None) -> int:
    """How many commits a fork at `restored` leaves behind, of checkpoint ids."""
    if latest is None:
        return 0
    fork = 0 if restored is None else keys.seq(CheckpointId(restored))
    return max(keys.seq(CheckpointId(latest)) - fork, 0)


def _activating(by: Claimant, at: datetime) -> Writer:
    return Writer(
        node=by.node,
        node_id=by.node_id,
        instance=by.instance,
        request=by.request,
        write_id="",
        state="activating",
        since=at,
    )
