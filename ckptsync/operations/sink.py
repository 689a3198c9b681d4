"""Where a push puts new objects."""

from collections.abc import Iterable
from dataclasses import dataclass

from ckptsync.errors import IntegrityError
from ckptsync.hashing import Digest
from ckptsync.repository.objects import StoredObject
from ckptsync.state.journal import Upload, UploadJournal
from ckptsync.stores.base import Body, ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Sink:
    """Where new objects go. An object is journaled once the store has it, never before."""

    store: ObjectStore
    journal: UploadJournal
    generation: int
    """The sweep generation read before any upload of this push begins."""
    read_back: bool
    """For a store that does not verify the checksums it is sent."""

    def store_object(
        self, stored: StoredObject, body: Body, contents: Iterable[tuple[Digest, int, int]]
    ) -> None:
        self.put(stored.key, body)
        self.journal.add(
            Upload(
                key=stored.key,
                generation=self.generation,
                size=stored.size,
                digest=stored.digest,
                codec=stored.codec,
                frames=tuple((frame.stored, frame.raw) for frame in stored.frames),
                contents=tuple(contents),
            )
        )

    def put(self, key: str, body: Body) -> None:
        """Write under a fresh name. Raises IntegrityError if it reads back otherwise."""
        self.store.put(key, body)
        if self.read_back:
            copy = bytearray(len(body))
            self.store.read_into(key, 0, memoryview(copy))
            if copy != body:
                raise IntegrityError(
                    f"{self.store.name}/{key}: what was stored is not what was sent",
                    hint="the store or the network damages data: 'ckptsync doctor' tells more",
                )
