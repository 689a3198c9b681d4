"""Going on from a bucket that was restored from an older copy: an operator says that it counts."""

from dataclasses import dataclass, replace
from typing import Final

import structlog

from ckptsync.errors import Busy, NotFound, Refused
from ckptsync.model import CheckpointId, Role
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.repair_guard import require_alone
from ckptsync.operations.repair_memory import (
    claimant,
    is_done,
    known,
    note_older,
    note_taking,
    noted,
)
from ckptsync.operations.roles import role_before_it_stopped
from ckptsync.operations.writing import require_fit, require_own
from ckptsync.repository import anew, epochs, nodes
from ckptsync.repository.head import Head
from ckptsync.repository.register import Register
from ckptsync.repository.repository import HeadAt

log = structlog.get_logger()

REASON: Final = "repair: accept-rollback"
_WRITERS: Final = (Role.PRIMARY, Role.RELEASED)
"""They go on as the writer of what they accept; others only follow who is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackAccepted:
    head: Head
    """That holds now."""
    taken: bool
    """Whether this node is its writer now; a standby only forgets what it had seen."""
    already: bool
    """It was accepted before this was asked."""
    gone: tuple[CheckpointId, ...]
    """Those that this node had pushed or restored, and that the bucket does not have any more."""


def accept_rollback(pipeline: Pipeline, *, force: bool = False) -> RollbackAccepted:
    """Take the older head for the truth, and go on from its latest checkpoint.

    A primary takes the repository anew, in one swap to a head beyond all that anybody has seen:
    until that is stored every node goes on to refuse the bucket, and afterwards none does. What
    lies on the local disk is left alone; the next push stores it on a timeline of its own.
    After a crash anywhere asking again goes on. Call with the pipeline's lock held.

    Raises Refused unless the bucket went back; PrimaryActive, unless forced, if another node
    may be at work; Busy if head changed meanwhile; HeadLost, WrongRepository, IntegrityError,
    UnsupportedFormat; UnfitStore; CannotTell, StoreError.
    """
    register = replace(pipeline.register(), accepts_rollback=True)
    first = _read(register)
    head = first.head
    repository = require_own(pipeline, head)
    me = pipeline.state.identity.remembered()
    if not epochs.is_older(head, me):
        if is_done(head, me, REASON):
            return RollbackAccepted(head=head, taken=True, already=True, gone=())
        raise _nothing_to_accept(pipeline, head)
    latest = repository.find(head, head.latest) if head.latest else None
    gone = tuple(sorted({each for each in noted(me) if repository.find(head, each) is None}))
    if role_before_it_stopped(pipeline) not in _WRITERS:
        note_older(pipeline, head, latest, gone)
        log.info("rollback.accepted", revision=head.revision, seen=me.revision)
        return RollbackAccepted(head=head, taken=False, already=False, gone=gone)
    seen = nodes.read_all(pipeline.store)
    if not force:
        require_alone(pipeline, seen, head.writer)
    require_fit(pipeline, anew=True)
    by = claimant(pipeline, me, head.writer.instance)
    at = pipeline.store.now()
    new = anew.taken_anew(head, by, latest, known(me, seen), REASON, at)
    note_taking(pipeline, new, latest, gone)
    taken = _swap(register, first, new)
    log.info("rollback.accepted", revision=head.revision, seen=me.revision, epoch=taken.epoch)
    return RollbackAccepted(head=taken, taken=True, already=False, gone=gone)


def _read(register: Register) -> HeadAt:
    try:
        return register.read()
    except NotFound as error:
        raise Refused(
            f"{register.store.name} has no head.json, and this node never saw one: "
            "there is nothing to accept"
        ) from error


def _nothing_to_accept(pipeline: Pipeline, head: Head) -> Refused:
    return Refused(
        f"{pipeline.store.name}: head.json, at revision {head.revision} and epoch {head.epoch} "
        f"by node '{head.writer.node}', is not older than what this node has seen: "
        "there is nothing to accept",
        hint=f"ckptsync status {pipeline.node.pipeline}",
    )


def _swap(register: Register, first: HeadAt, new: Head) -> Head:
    def is_new(head: Head) -> bool:
        return (head.writer.instance, head.epoch) == (new.writer.instance, new.epoch)

    def decide(old: HeadAt) -> Head | None:
        if is_new(old.head):
            return None
        if old.version != first.version:
            raise Busy(
                f"{register.store.name}: node '{old.head.writer.node}' replaced head.json just now",
                hint="look at 'ckptsync status', then ask again",
            )
        return new

    return register.change(decide, landed=is_new)
