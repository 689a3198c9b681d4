"""Bringing the local index up to a head: what it names, and what its manifests refer to."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final

import structlog

from ckptsync.errors import Busy, IntegrityError, NotFound
from ckptsync.model import Progress
from ckptsync.operations.manifests import manifest_bytes
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.transfers import Transfers
from ckptsync.operations.verify_checks import DAMAGE, twice
from ckptsync.repository.head import Entry, Head
from ckptsync.repository.objects import StoredObject
from ckptsync.repository.repository import Repository
from ckptsync.state.index import Index, Row

log = structlog.get_logger()

READER_GRACE: Final = timedelta(hours=24)
"""How long a reader may go on with what it found in an older head."""

_TIMES: Final = 16
"""A manifest's text and what is made of it, against its stored bytes; for the memory it takes."""


def bring_up(
    pipeline: Pipeline,
    repository: Repository,
    head: Head,
    index: Index,
    *,
    now: datetime,
    progress: Progress,
) -> None:
    """Read the pages and manifests that are new to the index; `now` is the store's time.

    The work follows what changed since the last time, not the number of checkpoints. Progress
    gets the bytes of the manifests that are done with.

    Raises IntegrityError, naming it, for what is gone or damaged: without it nobody can tell what
    is referred to; Busy where the head is no longer the newest, and what it named was deleted
    since. Raises UnsupportedFormat; StoreError, Cancelled.
    """
    known = index.pages()
    pages = {page.key: page for page in head.pages}
    found = {
        key: repository.require_page(page, head).entries
        for key, page in pages.items()
        if key not in known
    }
    index.reconcile(
        [row(entry) for entry in head.checkpoints],
        {key: [row(entry, key) for entry in entries] for key, entries in found.items()},
        pages.keys(),
        now=now,
        grace=READER_GRACE,
    )
    unread = index.unread()
    if unread:
        _read(pipeline, repository, _entries(repository, head, unread, found), index, progress)


def row(entry: Entry, page: str | None = None) -> Row:
    return Row(
        id=entry.id,
        seq=entry.seq,
        timeline=entry.timeline,
        at=entry.at,
        state=entry.state,
        retired_at=entry.retired_at,
        engine_id=entry.engine_id,
        bytes=entry.bytes,
        new_bytes=entry.new_bytes,
        digest=entry.manifest.digest,
        manifest_size=entry.manifest.size,
        page=page,
    )


def _entries(
    repository: Repository,
    head: Head,
    rows: Iterable[Row],
    found: Mapping[str, Iterable[Entry]],
) -> list[Entry]:
    """Of these rows; an earlier run may have ended after it had read their page."""
    wanted: dict[str | None, set[str]] = {}
    for each in rows:
        wanted.setdefault(each.page, set()).add(each.id)
    entries = [entry for entry in head.checkpoints if entry.id in wanted.get(None, ())]
    for page in head.pages:
        if page.key in wanted:
            held = found.get(page.key) or repository.require_page(page, head).entries
            entries += [entry for entry in held if entry.id in wanted[page.key]]
    return entries


def _read(
    pipeline: Pipeline,
    repository: Repository,
    entries: Iterable[Entry],
    index: Index,
    progress: Progress,
) -> None:
    waiting = list(entries)
    largest = max(entry.manifest.size for entry in waiting)
    parallel = max(1, min(pipeline.parallel, pipeline.memory // (largest * _TIMES + 1)))

    def reading(entry: Entry) -> Callable[[memoryview], None]:
        def task(_buffer: memoryview) -> None:
            objects = _objects(pipeline, repository, entry)
            index.add(entry.id, ((stored.key, stored.size) for stored in objects))
            progress(entry.manifest.size)

        return task

    log.debug("index.reading", manifests=len(waiting))
    with Transfers(parallel=parallel, buffer_size=0, stop=pipeline.stop) as transfers:
        for entry in waiting:
            transfers.submit(transfers.borrow(), reading(entry))
        transfers.drain()


def _objects(pipeline: Pipeline, repository: Repository, entry: Entry) -> Iterable[StoredObject]:
    def read() -> Iterable[StoredObject]:
        return repository.objects(manifest_bytes(pipeline, repository, entry), entry)

    try:
        return twice(read)
    except DAMAGE as error:
        if _was_forgotten(repository, entry):
            raise Busy(
                f"the list of checkpoints in {repository.store.name} changed while it was read",
                hint="try again",
            ) from error
        raise IntegrityError(
            f"{error}; nothing is deleted while it cannot be told what it refers to",
            hint="put it back from a copy of the bucket; 'ckptsync verify' tells of other damage",
        ) from error


def _was_forgotten(repository: Repository, entry: Entry) -> bool:
    """Whether another node's prune was faster, so that the manifest may be gone by rights."""
    try:
        return repository.find(repository.head().head, entry.id) is None
    except (NotFound, IntegrityError):
        return False  # nothing says so
