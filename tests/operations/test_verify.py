"""Every kind of damage is found and named, and nothing else is called damage."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import zstandard

from ckptsync.errors import (
    AccessDenied,
    Cancelled,
    CheckpointNotFound,
    HeadLost,
    IntegrityError,
    StoreError,
    Unavailable,
)
from ckptsync.hashing import Hash
from ckptsync.model import Progress, ignore
from ckptsync.operations.verify import VerifyReport, verify
from ckptsync.operations.verify_content import Content
from ckptsync.operations.verify_references import References
from ckptsync.repository import catalog, descriptor, head, keys, manifest
from ckptsync.repository.files import Chunked, FileEntry, Files, Packed
from ckptsync.repository.head import Head
from ckptsync.repository.objects import Codec, StoredObject
from ckptsync.repository.repository import Repository, read_head
from ckptsync.stores.base import Fetched, ObjectInfo, ObjectStore, Version
from ckptsync.stores.local import LocalStore
from ckptsync.stores.memory import MemoryStore
from tests.fakes.stores import FaultyStore
from tests.pipelines import CHUNK, Host, noise, snapshot


def check(
    host: Host,
    store: ObjectStore,
    checkpoints: str = "latest",
    *,
    full: bool = True,
    progress: Progress = ignore,
) -> VerifyReport:
    with host.running(store) as pipeline:
        return verify(pipeline, checkpoints=checkpoints, full=full, progress=progress)


def objects(store: ObjectStore) -> list[StoredObject]:
    """Of the latest checkpoint."""
    found = read_head(store).head
    assert found.latest is not None
    entry = found.entry(found.latest)
    assert entry is not None
    repository = Repository(store=store, descriptor=descriptor.read(store))
    return list(repository.manifest(entry).objects)


def an_object(store: ObjectStore, codec: Codec) -> StoredObject:
    return next(each for each in objects(store) if each.codec is codec)


def read(store: ObjectStore, key: str) -> bytes:
    return store.get(key, limit=1 << 30).data


def flip(store: ObjectStore, key: str, at: int = -1) -> None:
    data = bytearray(read(store, key))
    data[at] ^= 1
    store.put(key, data)


def rewrite_head(store: ObjectStore, **changes: object) -> Head:
    new = read_head(store).head.model_copy(update=changes)
    store.put(keys.HEAD, head.encode(new))
    return new


def problems(report: VerifyReport) -> dict[str, str]:
    """By key; a key of several checkpoints is there once."""
    of_checkpoints = {each.key: each.problem for one in report.checkpoints for each in one.problems}
    return of_checkpoints | {each.key: each.problem for each in report.problems}


class OnceRotten(FaultyStore):
    """Gives one wrong byte the first time that it reads an object."""

    def __init__(self, inner: ObjectStore, key: str) -> None:
        super().__init__(inner)
        self._key = key
        self.asked = 0

    def read_into(self, key: str, start: int, into: memoryview) -> None:
        super().read_into(key, start, into)
        if key == self._key:
            self.asked += 1
            if self.asked == 1:
                into[0] ^= 1


@pytest.mark.parametrize("full", [False, True])
def test_a_sound_checkpoint_is_sound_in_every_store(
    store: ObjectStore, host: Host, full: bool
) -> None:
    entry = host.push_new("ckpt-1", store)

    report = check(host, store, full=full)

    assert report.sound
    assert [each.entry for each in report.checkpoints] == [entry]
    assert report.objects == len(objects(store)) + 1
    assert report.bytes == sum(each.size for each in objects(store)) + entry.manifest.size


@pytest.mark.parametrize("full", [False, True])
def test_nothing_is_written_and_progress_adds_up(
    bucket: MemoryStore, host: Host, full: bool
) -> None:
    host.push_new("ckpt-1", bucket)
    before = snapshot(bucket)
    moved: list[int] = []
    spy = FaultyStore(bucket)

    report = check(host, spy, full=full, progress=moved.append)

    assert snapshot(bucket) == before
    assert {call.method for call in spy.calls} <= {"get", "walk", "stat", "read_into"}
    assert sum(moved) == report.bytes


def test_another_host_without_any_state_can_verify(
    bucket: MemoryStore, host: Host, other: Host
) -> None:
    host.push_new("ckpt-1", bucket)

    assert check(other, bucket, "all").sound
    assert not other.root.exists()


@pytest.mark.parametrize("codec", list(Codec))
@pytest.mark.parametrize("full", [False, True])
def test_a_missing_object_is_named(
    bucket: MemoryStore, host: Host, codec: Codec, full: bool
) -> None:
    host.push_new("ckpt-1", bucket)
    gone = an_object(bucket, codec).key
    bucket.delete([gone])

    report = check(host, bucket, full=full)

    assert not report.sound
    assert problems(report) == {gone: "is gone"}


@pytest.mark.parametrize("codec", list(Codec))
def test_a_truncated_object_is_found_without_reading_it(
    bucket: MemoryStore, host: Host, codec: Codec
) -> None:
    host.push_new("ckpt-1", bucket)
    short = an_object(bucket, codec)
    bucket.put(short.key, read(bucket, short.key)[:-1])
    spy = FaultyStore(bucket)

    report = check(host, spy, full=False)

    assert problems(report) == {
        short.key: f"has {short.size - 1:,} bytes, where {short.size:,} were stored"
    }
    assert all(call.method != "read_into" for call in spy.calls)


@pytest.mark.parametrize("at", [0, -1])
@pytest.mark.parametrize("codec", list(Codec))
def test_a_flipped_bit_is_found_by_reading(
    bucket: MemoryStore, host: Host, codec: Codec, at: int
) -> None:
    host.push_new("ckpt-1", bucket)
    rotten = an_object(bucket, codec).key
    flip(bucket, rotten, at)

    assert check(host, bucket, full=False).sound
    assert problems(check(host, bucket)) == {
        rotten: "is damaged: its bytes are not those that were stored"
    }


def test_a_foreign_object_of_the_same_size_is_found(bucket: MemoryStore, host: Host) -> None:
    host.checkpoint("ckpt-1", {"a": noise(CHUNK, "a"), "b": noise(CHUNK, "b")})
    host.push(bucket)
    one, two = (each.key for each in objects(bucket) if each.codec is Codec.RAW)
    bucket.put(one, read(bucket, two))

    assert set(problems(check(host, bucket))) == {one}


def test_a_wrong_byte_that_a_second_read_does_not_show_is_no_damage(
    bucket: MemoryStore, host: Host
) -> None:
    host.push_new("ckpt-1", bucket)
    once = OnceRotten(bucket, an_object(bucket, Codec.RAW).key)

    assert check(host, once).sound
    assert once.asked == 2


@pytest.mark.parametrize("full", [False, True])
def test_a_damaged_or_missing_manifest_is_named(
    bucket: MemoryStore, host: Host, full: bool
) -> None:
    rotten = keys.manifest(host.push_new("ckpt-1", bucket).id)
    gone = keys.manifest(host.push_new("ckpt-2", bucket).id)
    host.push_new("ckpt-3", bucket)
    flip(bucket, rotten)
    bucket.delete([gone])

    report = check(host, bucket, "all", full=full)

    assert [each.sound for each in report.checkpoints] == [True, False, False]
    assert problems(report)[gone] == "is gone"
    assert problems(report)[rotten].startswith("is damaged: its digest is not ")


def test_a_damaged_object_makes_every_checkpoint_unsound_that_needs_it(
    bucket: MemoryStore, host: Host
) -> None:
    shared = noise(CHUNK, "shared")
    for name in ("ckpt-1", "ckpt-2"):
        host.checkpoint(name, {"shared": shared, "own": noise(CHUNK, name)})
        host.push(bucket, engine_id=name)
    host.push_new("ckpt-3", bucket)
    (holding,) = (info.key for info in bucket.walk("chunks/") if read(bucket, info.key) == shared)
    flip(bucket, holding)

    report = check(host, bucket, "all")

    assert [each.sound for each in report.checkpoints] == [True, False, False]
    assert set(problems(report)) == {holding}


def test_shared_objects_are_read_once(bucket: MemoryStore, host: Host) -> None:
    files = {f"f{number}": noise(600, number) for number in range(40)} | {"big": noise(CHUNK)}
    for name in ("ckpt-1", "ckpt-2", "ckpt-3"):
        host.checkpoint(name, files | {"own": noise(100, name)})
        host.push(bucket, engine_id=name)
    spy = FaultyStore(bucket)

    report = check(host, spy, "all")

    reads = Counter(call.key for call in spy.calls if call.method == "read_into")
    assert report.sound
    assert len(report.checkpoints) == 3
    assert set(reads.values()) == {1}
    assert report.objects == len(reads) + 3


def forge(store: ObjectStore, change: Callable[[FileEntry], FileEntry]) -> str:
    """Rewrite the files of the one manifest there is, and let head name the result; its key."""
    repository = Repository(store=store, descriptor=descriptor.read(store))
    found = read_head(store).head
    (entry,) = found.checkpoints
    honest = repository.manifest(entry)
    files = Files()
    for each in map(change, honest.files):
        files.append(each.path, each.size, each.mode, each.mtime_ns, each.digest, each.location)
    data = manifest.encode(replace(honest, files=files))
    store.put(keys.manifest(entry.id), data)
    reference = head.ManifestRef(digest=repository.descriptor.hash.of(data).hex(), size=len(data))
    rewrite_head(store, checkpoints=(entry.model_copy(update={"manifest": reference}),))
    return keys.manifest(entry.id)


def test_a_pack_that_does_not_hold_what_a_manifest_says_is_found(
    bucket: MemoryStore, host: Host
) -> None:
    def shift(entry: FileEntry) -> FileEntry:
        match entry.location:
            case Packed(number, frame, offset) if entry.path.endswith("/below"):
                return replace(entry, location=Packed(number, frame, offset - 512))
        return entry

    host.push_new("ckpt-1", bucket)
    forge(bucket, shift)
    pack = an_object(bucket, Codec.PACK).key

    assert check(host, bucket, full=False).sound
    assert problems(check(host, bucket)) == {
        pack: "holds other bytes than the files of the manifest need from its frame 0"
    }


@pytest.mark.parametrize("data", [noise(CHUNK), bytes(CHUNK)], ids=["raw", "zstd"])
def test_a_chunk_that_does_not_hold_what_a_manifest_says_is_found(
    bucket: MemoryStore, host: Host, data: bytes
) -> None:
    other = Hash.BLAKE3.of(b"other")

    def claim(entry: FileEntry) -> FileEntry:
        assert isinstance(entry.location, Chunked)
        ((number, _),) = entry.location.chunks
        return replace(entry, digest=other, location=Chunked(((number, other),)))

    host.checkpoint("ckpt-1", {"big": data})
    host.push(bucket)
    forge(bucket, claim)
    (chunk,) = objects(bucket)

    assert check(host, bucket, full=False).sound
    assert problems(check(host, bucket)) == {
        chunk.key: "holds other bytes than the files of the manifest need"
    }


def test_a_chunk_that_inflates_without_end_is_found(bucket: MemoryStore, host: Host) -> None:
    host.checkpoint("ckpt-1", {"big": bytes(CHUNK)})
    host.push(bucket)
    (stored,) = objects(bucket)
    bomb = zstandard.compress(bytes(64 * CHUNK))
    bucket.put(stored.key, bomb)
    claimed = replace(stored, size=len(bomb), digest=Hash.BLAKE3.of(bomb))
    references = References(chunk_size=CHUNK, contents=True)
    content = Content(
        store=bucket,
        hash=Hash.BLAKE3,
        chunk_size=CHUNK,
        references=references,
        progress=ignore,
    )

    assert content.fault(0, claimed, memoryview(bytearray(CHUNK))) == (
        f"the chunk inflates to more than {CHUNK} bytes"
    )


@pytest.mark.parametrize("full", [False, True])
def test_a_file_whose_digest_is_not_that_of_its_chunks_is_found(
    bucket: MemoryStore, host: Host, full: bool
) -> None:
    host.checkpoint("ckpt-1", {"big": noise(2 * CHUNK)})
    host.push(bucket)
    key = forge(bucket, lambda entry: replace(entry, digest=Hash.BLAKE3.of(b"other")))

    assert problems(check(host, bucket, full=full)) == {
        key: "gives 'ckpt-1/big' a digest that is not that of its chunks"
    }


def spill(store: ObjectStore) -> str:
    """Move all checkpoints but the latest into a catalog page; its key."""
    found = read_head(store).head
    old = [entry for entry in found.checkpoints if entry.id != found.latest]
    page = catalog.CatalogPage(repository_id=found.repository_id, entries=tuple(old))
    data = zstandard.compress(page.model_dump_json().encode())
    key = keys.catalog()
    store.put(key, data)
    named = head.Page(
        key=key,
        digest=descriptor.read(store).hash.of(data).hex(),
        seq=(old[0].seq, old[-1].seq),
        count=len(old),
    )
    rewrite_head(
        store,
        pages=(named,),
        checkpoints=tuple(entry for entry in found.checkpoints if entry not in old),
    )
    return key


def test_checkpoints_in_catalog_pages_are_verified_too(bucket: MemoryStore, host: Host) -> None:
    pushed = [host.push_new(f"ckpt-{number}", bucket) for number in range(1, 4)]
    spill(bucket)

    report = check(host, bucket, "all")

    assert report.sound
    assert [each.entry for each in report.checkpoints] == pushed[::-1]
    assert [each.entry for each in check(host, bucket, "ckpt-1").checkpoints] == [pushed[0]]


@pytest.mark.parametrize("damage", [flip, lambda store, key: store.delete([key])])
def test_a_damaged_catalog_page_is_named_and_the_rest_is_verified(
    bucket: MemoryStore, host: Host, damage: Callable[[ObjectStore, str], None]
) -> None:
    for number in range(1, 4):
        newest = host.push_new(f"ckpt-{number}", bucket)
    page = spill(bucket)
    damage(bucket, page)

    report = check(host, bucket, "all")

    assert not report.sound
    assert set(problems(report)) == {page}
    assert [(each.entry, each.sound) for each in report.checkpoints] == [(newest, True)]
    assert check(host, bucket, "latest").sound, "the latest does not lie in that page"


def test_a_damaged_head_or_descriptor_is_an_integrity_error(
    bucket: MemoryStore, host: Host
) -> None:
    host.push_new("ckpt-1", bucket)
    kept = read(bucket, keys.HEAD)
    for damaged in (kept[:-5], b"", b"\xff" + kept):
        bucket.put(keys.HEAD, damaged)
        with pytest.raises(IntegrityError, match=r"head\.json"):
            check(host, bucket)
    bucket.delete([keys.HEAD])
    with pytest.raises(HeadLost):
        check(host, bucket)
    bucket.put(keys.HEAD, kept)
    flip(bucket, keys.DESCRIPTOR, 0)
    with pytest.raises(IntegrityError, match=r"ckptsync\.json"):
        check(host, bucket)


def test_a_head_whose_latest_is_not_live_is_found(bucket: MemoryStore, host: Host) -> None:
    first, second = host.push_new("ckpt-1", bucket), host.push_new("ckpt-2", bucket)
    bad = second.model_copy(update={"state": "bad"})
    rewrite_head(bucket, checkpoints=(first, bad))

    report = check(host, bucket, "all")

    assert problems(report) == {keys.HEAD: f"latest is checkpoint {second.id}, which is bad"}
    assert all(each.sound for each in report.checkpoints)


def test_a_head_whose_latest_does_not_exist_is_found(bucket: MemoryStore, host: Host) -> None:
    host.push_new("ckpt-1", bucket)
    stranger = keys.checkpoint(timeline=1, seq=1)
    rewrite_head(bucket, latest=stranger)

    report = check(host, bucket)

    assert not report.checkpoints
    assert problems(report) == {
        keys.HEAD: f"latest is checkpoint {stranger}, which is not among the checkpoints"
    }


@pytest.mark.parametrize("full", [False, True])
def test_an_error_of_the_store_is_never_reported_as_damage(
    bucket: MemoryStore, host: Host, full: bool
) -> None:
    host.push_new("ckpt-1", bucket)
    gone = an_object(bucket, Codec.PACK).key
    bucket.delete([gone])  # so that there is something to report, too
    counted = FaultyStore(bucket)
    check(host, counted, full=full)
    assert len(counted.calls) > 5
    for number in range(len(counted.calls)):
        for kind in (Unavailable, AccessDenied):
            error: StoreError = kind("s3://dr/orders", "read", "x", "so it is")
            with pytest.raises(kind):
                check(host, FaultyStore(bucket, fail_at={number: error}), full=full)


def test_what_a_listing_does_not_show_is_asked_for_by_name(bucket: MemoryStore, host: Host) -> None:
    class Forgetful(MemoryStore):
        """Its listings lag behind."""

        def walk(self, prefix: str) -> Iterator[ObjectInfo]:
            return iter(())

    host.push_new("ckpt-1", bucket)
    lagging = Forgetful(bucket.name)
    lagging._objects = bucket._objects

    assert check(host, lagging, full=False).sound


def test_many_objects_are_found_by_listing_and_few_among_many_are_not(
    bucket: MemoryStore, host: Host
) -> None:
    for name in ("ckpt-1", "ckpt-2"):
        host.checkpoint(name, {f"f{n}": noise(CHUNK // 256, (name, n)) for n in range(20)})
        host.push(bucket, engine_id=name)
    spy = FaultyStore(bucket)
    check(host, spy, "all", full=False)
    assert Counter(call.method for call in spy.calls) == {"get": 4, "walk": 1}

    host.checkpoint("ckpt-3", {"only": noise(CHUNK, 3)})
    host.push(bucket)
    spy = FaultyStore(bucket)
    check(host, spy, "latest", full=False)
    assert Counter(call.method for call in spy.calls) == {"get": 3, "stat": 1}


def test_a_checkpoint_that_is_forgotten_meanwhile_is_no_damage(
    bucket: MemoryStore, host: Host
) -> None:
    host.push_new("ckpt-1", bucket)
    newest = host.push_new("ckpt-2", bucket)
    (mine,) = {each.key for each in objects(bucket) if each.codec is Codec.RAW}
    old = next(
        info.key for info in bucket.walk(keys.MANIFESTS) if info.key != keys.manifest(newest.id)
    )

    class Swept(FaultyStore):
        """Retention and a sweep strike once head was read."""

        def get(self, key: str, *, limit: int, unless: Version | None = None) -> Fetched:
            found = super().get(key, limit=limit, unless=unless)
            if key == keys.HEAD and old in {info.key for info in bucket.walk("")}:
                rewrite_head(bucket, checkpoints=(newest,))
                bucket.delete([old])
            return found

    report = check(host, Swept(bucket), "all")

    assert report.sound
    assert [each.entry for each in report.checkpoints] == [newest]
    bucket.delete([mine])
    assert not check(host, bucket, "all").sound


def test_what_is_not_there_to_verify_is_an_error(bucket: MemoryStore, host: Host) -> None:
    for wanted in ("latest", "all", "ckpt-1"):
        with pytest.raises(CheckpointNotFound):
            check(host, bucket, wanted)
    host.push_new("ckpt-1", bucket)
    with pytest.raises(CheckpointNotFound, match="ckpt-9"):
        check(host, bucket, "ckpt-9")


def test_a_bucket_that_was_emptied_lost_its_list(bucket: MemoryStore, host: Host) -> None:
    host.push_new("ckpt-1", bucket)
    bucket.delete([info.key for info in bucket.walk("")])

    with pytest.raises(HeadLost, match="lost, not empty"):
        check(host, bucket)


def test_a_stop_ends_the_run(bucket: MemoryStore, host: Host) -> None:
    host.push_new("ckpt-1", bucket)
    stop = threading.Event()
    stop.set()

    with host.running(bucket) as pipeline, pytest.raises(Cancelled):
        verify(replace(pipeline, stop=stop), checkpoints="latest", full=True, progress=ignore)


def test_a_flipped_bit_on_a_disk_is_found(directory_bucket: LocalStore, host: Host) -> None:
    host.push_new("ckpt-1", directory_bucket)
    rotten = an_object(directory_bucket, Codec.RAW).key
    flip(directory_bucket, rotten)

    assert set(problems(check(host, directory_bucket))) == {rotten}
