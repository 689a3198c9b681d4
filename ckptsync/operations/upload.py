"""Storing the content of a pinned checkpoint: every byte that no known object holds yet."""

from collections.abc import Iterator
from dataclasses import dataclass

from ckptsync.errors import Vanished
from ckptsync.hashing import Digest
from ckptsync.model import FileDigest, Progress
from ckptsync.operations.contents import Contents
from ckptsync.operations.sink import Sink
from ckptsync.operations.transfers import Transfers
from ckptsync.repository import chunks, keys
from ckptsync.repository.descriptor import Descriptor
from ckptsync.repository.known import Known
from ckptsync.repository.objects import Codec, StoredObject
from ckptsync.repository.packs import PackBuilder
from ckptsync.sources.base import Pinned, PinnedFile
from ckptsync.sources.digests import Digests


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploading:
    """One push's walk over its files. After `run`, `known` has a place for all their content."""

    pinned: Pinned
    known: Known
    digests: Digests
    descriptor: Descriptor
    sink: Sink
    transfers: Transfers
    progress: Progress

    def run(self) -> Contents:
        """Raises Vanished if a file changed or went away; Cancelled; StoreError."""
        contents = Contents(len(self.pinned.files))
        scratch = memoryview(bytearray(max(1, self.descriptor.pack_below)))
        self._digest_small(contents, scratch)
        self.known.drop_sparse_packs(
            (contents[file].digest, file.size) for file in self._small() if file.size
        )
        for file in self.pinned.files:
            if file.size >= self.descriptor.pack_below:
                self._store_large(file, contents)
        for shared in (False, True):
            self._store_small(contents, scratch, shared=shared)
        self.transfers.drain()
        self._remember_large(contents)
        self.digests.flush()
        return contents

    def _small(self) -> Iterator[PinnedFile]:
        return (file for file in self.pinned.files if file.size < self.descriptor.pack_below)

    def _digest_small(self, contents: Contents, scratch: memoryview) -> None:
        """Before any is stored, so that it is known how much of each old pack is still wanted."""
        for file in self._small():
            found = self.digests.known(self.pinned, file)
            if found is None:
                digest = self.descriptor.hash.of(self._read(file, scratch))
                found = FileDigest(digest=digest, chunks=(digest,) if file.size else ())
                self.digests.remember(self.pinned, file, found)
            contents[file] = found
            self.progress(0)

    def _read(self, file: PinnedFile, scratch: memoryview) -> memoryview:
        content = scratch[: file.size]
        self.pinned.read_into(file, 0, content)
        return content

    def _store_small(self, contents: Contents, scratch: memoryview, *, shared: bool) -> None:
        """Pack what is new. Files that die with the checkpoint share no pack with others."""
        packing: _Packing | None = None
        for file in self._small():
            if file.shared is not shared:
                continue
            digest = contents[file].digest
            if file.size and self.known.member(digest) is None:
                content = self._read(file, scratch)
                if self.descriptor.hash.of(content) != digest:
                    raise self._changed(file)
                if packing is not None and not packing.builder.fits(file.size):
                    self._send(packing)
                    packing = None
                packing = packing or self._new_pack()
                at = packing.builder.add(digest, content)
                packing.members.append((digest, at.frame, at.offset))
                self.known.add_member(digest, at)
            self.progress(file.size)
        if packing is not None:
            self._send(packing)

    def _new_pack(self) -> "_Packing":
        buffer = self.transfers.borrow()
        number = self.known.new_number()
        builder = PackBuilder(keys.pack(), number, buffer, target=self.descriptor.pack_target)
        return _Packing(number=number, builder=builder, buffer=buffer, members=[])

    def _send(self, packing: "_Packing") -> None:
        def task(_buffer: memoryview) -> None:
            stored, body = packing.builder.finish(self.descriptor.hash)
            self.sink.store_object(stored, body, packing.members)
            self.known.add_object(packing.number, stored, generation=self.sink.generation)

        self.transfers.submit(packing.buffer, task)

    def _store_large(self, file: PinnedFile, contents: Contents) -> None:
        cached = self.digests.known(self.pinned, file)
        found = contents.begin_large(file, self.descriptor.chunk_size)
        if cached is not None:
            found[:] = cached.chunks
        for number, (start, length) in enumerate(
            chunks.spans(file.size, self.descriptor.chunk_size)
        ):
            digest = found[number]
            if digest is not None and self.known.chunk(digest) is not None:
                self.progress(length)
            else:
                self._submit_chunk(file, start, length, found, number)

    def _submit_chunk(
        self, file: PinnedFile, start: int, length: int, found: list[Digest | None], number: int
    ) -> None:
        def task(buffer: memoryview) -> None:
            raw = buffer[:length]
            self.pinned.read_into(file, start, raw)
            digest = self.descriptor.hash.of(raw)
            if found[number] not in (None, digest):
                raise self._changed(file)
            if self.known.chunk(digest) is None:
                self._store_chunk(file, start, raw, digest)
            found[number] = digest
            self.progress(length)

        self.transfers.submit(self.transfers.borrow(), task)

    def _store_chunk(self, file: PinnedFile, start: int, raw: memoryview, digest: Digest) -> None:
        body = chunks.compress_in_place(raw) if chunks.compressible(raw) else raw
        if body is None:
            body = raw
            self.pinned.read_into(file, start, raw)
            if self.descriptor.hash.of(raw) != digest:
                raise self._changed(file)
        stored_digest = digest if body is raw else self.descriptor.hash.of(body)
        stored = StoredObject(
            key=keys.chunk(),
            size=len(body),
            digest=stored_digest,
            codec=Codec.RAW if body is raw else Codec.ZSTD,
        )
        self.sink.store_object(stored, body, ((digest, 0, 0),))
        object_number = self.known.new_number()
        self.known.add_object(object_number, stored, generation=self.sink.generation)
        self.known.add_chunk(digest, object_number)

    def _changed(self, file: PinnedFile) -> Vanished:
        """What to raise for a file whose bytes are not those that were digested."""
        self.pinned.confirm()  # a change that shows says nothing of the cache
        return self.digests.disproved(self.pinned, file)

    def _remember_large(self, contents: Contents) -> None:
        for file in self.pinned.files:
            if file.size >= self.descriptor.pack_below:
                contents.finish_large(file, self.descriptor.hash)
                self.digests.remember(self.pinned, file, contents[file])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Packing:
    """A pack that is being filled."""

    number: int
    builder: PackBuilder
    buffer: memoryview
    members: list[tuple[Digest, int, int]]
