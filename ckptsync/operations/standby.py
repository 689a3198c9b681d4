"""A standby: the newest checkpoints of a bucket, whole and verified on its disk, for the day."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from ckptsync.errors import LocalDiskFull, Vanished
from ckptsync.hashing import Digest
from ckptsync.model import CheckpointId, Progress, ignore
from ckptsync.operations.download import MissingObject
from ckptsync.operations.following import Following, Offer
from ckptsync.operations.forgotten import Forgotten, telling_forgotten
from ckptsync.operations.holdings import Holdings
from ckptsync.operations.manifests import remember_manifest
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.stage import Stored, fetch, note_publishing, read_stored
from ckptsync.operations.transfers import Retraceable
from ckptsync.operations.warm import WarmCheckpoint, completed
from ckptsync.repository.head import Entry, Head
from ckptsync.repository.repository import Repository

log = structlog.get_logger()

_TRIES: Final = 3
"""Of a poll whose checkpoint is deleted meanwhile: by then it was not the latest any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    head: Head | None
    """Of the bucket, as it was seen last; None while it is empty."""
    warm: WarmCheckpoint | None
    """The newest one held."""
    staged: WarmCheckpoint | None
    """What this poll has added."""
    fetched: int
    """Bytes, as files hold them."""


class Standby:
    """One for the life of a process, used from one thread at a time; any may read attributes."""

    def __init__(self, pipeline: Pipeline) -> None:
        """Asks and reads nothing yet."""
        self._pipeline = pipeline
        self._following = Following(pipeline)
        self._holdings = Holdings(pipeline, on_forget=self._following.forget)
        self._told_of: CheckpointId | None = None  # as not all there yet
        self.pulling: CheckpointId | None = None
        """What is being fetched."""

    @property
    def head(self) -> Head | None:
        """Of the bucket, as the last poll saw it, even if it failed afterwards."""
        return self._following.head

    @property
    def warm(self) -> WarmCheckpoint | None:
        """The newest one held, as far as this process has looked."""
        held = self._holdings.checkpoints
        return held[0] if held else None

    def newest(self) -> WarmCheckpoint | None:
        """The newest one held; the first call reads what an earlier process has left."""
        self._holdings.load(ignore)
        return self.warm

    def poll(self, *, progress: Progress) -> Poll:
        """Look for a newer checkpoint, and hold it too. What was held before stays meanwhile.

        Whatever is raised, what was held is still there and the next poll goes on with what was
        fetched; after LocalDiskFull that is deleted.

        Raises what looking raises (see `Following.next`); Refused for another layout;
        IntegrityError, LocalDiskFull, Cancelled, StoreError; Forgotten if each one was deleted
        while it was fetched.
        """
        retraceable = Retraceable(progress)
        for tries_left in reversed(range(_TRIES)):
            self._holdings.load(progress)
            offer = self._following.next(self._holdings.checkpoints)
            if offer is None:
                break
            try:
                with self._mending():
                    staged, fetched = self._take(offer, retraceable)
            except Forgotten as error:
                if not tries_left:
                    raise
                log.info("standby.forgotten", error=str(error))  # by now there is a newer one
                retraceable.back()
                continue
            return Poll(head=self.head, warm=self.warm, staged=staged, fetched=fetched)
        return Poll(head=self.head, warm=self.warm, staged=None, fetched=0)

    def stage(
        self, repository: Repository, entry: Entry, *, read_only: bool, progress: Progress
    ) -> WarmCheckpoint:
        """Bring everything here that `publish` needs, whatever the storage holds of it already.

        Where the checkpoint is held that asks for nothing. Raises MissingObject, IntegrityError,
        Forgotten, LocalDiskFull, Refused, Cancelled, StoreError.
        """
        holdings = self._holdings
        holdings.load(progress)
        held = holdings.find(entry)
        with self._mending():
            if held is not None:
                self._stage(holdings.stored(held), alone=False, progress=progress)
                return held
            with telling_forgotten(repository, entry):
                stored = read_stored(self._pipeline, repository, entry)
                self._stage(stored, alone=False, progress=progress)
            staged = completed(self._pipeline, stored, revision=0, read_only=read_only)
            holdings.add(staged, stored)
            return staged

    def publish(self, warm: WarmCheckpoint) -> None:
        """Put it in place in the pipeline's storage; then nothing is held or staged any more.

        A crash leaves the storage as it was or with this checkpoint; to `stage` it and to publish
        it again finishes. Raises EngineRunning, IntegrityError, SourceError, LocalDiskFull.
        """
        pipeline, holdings = self._pipeline, self._holdings
        holdings.load(ignore)
        stored = holdings.stored(warm)
        files = holdings.files(stored, ignore)
        note = note_publishing(pipeline, warm.entry)

        def begin() -> None:
            note()
            holdings.begin_to_publish(warm.entry.id)

        staging = stored.staging(files, on_begin=begin)
        with self._mending():
            staging.settle()  # tells of a file that somebody deleted, before anything is changed
            pipeline.layout.publish(staging, pipeline.storage_path)
        pipeline.state.identity.published(from_bucket=not warm.read_only)
        remember_manifest(pipeline, warm.entry, stored.data)
        files.discard()
        holdings.clear()

    def clear(self) -> None:
        """Delete all that is held or staged."""
        self._holdings.clear()

    def _take(self, offer: Offer, progress: Progress) -> tuple[WarmCheckpoint | None, int]:
        """Hold the first of an offer that is all there. What is held already comes before others.

        Only what may lag is passed over where an object is missing.
        """
        preferred, *others = offer.entries
        if self.warm is not None and self.warm.is_of(preferred):
            offer.taken()
            return None, 0
        tried = frozenset[Digest]()
        for entry in (preferred, *self._newer(offer, others)):
            try:
                with telling_forgotten(offer.repository, entry):
                    stored = read_stored(self._pipeline, offer.repository, entry)
                    tried |= stored.digests()
                    fetched = self._stage(stored, alone=True, progress=progress)
            except MissingObject as error:
                if not offer.may_lag:
                    raise
                if entry is preferred and entry.id != self._told_of:
                    log.warning("standby.incomplete", checkpoint=entry.id, error=str(error))
                    self._told_of = entry.id
                continue
            revision, read_only = offer.at.head.revision, offer.read_only
            staged = completed(self._pipeline, stored, revision=revision, read_only=read_only)
            self._holdings.add(staged, stored, besides=tried)
            if entry is preferred:
                offer.taken()
            log.info("standby.staged", checkpoint=entry.id, source=staged.source, bytes=fetched)
            return staged, fetched
        return None, 0

    def _newer(self, offer: Offer, entries: Sequence[Entry]) -> Iterator[Entry]:
        """Those that are newer than what is held already."""
        held, repository_id = self.warm, offer.repository.descriptor.repository_id
        related = held is not None and held.repository_id == repository_id
        floor = held.entry.seq if held is not None and related else 0
        return (each for each in entries if each.seq > floor)

    def _stage(self, stored: Stored, *, alone: bool, progress: Progress) -> int:
        """The bytes that were fetched for it."""
        self.pulling = stored.entry.id
        try:
            staging = stored.staging(self._holdings.files(stored, progress))
            return fetch(self._pipeline, stored, staging, alone=alone, progress=progress)
        finally:
            self.pulling = None

    @contextmanager
    def _mending(self) -> Iterator[None]:
        """Leave room where the disk is full; look at everything anew where files are gone."""
        try:
            yield
        except LocalDiskFull:
            self._holdings.tidy()
            raise
        except Vanished:
            self._holdings.forget()
            raise
