"""What a standby should hold next: bucket first, read_bucket while that is empty. Only reads."""

from collections.abc import Sequence
from dataclasses import dataclass

from ckptsync.operations import resolve
from ckptsync.operations.foreign import warn_if_foreign
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.resolve import LATEST
from ckptsync.operations.sight import Found, Sight
from ckptsync.operations.warm import WarmCheckpoint
from ckptsync.repository.epochs import is_older, require_no_rollback, require_own_repository
from ckptsync.repository.head import Entry, Head
from ckptsync.repository.repository import Empty, HeadAt, Repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Checkpoints that are asked for, the newest first; never empty."""

    repository: Repository
    at: HeadAt
    entries: Sequence[Entry]
    read_only: bool
    """From read_bucket."""
    may_lag: bool
    """A replica, as read_bucket may be: an object that is missing may be still on its way."""
    sight: Sight

    def taken(self) -> None:
        """The newest is here: until head changes there is nothing more to be had."""
        self.sight.dealt_with(self.at)


class Following:
    """One for the life of a process. Every look at the pipeline's own bucket is remembered."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._wanted = self._asked_for()
        self._bucket = Sight(pipeline.store)
        self._elsewhere = None if pipeline.read_store is None else Sight(pipeline.read_store)
        self._warned: str | None = None
        self.head: Head | None = None
        """Of the bucket, as it was seen last; None while it is empty."""

    def next(self, held: Sequence[WarmCheckpoint]) -> Offer | None:
        """None where nothing better than what is held is to be had.

        Where the bucket has not changed since its offer was taken, that takes one request.

        Raises CheckpointNotFound for an id that is nowhere; WrongRepository, HeadLost,
        RollbackDetected; IntegrityError, UnsupportedFormat, StoreError: never read as emptiness.
        """
        self._wanted = self._asked_for()
        found = self._look_at_bucket()
        offer = None
        if isinstance(found, tuple):
            if self._holds(held, of_bucket=True):
                self._bucket.dealt_with(found[1])
            else:
                offer = self._offer(self._bucket, found, read_only=False)
        if offer is not None:
            return offer
        if self._wanted == LATEST:
            return self._from_elsewhere(held) if isinstance(found, Empty) else None
        if self._holds(held):
            return None
        offer = self._from_elsewhere(held)
        if offer is None:
            stores = (self._pipeline.store, self._pipeline.read_store)
            searched = [each.name for each in stores if each is not None]
            raise resolve.not_found(self._wanted, searched)
        return offer

    def forget(self) -> None:
        """Offer everything again, for it is held no longer."""
        self._bucket.forget()
        if self._elsewhere is not None:
            self._elsewhere.forget()

    def _asked_for(self) -> str:
        """A node that was the primary before goes on from the latest."""
        before = self._pipeline.state.identity.remembered().held_epoch > 0
        return LATEST if before else self._pipeline.standby.start_from or LATEST

    def _holds(self, held: Sequence[WarmCheckpoint], *, of_bucket: bool = False) -> bool:
        """Whether the very checkpoint that is wanted is held; a newer latest may always come."""
        return self._wanted != LATEST and any(
            each.answers_to(self._wanted) and not (of_bucket and each.read_only) for each in held
        )

    def _look_at_bucket(self) -> Found | Empty | None:
        """None where there is nothing new."""
        pipeline = self._pipeline
        identity, where = pipeline.state.identity, pipeline.store.name
        me = identity.remembered()
        found = self._bucket.look()
        if found is None:
            return None
        if isinstance(found, Empty):
            resolve.require_never_filled(found, me, pipeline.node, where)
            if me.repository_id is None and found.descriptor is not None:
                identity.joined(found.descriptor.repository_id)
            return found
        repository, at = found
        require_own_repository(repository.descriptor, me, pipeline.node, where)
        if me.repository_id is None:
            identity.joined(at.head.repository_id)
            me = identity.remembered()
        if at.replica and is_older(at.head, me):
            self._bucket.dealt_with(at)
            return None
        require_no_rollback(at.head, me, where)
        pipeline.register().note(at.head, me)
        self.head = at.head
        return found

    def _from_elsewhere(self, held: Sequence[WarmCheckpoint]) -> Offer | None:
        if self._elsewhere is None:
            return None
        found = self._elsewhere.look()
        if found is None or isinstance(found, Empty):
            return None
        repository, at = found
        if self._warned != at.head.repository_id:
            warn_if_foreign(self._pipeline, repository)
            self._warned = at.head.repository_id
        seen = (each.revision for each in held if each.repository_id == at.head.repository_id)
        if at.head.revision < max(seen, default=0):
            self._elsewhere.dealt_with(at)
            return None
        return self._offer(self._elsewhere, found, read_only=True)

    def _offer(self, sight: Sight, found: Found, *, read_only: bool) -> Offer | None:
        """None where the checkpoint is not there; that counts as dealt with."""
        repository, at = found
        entries = tuple(resolve.candidates(repository, at.head, self._wanted))
        if not entries:
            sight.dealt_with(at)
            return None
        return Offer(
            repository=repository,
            at=at,
            entries=entries,
            read_only=read_only,
            may_lag=read_only or at.replica,
            sight=sight,
        )
