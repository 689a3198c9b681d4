"""Push: a complete checkpoint goes from the local disk into the bucket, or nothing does."""

from collections.abc import Collection
from dataclasses import dataclass
from time import monotonic
from typing import Final

import structlog

from ckptsync.errors import Busy, CheckpointNotFound, IntegrityError, Refused, Vanished
from ckptsync.model import LocalCheckpoint, Progress
from ckptsync.operations import own_uploads
from ckptsync.operations.assemble import assemble
from ckptsync.operations.contents import Contents
from ckptsync.operations.manifests import manifest_bytes, remember_manifest
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.sink import Sink
from ckptsync.operations.synced import holds, is_unchanged, synced
from ckptsync.operations.transfers import Retraceable, stoppable
from ckptsync.operations.upload import Uploading
from ckptsync.operations.writing import Writable, open_for_writing
from ckptsync.repository import epochs, keys, manifest
from ckptsync.repository.commit import Attempt, MustReplan, commit, fork, require_progress
from ckptsync.repository.head import Entry, Head, ManifestRef
from ckptsync.repository.known import Known
from ckptsync.repository.timelines import may_have_been
from ckptsync.sources.base import Pinned
from ckptsync.sources.digests import Digests
from ckptsync.state.index import Index
from ckptsync.state.journal import UploadJournal

log = structlog.get_logger()

