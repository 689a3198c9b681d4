"""Heads, entries and manifests to test with, some of them drawn by hypothesis."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from hypothesis import strategies as st

from ckptsync.hashing import Digest, Hash
from ckptsync.model import CheckpointId, Engine
from ckptsync.repository import keys
from ckptsync.repository.descriptor import Descriptor
from ckptsync.repository.files import Chunked, Files, Location, Packed
from ckptsync.repository.head import Entry, Head, ManifestRef, Timeline, Writer
from ckptsync.repository.manifest import Header, Manifest, Totals, WriterStamp, engine_record
from ckptsync.repository.objects import Codec, Frame, StoredObject

REPOSITORY: Final = "11111111-2222-4333-8444-555555555555"
NOW: Final = datetime(2026, 11, 20, 9, 30, 1, 234567, tzinfo=UTC)
CHUNK: Final = 4 << 20
DESCRIPTOR: Final = Descriptor(
    repository_id=REPOSITORY, created_at=NOW, pipeline="orders", chunk_size=CHUNK, pack_below=4096
)


def an_id(seq: int, *, timeline: int = 1) -> CheckpointId:
    """The same for the same number."""
    return CheckpointId(f"{timeline:04x}-{seq:08x}-{seq:012x}")


def an_entry(seq: int, *, timeline: int = 1, step: int | None = None) -> Entry:
    return Entry(
        id=an_id(seq, timeline=timeline),
        seq=seq,
        timeline=timeline,
        epoch=1,
        engine_id=f"ckpt-{seq}",
        step=str(seq if step is None else step),
        at=NOW + timedelta(minutes=seq),
        manifest=ManifestRef(digest=f"{seq:064x}", size=100),
        bytes=10,
        new_bytes=5,
    )


def a_head(*entries: Entry) -> Head:
    return Head(
        repository_id=REPOSITORY,
        revision=1 + len(entries),
        write_id="w",
        epoch=1,
        writer=Writer(node="host-a", node_id="n", instance="i", write_id="w", since=NOW),
        timeline=entries[-1].timeline if entries else 1,
        latest=entries[-1].id if entries else None,
        next_seq=entries[-1].seq + 1 if entries else 1,
        timelines=(Timeline(id=1, epoch=1, reason="create", at=NOW),),
        checkpoints=entries,
    )


def a_manifest(files: Files, *, objects: tuple[StoredObject, ...] = (), seq: int = 1) -> Manifest:
    header = Header(
        checkpoint=an_id(seq),
        repository_id=REPOSITORY,
        timeline=1,
        epoch=1,
        parent=None,
        created_at=NOW,
        writer=WriterStamp(node="host-a", version="ckptsync"),
        sweep_generation=0,
        engine=engine_record(Engine(layout="directory", id=f"ckpt-{seq}", step=seq)),
        totals=Totals(files=len(files), bytes=files.bytes, new_bytes=0, objects=len(objects)),
    )
    return Manifest(header=header, objects=objects, files=files, directories=())


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
digests = st.binary(min_size=32, max_size=32).map(Digest)
u64 = st.integers(min_value=0, max_value=2**64 - 1)
times = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45))]))
paths = st.lists(
    st.text(
        st.characters(exclude_characters="/\\\0", exclude_categories=["Cs"]),
        min_size=1,
        max_size=8,
    ).filter(lambda part: part not in (".", "..")),
    min_size=1,
    max_size=4,
).map("/".join)


def _free_of_collisions(found: list[str]) -> list[str]:
    return [path for path in found if not any(other.startswith(f"{path}/") for other in found)]


@st.composite
def engines(draw: st.DrawFn) -> Engine:
    return Engine(
        layout=draw(text),
        id=draw(text),
        step=draw(u64),
        records=draw(st.none() | u64),
        fingerprint=draw(st.none() | u64),
        lineage=draw(st.none() | text),
        platform_version=draw(st.none() | text),
        metadata=draw(st.none() | st.just('{"fingerprint":17429634829811234567}') | text),
    )


@st.composite
def stored_objects(draw: st.DrawFn) -> StoredObject:
    if draw(st.booleans()):
        lengths = st.tuples(
            st.integers(min_value=1, max_value=1 << 20), st.integers(min_value=4096, max_value=9999)
        )
        frames = tuple(Frame(*each) for each in draw(st.lists(lengths, min_size=1, max_size=3)))
        return StoredObject(
            key=keys.pack(),
            size=sum(frame.stored for frame in frames),
            digest=draw(digests),
            codec=Codec.PACK,
            frames=frames,
        )
    return StoredObject(
        key=keys.chunk(),
        size=draw(st.integers(min_value=1, max_value=CHUNK)),
        digest=draw(digests),
        codec=draw(st.sampled_from([Codec.RAW, Codec.ZSTD])),
    )


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Sound in every way that a reader can check without the objects."""
    objects = tuple(draw(st.lists(stored_objects(), max_size=5)))
    found = draw(st.lists(paths, max_size=12, unique=True))
    split = draw(st.integers(min_value=0, max_value=len(found)))
    free = _free_of_collisions(found)
    files, sizes = Files(), 0
    for path in sorted(path for path in found[:split] if path in free):
        size, digest, location = draw(_contents(objects))
        sizes += size
        mode = draw(st.integers(min_value=0, max_value=0o777))
        mtime = draw(st.integers(min_value=-(2**63), max_value=2**63 - 1))
        files.append(path, size, mode, mtime, digest, location)
    header = Header(
        checkpoint=an_id(draw(st.integers(min_value=1, max_value=2**32 - 1))),
        repository_id=REPOSITORY,
        timeline=1,
        epoch=draw(st.integers(min_value=1, max_value=2**63 - 1)),
        parent=draw(st.none() | st.just(an_id(1))),
        created_at=draw(times),
        writer=WriterStamp(node=draw(text), version=draw(text)),
        sweep_generation=draw(st.integers(min_value=0, max_value=2**40)),
        engine=engine_record(draw(engines())),
        totals=Totals(files=len(files), bytes=sizes, new_bytes=0, objects=len(objects)),
    )
    directories = tuple(sorted(path for path in found[split:] if path in free))
    return Manifest(header=header, objects=objects, files=files, directories=directories)


@st.composite
def _contents(draw: st.DrawFn, objects: tuple[StoredObject, ...]) -> tuple[int, Digest, Location]:
    packs = [number for number, each in enumerate(objects) if each.codec is Codec.PACK]
    chunks = [number for number in range(len(objects)) if number not in packs]
    kind = draw(st.sampled_from(["empty"] + ["packed"] * bool(packs) + ["chunked"] * bool(chunks)))
    digest = draw(digests)
    if kind == "packed":
        number = draw(st.sampled_from(packs))
        frame = draw(st.integers(min_value=0, max_value=len(objects[number].frames) - 1))
        offset = draw(st.integers(min_value=0, max_value=1000))
        return draw(st.integers(min_value=1, max_value=1000)), digest, Packed(number, frame, offset)
    if kind == "chunked":
        count = draw(st.integers(min_value=1, max_value=3))
        found = tuple((draw(st.sampled_from(chunks)), draw(digests)) for _ in range(count))
        size = draw(st.integers(min_value=(count - 1) * CHUNK + 1, max_value=count * CHUNK))
        return size, found[0][1] if count == 1 else digest, Chunked(found)
    return 0, Hash.BLAKE3.of(b""), None
