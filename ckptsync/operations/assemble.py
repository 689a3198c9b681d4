"""From what was stored to the manifest that says so. Reads and writes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from ckptsync import __version__
from ckptsync.hashing import Digest
from ckptsync.model import CheckpointId
from ckptsync.operations.contents import Contents
from ckptsync.repository import keys
from ckptsync.repository.epochs import Line, timeline_after
from ckptsync.repository.files import Chunked, Files, Location, Packed
from ckptsync.repository.head import Head
from ckptsync.repository.known import Known
from ckptsync.repository.manifest import Header, Manifest, Totals, WriterStamp, engine_record
from ckptsync.repository.objects import StoredObject
from ckptsync.sources.base import Pinned, PinnedFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    manifest: Manifest
    own: Mapping[str, int]
    """The own uploads it refers to, with their sweep generations."""


class _Renumbering:
    """The objects a manifest really uses, numbered in order of first use."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._numbers: dict[int, int] = {}

    def __call__(self, number: int) -> int:
        return self._numbers.setdefault(number, len(self._numbers))

    def objects(self) -> tuple[StoredObject, ...]:
        return tuple(self._known.object(number) for number in self._numbers)

    def own(self) -> dict[str, int]:
        generations = {number: self._known.generation(number) for number in self._numbers}
        return {
            self._known.object(number).key: generation
            for number, generation in generations.items()
            if generation is not None
        }


def assemble(
    *,
    pinned: Pinned,
    contents: Contents,
    known: Known,
    pack_below: int,
    head: Head,
    line: Line,
    parent: CheckpointId | None,
    node: str,
    at: datetime,
) -> Assembled:
    """The manifest of the next checkpoint on a head, under a fresh id."""
    used = _Renumbering(known)
    files = Files()
    for file in pinned.files:
        found = contents[file]
        location = _locate(file, found.chunks, known, pack_below, used)
        files.append(file.path, file.size, file.mode, file.mtime_ns, found.digest, location)
    timeline = timeline_after(head) if line.forks is not None else head.timeline
    objects, own = used.objects(), used.own()
    header = Header(
        checkpoint=keys.checkpoint(timeline=timeline, seq=head.next_seq),
        repository_id=head.repository_id,
        timeline=timeline,
        epoch=head.epoch,
        parent=parent,
        created_at=at,
        writer=WriterStamp(node=node, version=f"ckptsync {__version__}"),
        sweep_generation=head.sweep.generation,
        engine=engine_record(pinned.checkpoint.engine),
        totals=Totals(
            files=len(files),
            bytes=files.bytes,
            new_bytes=sum(stored.size for stored in objects if stored.key in own),
            objects=len(objects),
        ),
    )
    manifest = Manifest(
        header=header, objects=objects, files=files, directories=tuple(pinned.directories)
    )
    return Assembled(manifest=manifest, own=own)


def _locate(
    file: PinnedFile,
    chunks: tuple[Digest, ...],
    known: Known,
    pack_below: int,
    used: _Renumbering,
) -> Location:
    if not file.size:
        return None
    if file.size < pack_below:
        at = known.member(chunks[0])
        if at is None:
            raise AssertionError(f"{file.path} was never stored")
        return Packed(used(at.object), at.frame, at.offset)
    located: list[tuple[int, Digest]] = []
    for digest in chunks:
        number = known.chunk(digest)
        if number is None:
            raise AssertionError(f"{file.path} was never stored")
        located.append((used(number), digest))
    return Chunked(tuple(located))
