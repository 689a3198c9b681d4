"""Push: what is stored and how, what is refused, and how much is asked of store and disk."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from ckptsync.errors import (
    CheckpointNotFound,
    IntegrityError,
)
from ckptsync.hashing import Hash
from ckptsync.repository import keys
from ckptsync.repository.files import Packed
from ckptsync.repository.objects import Codec
from ckptsync.sources import pin
from ckptsync.sources.base import PinnedFile
from ckptsync.stores.base import ObjectStore
from ckptsync.stores.local import LocalStore
from ckptsync.stores.memory import MemoryStore
from tests.fakes.stores import Call, FaultyStore
from tests.operations.actors import Odd, Sweeper
from tests.operations.invariants import require_sound
from tests.operations.looks import manifest_of, require_restores
from tests.pipelines import (
    CHUNK,
    PACK_BELOW,
    Host,
    a_small_checkpoint,
    noise,
)

SIZES: Final = {
    "0": 0,
    "1": 1,
    "just packed": PACK_BELOW - 1,
    "just not packed": PACK_BELOW,
    "one chunk": CHUNK,
    "two chunks": CHUNK + 1,
}


@pytest.mark.parametrize("hash", Hash)
@pytest.mark.parametrize("kind", ["memory", "local"])
def test_files_of_every_size_come_back_byte_for_byte(
    host: Host,
    bucket: MemoryStore,
    directory_bucket: LocalStore,
    disk: Path,
    hash: Hash,
    kind: str,
) -> None:
    store: ObjectStore = bucket if kind == "memory" else directory_bucket
    hashed = replace(host, hash=hash)
    random_ones = {f"random {name}": noise(size, name) for name, size in SIZES.items()}
    texts = {f"text {name}": (b"0123456789" * size)[:size] for name, size in SIZES.items()}
    top = hashed.checkpoint("ckpt-1", random_ones | texts, directories=("a/b", "ö"))
    (top / "random 1").chmod(0o640)
    (top / "text 1").chmod(0o755)

    hashed.push(store)

    assert require_sound(store) is not None
    require_restores(store, hashed, "ckpt-1", disk)


def test_a_checkpoint_of_nothing_but_empty_files_needs_no_object(
    host: Host, bucket: MemoryStore, disk: Path
) -> None:
    host.checkpoint("ckpt-1", {"a": b"", "b/c": b""}, directories=("d",))

    host.push(bucket)

    assert manifest_of(bucket).objects == ()
    require_restores(bucket, host, "ckpt-1", disk)


def test_what_compresses_is_stored_compressed_and_what_does_not_is_not(
    host: Host, bucket: MemoryStore
) -> None:
    host.checkpoint(
        "ckpt-1",
        {"text": b"abcdefgh" * 100_000, "random": noise(800_000), "both": _half_and_half()},
    )

    host.push(bucket)

    manifest = manifest_of(bucket)
    sizes = {
        entry.path.removeprefix("ckpt-1/"): manifest.objects[entry.location.chunks[0][0]]
        for entry in manifest.files
        if not isinstance(entry.location, Packed | None)
    }
    assert sizes["text"].codec is Codec.ZSTD
    assert sizes["text"].size < 80_000
    assert sizes["random"].codec is sizes["both"].codec is Codec.RAW


def _half_and_half() -> bytes:
    """Looks compressible at its start, and is not on the whole."""
    return b"abcdefgh" * (40 << 10) + noise(CHUNK - (320 << 10))


def sweep_own_uploads(bucket: MemoryStore, _top: Path) -> None:
    Sweeper(store=bucket).sweep()


def change_a_file(_bucket: MemoryStore, top: Path) -> None:
    (top / "chunk").write_bytes(noise(PACK_BELOW + 1, "changed"))


@pytest.mark.parametrize(
    ("meddle", "at"),
    [
        (sweep_own_uploads, keys.MANIFESTS),
        (change_a_file, keys.CHUNKS),
        (change_a_file, keys.PACKS),
    ],
)
def test_progress_ends_at_the_size_of_the_checkpoint_though_the_push_starts_over(
    host: Host, bucket: MemoryStore, meddle: Callable[[MemoryStore, Path], None], at: str
) -> None:
    host.push_new("ckpt-1", bucket)
    top = host.checkpoint("ckpt-2", a_small_checkpoint("ckpt-2"))
    pending = [meddle]

    def decide(_number: int, call: Call) -> None:
        if pending and call.method == "put" and call.key.startswith(at):
            pending.pop()(bucket, top)

    moved: list[int] = []

    entry = host.push(Odd(bucket, decide), progress=moved.append).entry

    assert pending == []
    assert min(moved) < 0
    assert sum(moved) == entry.bytes


# What is refused


def test_where_there_is_no_checkpoint_nothing_is_created(host: Host, bucket: MemoryStore) -> None:
    host.root.mkdir(parents=True)

    with pytest.raises(CheckpointNotFound) as caught:
        host.push(bucket)

    assert caught.value.exit_code == 10
    assert not list(bucket.walk(""))


def test_an_id_that_is_not_there_is_named_in_the_error(host: Host, bucket: MemoryStore) -> None:
    host.checkpoint("ckpt-1", a_small_checkpoint())

    with pytest.raises(CheckpointNotFound, match="no complete checkpoint 'ckpt-9'"):
        host.push(bucket, engine_id="ckpt-9")


def test_a_store_that_alters_bytes_is_noticed_where_it_checks_none(
    host: Host, bucket: MemoryStore
) -> None:
    """Such a store is asked for each object again, before anything refers to it."""

    class Careless(Odd):
        def put_corrupted(self, key: str) -> bool | None:
            del key
            return False

        def put(self, key, body, *, expect=None):  # type: ignore[no-untyped-def]  # as the store
            damaged = bytes(body)[:-1] + b"?" if key.startswith(keys.PACKS) else body
            return super().put(key, damaged, **({"expect": expect} if expect else {}))

    host.checkpoint("ckpt-1", a_small_checkpoint())

    with pytest.raises(IntegrityError, match="what was stored is not what was sent"):
        host.push(Careless(bucket, lambda _number, _call: None))

    seen = require_sound(bucket)
    assert seen is not None
    assert seen.entries == ()


# How much is asked of the store and of the disk


@pytest.mark.timeout(120)
def test_ten_thousand_unchanged_files_cost_five_requests_and_no_reading(
    host: Host, bucket: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = random.Random(1)
    files = {f"{number % 100}/{number}": source.randbytes(100) for number in range(10_000)}
    host.checkpoint("ckpt-1", files)
    host.push(bucket)
    _next_checkpoint(host, 2)
    reads: Counter[str] = Counter()
    read_into = pin.OpenFiles.read_into

    def counted(self: pin.OpenFiles, file: PinnedFile, start: int, into: memoryview) -> None:
        reads[file.path] += 1
        read_into(self, file, start, into)

    monkeypatch.setattr(pin.OpenFiles, "read_into", counted)

    unchanged = FaultyStore(bucket)
    entry = host.push(unchanged).entry
    assert entry.new_bytes == 0
    assert len(_requests(unchanged)) <= 5, unchanged.calls
    assert sum(reads.values()) < 200, "beyond the one in 256 that is always read"

    _next_checkpoint(host, 3)
    for number in range(100):
        path = host.root / "ckpt-3" / f"{number}" / f"{number}"
        path.write_bytes(source.randbytes(100))
    reads.clear()
    changed = FaultyStore(bucket)
    entry = host.push(changed).entry
    assert 10_000 < entry.new_bytes < 200_000
    assert len(_requests(changed)) <= 5 + 6, changed.calls
    assert sum(reads.values()) < 200 + 2 * 100


def _requests(store: FaultyStore) -> list[Call]:
    """Without asking the time: that is in every reply of a service."""
    return [call for call in store.calls if call.method != "now"]


def _next_checkpoint(host: Host, number: int) -> None:
    """The newest checkpoint under its next name: same files, same inodes."""
    (host.root / f"ckpt-{number - 1}").rename(host.root / f"ckpt-{number}")
