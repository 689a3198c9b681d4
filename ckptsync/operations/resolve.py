"""Which checkpoint a pull takes, and from where: local, bucket, read_bucket, or none at all.

"None at all" is only ever concluded from definite answers. Anything else is an error, so that
a network that blinks never turns into a pipeline that starts from nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from ckptsync.errors import CheckpointNotFound, IntegrityError
from ckptsync.model import LocalCheckpoint
from ckptsync.repository import keys
from ckptsync.repository.epochs import Node, require_no_rollback, require_own_repository
from ckptsync.repository.head import Entry, Head
from ckptsync.repository.register import head_lost
from ckptsync.repository.repository import Empty, Repository, look
from ckptsync.repository.timelines import latest_fault, on_path, path
from ckptsync.state.identity import Remembered
from ckptsync.stores.base import ObjectStore

log = structlog.get_logger()

LATEST: Final = "latest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """Checkpoints in a bucket that will do, the preferred one first; never empty."""

    repository: Repository
    head: Head
    entries: Sequence[Entry]
    read_only: bool
    """From read_bucket."""
    may_lag: bool
    """A replica, as read_bucket may be: its head may be old, or there before its data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A local checkpoint will do; no bucket was asked."""

    checkpoint: LocalCheckpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """There is no such checkpoint anywhere, and that is certain."""

    searched: Sequence[str]


def local(checkpoints: Sequence[LocalCheckpoint], wanted: str) -> Kept | None:
    """Any local checkpoint wins for "latest"; for an id only that one."""
    fitting = [each for each in checkpoints if wanted in (LATEST, each.engine.id)]
    return Kept(checkpoint=fitting[-1]) if fitting else None


def remote(store: ObjectStore, read_store: ObjectStore | None, wanted: str) -> Remote | Fresh:
    """Look in the bucket, and in read_bucket where the bucket is empty or lacks the id.

    Raises HeadLost, IntegrityError, UnsupportedFormat, StoreError: none of them means absent.
    """
    searched: list[str] = []
    for each, read_only in ((store, False), (read_store, True)):
        if each is None:
            continue
        found = look(each)
        searched.append(each.name)
        if isinstance(found, Empty):
            continue
        repository, at = found
        entries = tuple(candidates(repository, at.head, wanted))
        may_lag = read_only or at.replica
        if entries:
            return Remote(
                repository=repository,
                head=at.head,
                entries=entries if may_lag else entries[:1],
                read_only=read_only,
                may_lag=may_lag,
            )
    return Fresh(searched=searched)


def candidates(repository: Repository, head: Head, wanted: str) -> Iterator[Entry]:
    """Entries that answer to an engine's id, a checkpoint id, or "latest", the best first.

    For "latest" there is one at least, or IntegrityError.
    """
    if wanted == LATEST:
        newest = latest(repository, head)
        yield newest
        # Those in head are choice enough for a replica; no page is read for them.
        older = (each for each in reversed(head.checkpoints) if each.seq < newest.seq)
        way = path(head)
        yield from (each for each in older if each.state == "live" and on_path(each, way))
        return
    for entry in repository.entries(head):
        if wanted in (entry.engine_id, entry.id) and entry.state != "bad":
            yield entry


def latest(repository: Repository, head: Head) -> Entry:
    """What head calls the latest. Raises IntegrityError if it is none that a pull may take."""
    found = repository.find(head, head.latest) if head.latest else None
    fault = latest_fault(head, found)
    if fault is None and found is not None:
        return found
    raise IntegrityError(
        f"{repository.named(keys.HEAD)}: {fault or 'latest is null: it names no live checkpoint'}",
        hint="'ckptsync list' shows the states of all; pull one of them with --checkpoint ID",
    )


def require_never_filled(found: Empty, me: Remembered, node: Node, where: str) -> None:
    """Raises HeadLost, RollbackDetected if this node has seen checkpoints in an empty bucket.

    Raises WrongRepository if it is not this pipeline's.
    """
    if found.descriptor is not None:
        require_own_repository(found.descriptor, me, node, where)
    if found.head is not None and found.descriptor is not None:
        require_no_rollback(found.head.head, me, where)
    elif me.revision:
        raise head_lost(where, me)


def not_found(wanted: str, searched: Sequence[str]) -> CheckpointNotFound:
    """For those who must not start without a checkpoint."""
    places = " or ".join(searched)
    if wanted == LATEST:
        return CheckpointNotFound(f"checkpoint not found: {places} holds none")
    kind = "id" if keys.CHECKPOINT_PATTERN.fullmatch(wanted) else "engine id"
    return CheckpointNotFound(
        f"checkpoints with {kind} '{wanted}' were not found in source {places}",
        hint="'ckptsync list --remote' shows those that are there",
    )