_TRIES: Final = 10
"""Of a push whose checkpoint keeps vanishing, or whose uploads keep being swept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushReport:
    """Only what is committed."""

    entry: Entry
    already_synced: bool
    files: int
    seconds: float


def push(
    pipeline: Pipeline,
    *,
    engine_id: str | None,
    new_timeline: bool,
    engine_stopped: bool = False,
    progress: Progress,
) -> PushReport:
    """Store the newest complete checkpoint, or the named one, and commit it.

    Of an engine that was found stopped, what it wrote last is not waited for to be quiet.

    A crash anywhere leaves the bucket's checkpoints as they were, or with this one too; pushing
    again goes on with what was uploaded. Call with the pipeline's lock held.

    Raises CheckpointNotFound if there is no complete checkpoint; SourceError; WrongRepository,
    Fenced and the other refusals of epochs; LineageRegression; UnfitStore; CannotTell.
    """
    started = monotonic()
    _require_published(pipeline)
    # Nothing is created in the bucket for nothing.
    choose(pipeline, engine_id, engine_stopped=engine_stopped)
    writable = open_for_writing(pipeline)
    head = writable.head
    own_uploads.drop_committed(pipeline, head)
    retraceable = Retraceable(stoppable(progress, pipeline.stop))
    for _ in range(_TRIES):
        checkpoint = choose(pipeline, engine_id, engine_stopped=engine_stopped)
        try:
            done = (
                None if new_timeline else _synced(pipeline, writable, head, checkpoint, retraceable)
            )
            if done is not None:
                return PushReport(
                    entry=done, already_synced=True, files=0, seconds=monotonic() - started
                )
            with pipeline.layout.pin(checkpoint) as pinned:
                run = _Push(pipeline, writable, pinned, new_timeline=new_timeline)
                entry = run.commit(head, retraceable)
                files = len(pinned.files)
        except (Vanished, MustReplan) as error:
            name = "push.vanished" if isinstance(error, Vanished) else "push.planned_again"
            log.info(name, checkpoint=checkpoint.engine.id, error=str(error))
            retraceable.back()
            head = writable.register.read().head
            continue
        return PushReport(
            entry=entry, already_synced=False, files=files, seconds=monotonic() - started
        )
    raise Busy(
        f"{pipeline.storage_path}: checkpoints went away or changed {_TRIES} times while they "
        "were read",
        hint="push less often than the engine deletes, or let it keep more checkpoints",
    )


def _require_published(pipeline: Pipeline) -> None:
    """Raises Refused if a pull was interrupted while it changed the storage."""
    unfinished = pipeline.state.identity.remembered().publishing
    if unfinished is not None:
        raise Refused(
            f"{pipeline.storage_path}: a pull of checkpoint {unfinished.checkpoint_id} was "
            "interrupted while it was put in place",
            hint="run 'ckptsync pull' again: it finishes that",
        )


def choose(
    pipeline: Pipeline, engine_id: str | None, *, engine_stopped: bool = False
) -> LocalCheckpoint:
    """The newest complete local checkpoint, or the named one. Raises CheckpointNotFound."""
    checkpoints = pipeline.layout.checkpoints(engine_stopped=engine_stopped)
    wanted = [each for each in checkpoints if engine_id in (None, each.engine.id)]
    if wanted:
        return wanted[-1]
    if engine_id is not None:
        raise CheckpointNotFound(
            f"{pipeline.storage_path}: no complete checkpoint '{engine_id}'",
            hint="'ckptsync list' shows those that are there",
        )
    raise CheckpointNotFound(
        f"{pipeline.storage_path}: no complete checkpoint of layout '{pipeline.layout.name}'",
        hint="wait for the engine's first checkpoint, or check storage_path and layout",
    )


def _synced(
    pipeline: Pipeline, writable: Writable, head: Head, local: LocalCheckpoint, progress: Progress
) -> Entry | None:
    """The live entry of a checkpoint that is in the bucket already, and is where it goes on from.

    After a pull went back to it, that is recorded first: the latest is this one again.
    """
    repository, identity = writable.repository, pipeline.state.identity
    me = identity.remembered()
    back = epochs.went_back_to(head, me)
    found = synced(repository, head, local.engine, back=back)
    if found is None:
        return None
    point = me.pushed or me.restored
    if point is not None and point.checkpoint_id != found.id:
        point = None
    if point is None or not is_unchanged(point, local):
        with pipeline.layout.pin(local) as pinned:
            if not holds(pipeline, repository, found, pinned, progress):
                return None
        # So that it need not be compared again.
        if point is not None:
            identity.compared(found.id, local.at)
        elif found.id == head.latest:
            _note_pushed(pipeline, found, local)
    if found.id == back:
        fork(writable.register, repository, found, epochs.going_back(back), pipeline.store.now())
    return found


def _note_pushed(pipeline: Pipeline, entry: Entry, local: LocalCheckpoint) -> None:
    engine = local.engine
    pipeline.state.identity.pushed(
        entry.id,
        engine.id,
        engine.step,
        engine.lineage,
        fingerprint=engine.fingerprint,
        at=local.at,
    )


class _Push:
    """One pinned checkpoint on its way into the bucket."""

    def __init__(
        self, pipeline: Pipeline, writable: Writable, pinned: Pinned, *, new_timeline: bool
    ) -> None:
        self._pipeline = pipeline
        self._writable = writable
        self._pinned = pinned
        self._new_timeline = new_timeline
        repository_id = writable.descriptor.repository_id
        self._journal = UploadJournal(pipeline.state.database, repository_id)
        self._index = Index(pipeline.state.database, repository_id)

    def commit(self, head: Head, progress: Retraceable) -> Entry:
        """Upload, store the manifest and swap head, again and again until it holds."""
        register = self._writable.register
        for _ in range(_TRIES):
            try:
                return self._attempt(head, progress)
            except MustReplan as replan:
                log.info("push.planned_again", reason=str(replan))
                progress.back()
                self._journal.drop(replan.condemned)
                register.pause()
                head = register.read().head
        raise Busy(
            f"{self._pipeline.store.name}: other actors changed the repository {_TRIES} times "
            "while this push was under way",
            hint="try again",
        )

    def _attempt(self, head: Head, progress: Progress) -> Entry:
        pipeline, repository = self._pipeline, self._writable.repository
        me = pipeline.state.identity.remembered()
        epochs.require_writer(head, me, pipeline.store.name)
        line = epochs.line(head, me, new_timeline=self._new_timeline)
        before = line.parent if line.parent and may_have_been(head, line.parent) else None
        parent = repository.find(head, before) if before else None
        if not self._new_timeline and not epochs.may_jump(head, me):
            require_progress(self._pinned.checkpoint.engine, parent, pipeline.store.name)
        known = self._known(head, parent)
        sink = Sink(
            store=pipeline.store,
            journal=self._journal,
            generation=head.sweep.generation,
            read_back=self._writable.read_back,
        )
        contents = self._upload(known, sink, progress)
        self._pinned.confirm()
        at = pipeline.store.now()
        assembled = assemble(
            pinned=self._pinned,
            contents=contents,
            known=known,
            pack_below=repository.descriptor.pack_below,
            head=head,
            line=line,
            parent=before,
            node=pipeline.node.name,
            at=at,
        )
        del known, contents
        data = manifest.encode(assembled.manifest)
        key = keys.manifest(assembled.manifest.checkpoint)
        self._index.note_unreferenced([(key, len(data))], due=at)  # until head names it
        sink.put(key, data)
        attempt = Attempt(
            manifest=assembled.manifest,
            reference=ManifestRef(digest=repository.descriptor.hash.of(data).hex(), size=len(data)),
            line=line,
            parent=parent,
            own={**assembled.own, key: sink.generation},
        )
        engine = assembled.manifest.engine
        pipeline.state.identity.pushing(
            assembled.manifest.checkpoint,
            engine.id,
            engine.step,
            engine.lineage,
            fingerprint=engine.fingerprint,
        )
        entry = commit(self._writable.register, repository, attempt, at)
        self._remember(entry, data, used=assembled.own.keys())
        return entry

    def _known(self, head: Head, parent: Entry | None) -> Known:
        """What earlier tries of this push and the parent have stored, unless it is damaged."""
        repository = self._writable.repository
        entries = (*head.checkpoints, parent) if parent else head.checkpoints
        damaged = frozenset(key for entry in entries for key in entry.damaged)
        known, before = Known(), None
        if parent is not None:
            try:
                data = manifest_bytes(self._pipeline, repository, parent)
                before = repository.decode_manifest(data, parent)
            except IntegrityError as error:
                # The parent only saves uploads: without it everything is stored again.
                log.error("push.parent_unreadable", checkpoint=parent.id, error=str(error))
            else:
                own_uploads.drop_referred(self._journal, before)
        # Own uploads first: one may be there because the parent's pack was given up as sparse.
        uploads = own_uploads.still_there(self._pipeline, self._journal)
        known.add_uploads(uploads, damaged=damaged)
        if before is not None:
            known.add_manifest(before, damaged=damaged)
        return known

    def _upload(self, known: Known, sink: Sink, progress: Progress) -> Contents:
        pipeline, descriptor = self._pipeline, self._writable.descriptor
        with pipeline.transfers(descriptor.chunk_size) as transfers:
            return Uploading(
                pinned=self._pinned,
                known=known,
                digests=Digests(pipeline.state.stat_cache, descriptor.hash, descriptor.chunk_size),
                descriptor=descriptor,
                sink=sink,
                transfers=transfers,
                progress=progress,
            ).run()

    def _remember(self, entry: Entry, data: bytes, *, used: Collection[str]) -> None:
        remember_manifest(self._pipeline, entry, data)
        uploads = self._journal.sizes().items()
        needless = [(key, size) for key, size in uploads if key not in used]
        with self._pipeline.state.database.transaction():
            _note_pushed(self._pipeline, entry, self._pinned.checkpoint)
            self._index.note_unreferenced(needless, due=entry.at)
            self._journal.clear()
        log.info(
            "checkpoint.committed",
            checkpoint=entry.id,
            engine_id=entry.engine_id,
            bytes=entry.bytes,
            new_bytes=entry.new_bytes,
        )
