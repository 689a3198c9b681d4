"""Putting together what the daemon tells of a pipeline."""

from ckptsync.daemon.snapshot import Contact, Switching, Warm
from ckptsync.daemon.watch import Heard
from ckptsync.errors import CkptsyncError
from ckptsync.failure import Failure
from ckptsync.operations.standby import Poll
from ckptsync.operations.warm import WarmCheckpoint
from ckptsync.state.switchover import Handover


def failure(error: CkptsyncError | None) -> Failure | None:
    return None if error is None else Failure.of(error)


def contact(heard: Heard) -> Contact:
    return Contact(answered_at=heard.answered_at, failure=failure(heard.error))


def warm(newest: WarmCheckpoint | None, polled: Poll | None) -> Warm | None:
    if newest is None:
        return None
    latest = None
    if polled is not None and polled.head is not None and polled.head.latest is not None:
        latest = polled.head.entry(polled.head.latest)
    lag = 0.0 if latest is None else (latest.at - newest.entry.at).total_seconds()
    return Warm(
        checkpoint=newest.entry.id,
        engine_id=newest.entry.engine_id,
        step=newest.entry.step,
        committed_at=newest.entry.at,
        complete_at=newest.complete_at,
        source=newest.source,
        lag_seconds=max(lag, 0.0),
    )


def switching(handover: Handover | None) -> Switching | None:
    if handover is None:
        return None
    return Switching(to=handover.node, deadline=handover.deadline, released=handover.released)
