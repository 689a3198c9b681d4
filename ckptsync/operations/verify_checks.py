"""One run over checkpoints: their manifests, then every object that these refer to."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from ckptsync.errors import CkptsyncError, IntegrityError, NotFound
from ckptsync.hashing import Hash
from ckptsync.model import Progress
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.verify_content import Content
from ckptsync.operations.verify_presence import GONE, absent
from ckptsync.operations.verify_references import References
from ckptsync.repository import keys
from ckptsync.repository.files import Chunked
from ckptsync.repository.head import Entry
from ckptsync.repository.manifest import Manifest
from ckptsync.repository.objects import StoredObject
from ckptsync.repository.repository import Repository

DAMAGE: Final = (NotFound, IntegrityError)
"""The errors that say something of an object, not of the way to it."""

Fault = tuple[str, str]
"""A key, and the rest of a sentence that begins with it."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    faults: Sequence[Sequence[Fault]]
    """Of each entry, in the order in which they were given."""
    objects: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    pipeline: Pipeline
    repository: Repository
    full: bool
    progress: Progress

    def run(self, entries: Sequence[Entry]) -> Checked:
        """Raises UnsupportedFormat, StoreError, Cancelled."""
        references = References(
            chunk_size=self.repository.descriptor.chunk_size, contents=self.full
        )
        read = [self._read_manifest(entry, references) for entry in entries]
        objects = references.objects
        faults = self._object_faults(references)
        return Checked(
            faults=[
                (*own, *((objects[each].key, faults[each]) for each in numbers if each in faults))
                for numbers, own in read
            ],
            objects=len(entries) + len(objects),
            bytes=sum(entry.manifest.size for entry in entries)
            + sum(stored.size for stored in objects),
        )

    def _read_manifest(
        self, entry: Entry, references: References
    ) -> tuple[Sequence[int], Sequence[Fault]]:
        """The numbers of its objects, and what is wrong with the manifest itself."""
        key = keys.manifest(entry.id)
        self.progress(0)
        try:
            manifest = twice(lambda: self.repository.manifest(entry))
        except DAMAGE as error:
            return (), [(key, told(error, self.repository, key))]
        self.progress(entry.manifest.size)
        wrong = [
            (key, f"gives {path!r} a digest that is not that of its chunks")
            for path in wrong_files(manifest, self.repository.descriptor.hash)
        ]
        return references.add(manifest), wrong

    def _object_faults(self, references: References) -> Mapping[int, str]:
        """By the objects' numbers."""
        gone = absent(
            self.pipeline.store,
            references.objects,
            parallel=self.pipeline.parallel,
            stop=self.pipeline.stop,
            progress=self.progress,
        )
        faults: dict[int, str] = {}
        present: list[tuple[int, StoredObject]] = []
        for number, stored in enumerate(references.objects):
            if fault := gone.get((stored.key, stored.size)):
                faults[number] = fault
            else:
                present.append((number, stored))
        if self.full:
            self._read(present, references, faults)
        else:
            self.progress(sum(stored.size for _, stored in present))
        return faults

    def _read(
        self,
        objects: Sequence[tuple[int, StoredObject]],
        references: References,
        faults: dict[int, str],
    ) -> None:
        """Add what is wrong with the bytes of objects that are there."""
        chunk_size = self.repository.descriptor.chunk_size
        content = Content(
            store=self.pipeline.store,
            hash=self.repository.descriptor.hash,
            chunk_size=chunk_size,
            references=references,
            progress=self.progress,
        )

        def reading(number: int, stored: StoredObject) -> Callable[[memoryview], None]:
            def task(buffer: memoryview) -> None:
                if fault := content.fault(number, stored, buffer):
                    faults[number] = fault

            return task

        with self.pipeline.transfers(chunk_size) as transfers:
            for number, stored in objects:
                transfers.submit(transfers.borrow(), reading(number, stored))
            transfers.drain()


def twice(read: Callable[[], T]) -> T:
    """Read again what seems gone or damaged, and believe the second answer."""
    try:
        return read()
    except DAMAGE:
        return read()


def told(error: CkptsyncError, repository: Repository, key: str) -> str:
    """What an error says of an object, without naming the object again."""
    if isinstance(error, NotFound):
        return GONE
    return str(error).removeprefix(f"{repository.named(key)} ")


def wrong_files(manifest: Manifest, hash_: Hash) -> Iterator[str]:
    """The paths of files whose digest is not that of their chunks."""
    for entry in manifest.files:
        if isinstance(entry.location, Chunked) and entry.digest != hash_.of_file(
            digest for _, digest in entry.location.chunks
        ):
            yield entry.path
