"""Bringing what a checkpoint lacks into the staging area, every byte verified on its way."""

from array import array
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Lock
from typing import Final

import structlog

from ckptsync.errors import IntegrityError, NotFound
from ckptsync.hashing import Digest
from ckptsync.model import File, Progress
from ckptsync.operations.pieces import PackPiece, pack_pieces
from ckptsync.operations.transfers import Transfers
from ckptsync.repository import chunks
from ckptsync.repository.files import Chunked, FileEntry, Packed
from ckptsync.repository.manifest import Manifest
from ckptsync.repository.objects import Codec, StoredObject
from ckptsync.repository.repository import Repository
from ckptsync.repository.untrusted import inflate_whole, inflating
from ckptsync.sources.staged_file import StagedFile
from ckptsync.sources.staging import Staging

log = structlog.get_logger()

ANOTHER: Final = "pull another one with --checkpoint ID; 'ckptsync verify' tells which are whole"


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Files to fetch, by number, each content once. Those in packs in order of their place."""

    packed: Sequence[int]
    chunked: Sequence[int]
    empty: Sequence[int]
    bytes: int

    @property
    def files(self) -> int:
        return len(self.packed) + len(self.chunked) + len(self.empty)


def missing(manifest: Manifest, here: Callable[[File], bool]) -> Missing:
    """What is not here, each content asked about once at most where it is not."""
    packed, chunked, empty = array("l"), array("l"), array("l")
    seen: set[Digest] = set()
    size = 0
    for number, entry in enumerate(manifest.files):
        if entry.digest in seen or here(entry):
            continue
        seen.add(entry.digest)
        size += entry.size
        match entry.location:
            case Packed():
                packed.append(number)
            case Chunked():
                chunked.append(number)
            case None:
                empty.append(number)
    in_order = array("l", sorted(packed, key=manifest.files.place_in_packs))
    return Missing(packed=in_order, chunked=chunked, empty=empty, bytes=size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """Fetches what is missing of one checkpoint.

    A chunk is written only after the digest of its stored bytes was found right, a packed file
    only after its own was; a file is complete only when its whole digest follows from these.
    """

    repository: Repository
    manifest: Manifest
    staging: Staging
    transfers: Transfers
    """Not entered yet: `run` does that."""
    progress: Progress

    def run(self, what: Missing) -> None:
        """Raises IntegrityError, NotFound, LocalDiskFull, Cancelled, StoreError."""
        files = self.manifest.files
        for number in what.empty:
            with self.staging.create(files[number]) as staged:
                staged.commit()
        # Left in the reverse order: no file is closed while a thread may still write into it.
        with ExitStack() as unfinished, self.transfers:
            for number in what.chunked:
                self._fetch_chunked(files[number], unfinished)
            limit = self.repository.descriptor.chunk_size
            for piece in pack_pieces(self.manifest, what.packed, limit=limit):
                self.transfers.submit(self.transfers.borrow(), self._fetching(piece))
            self.transfers.drain()

    def _fetch_chunked(self, entry: FileEntry, unfinished: ExitStack) -> None:
        assert isinstance(entry.location, Chunked)
        if (
            self.repository.descriptor.hash.of_file(digest for _, digest in entry.location.chunks)
            != entry.digest
        ):
            raise IntegrityError(
                f"{self._manifest_name}: the digest of {entry.path!r} is not that of its chunks"
            )
        staged = unfinished.enter_context(self.staging.create(entry))
        finish = _Countdown(len(entry.location.chunks), staged.commit)
        spans = chunks.spans(entry.size, self.repository.descriptor.chunk_size)
        for (number, digest), (start, length) in zip(entry.location.chunks, spans, strict=True):
            task = self._chunk_task(
                self.manifest.objects[number], digest, staged, start, length, finish
            )
            self.transfers.submit(self.transfers.borrow(), task)

    def _chunk_task(
        self,
        stored: StoredObject,
        digest: Digest,
        staged: StagedFile,
        start: int,
        length: int,
        finish: Callable[[], None],
    ) -> Callable[[memoryview], None]:
        def fetch(buffer: memoryview) -> None:
            body = buffer[: stored.size]
            self._read(stored, 0, body)
            hash_ = self.repository.descriptor.hash
            if hash_.of(body) != stored.digest:
                raise self._damaged(stored)
            if stored.codec is Codec.RAW:
                if stored.digest != digest or stored.size != length:
                    raise self._damaged(stored)
                staged.write_at(start, body)
            else:
                self._inflate_into(stored, body, digest, staged, start, length)

        def task(buffer: memoryview) -> None:
            self._twice(stored, lambda: fetch(buffer))
            finish()
            self.progress(length)

        return task

    def _twice(self, stored: StoredObject, fetch: Callable[[], None]) -> None:
        """Fetch again what seems damaged: bits flip on the way, too."""
        try:
            fetch()
        except MissingObject:
            raise
        except IntegrityError as error:
            log.warning("download.read_again", key=stored.key, error=str(error))
            fetch()

    def _inflate_into(
        self,
        stored: StoredObject,
        body: memoryview,
        digest: Digest,
        staged: StagedFile,
        start: int,
        length: int,
    ) -> None:
        hasher = self.repository.descriptor.hash.new()
        written = 0
        for piece in inflating(body, what=self.repository.named(stored.key)):
            if written + len(piece) > length:
                raise self._damaged(stored)
            hasher.update(piece)
            staged.write_at(start + written, piece)
            written += len(piece)
        if written != length or hasher.digest() != digest:
            raise self._damaged(stored)

    def _fetching(self, piece: PackPiece) -> Callable[[memoryview], None]:
        written: set[int] = set()

        def fetch(buffer: memoryview) -> None:
            body = buffer[: piece.size]
            self._read(piece.stored, piece.start, body)
            at = 0
            for frame, members in piece.frames:
                length, raw = piece.stored.frames[frame].stored, piece.stored.frames[frame].raw
                self._unpack(piece.stored, body[at : at + length], raw, members, written)
                at += length

        return lambda buffer: self._twice(piece.stored, lambda: fetch(buffer))

    def _unpack(
        self,
        stored: StoredObject,
        frame: memoryview,
        raw: int,
        members: Sequence[int],
        written: set[int],
    ) -> None:
        """Write those members of a frame that are not yet among `written`."""
        missing = [number for number in members if number not in written]
        if not missing:
            return
        what = self.repository.named(stored.key)
        content = memoryview(inflate_whole(frame, size=raw, what=what))
        for number in missing:
            entry = self.manifest.files[number]
            assert isinstance(entry.location, Packed)
            start = entry.location.offset
            data = content[start : start + entry.size]
            if self.repository.descriptor.hash.of(data) != entry.digest:
                raise self._damaged(stored)
            with self.staging.create(entry) as staged:
                staged.write_at(0, data)
                staged.commit()
            written.add(number)
            self.progress(entry.size)

    def _read(self, stored: StoredObject, start: int, into: memoryview) -> None:
        try:
            self.repository.store.read_into(stored.key, start, into)
        except NotFound as error:
            raise MissingObject(
                f"{self.repository.named(stored.key)} is gone, though checkpoint "
                f"{self.manifest.checkpoint} needs it",
                hint=ANOTHER,
            ) from error

    def _damaged(self, stored: StoredObject) -> IntegrityError:
        return IntegrityError(
            f"{self.repository.named(stored.key)} is damaged: its bytes are not what the manifest "
            f"of checkpoint {self.manifest.checkpoint} says",
            hint=ANOTHER,
        )

    @property
    def _manifest_name(self) -> str:
        return f"the manifest of checkpoint {self.manifest.checkpoint}"


class MissingObject(IntegrityError):
    """An object that a committed checkpoint needs is not in the store."""


class _Countdown:
    """Calls a function the nth time it is called itself, from whatever thread."""

    def __init__(self, count: int, then: Callable[[], None]) -> None:
        self._left = count
        self._then = then
        self._lock = Lock()

    def __call__(self) -> None:
        with self._lock:
            self._left -= 1
            done = self._left == 0
        if done:
            self._then()
