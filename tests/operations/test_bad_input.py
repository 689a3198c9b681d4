"""A bucket is input: what is wrong with it is an error, and nothing changes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import zstandard

from ckptsync.errors import (
    HeadLost,
    IntegrityError,
    UnsupportedFormat,
)
from ckptsync.hashing import Hash
from ckptsync.repository import keys
from ckptsync.repository import manifest as manifests
from ckptsync.stores.memory import MemoryStore
from tests.operations.actors import edit_head
from tests.operations.victims import require_refused
from tests.pipelines import (
    Host,
    a_small_checkpoint,
    copy_of,
    noise,
    snapshot,
)

DAMAGE: Final[dict[str, Callable[[bytes], bytes]]] = {
    "a flipped bit near the end": lambda data: data[:-3] + bytes([data[-3] ^ 4]) + data[-2:],
    "a flipped bit in the middle": lambda data: (
        data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]
    ),
    "a cut": lambda data: data[: len(data) // 2],
    "nothing": lambda _: b"",
    "noise": lambda data: noise(len(data), "damage"),
}


@pytest.fixture
def filled(host: Host, bucket: MemoryStore) -> MemoryStore:
    """A checkpoint with a pack, a raw and a compressed chunk."""
    host.checkpoint("ckpt-1", a_small_checkpoint())
    host.push(bucket)
    return bucket


def objects(store: MemoryStore) -> list[str]:
    kept = (keys.RECOVER,)
    return sorted(key for key in snapshot(store) if key not in kept)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_object_is_an_integrity_error_and_leaves_nothing(
    filled: MemoryStore, disk: Path, damage: str
) -> None:
    kinds = {key.split("/")[0] for key in objects(filled)}
    assert kinds == {"ckptsync.json", "head.json", "manifests", "chunks", "packs"}
    for number, key in enumerate(objects(filled)):
        if "middle" in damage and "/" not in key:
            continue  # a digit or letter of head or descriptor, for which nothing vouches
        store = copy_of(filled)
        store.put(key, DAMAGE[damage](snapshot(store)[key]))
        victim = Host(home=disk / f"victim-{number}")

        error = require_refused(victim, store, IntegrityError)

        assert error.exit_code == 12
        assert key.split("/")[-1].split(".")[0] in str(error), "the error names the object"


def test_a_missing_object_is_an_integrity_error_and_never_an_absent_checkpoint(
    filled: MemoryStore, disk: Path
) -> None:
    for number, key in enumerate(objects(filled)):
        store = copy_of(filled)
        store.delete([key])

        error = require_refused(
            Host(home=disk / f"victim-{number}"),
            store,
            HeadLost if key == keys.HEAD else IntegrityError,
        )

        assert error.exit_code == 12


# A flipped bit may make another digit or letter of head, for which nothing vouches.
@pytest.mark.parametrize("damage", [each for each in DAMAGE if "middle" not in each])
def test_a_push_onto_a_damaged_repository_changes_nothing(
    filled: MemoryStore, host: Host, damage: str
) -> None:
    host.checkpoint("ckpt-2", a_small_checkpoint(2))
    filled.put(keys.HEAD, DAMAGE[damage](snapshot(filled)[keys.HEAD]))
    stored = snapshot(filled)

    with pytest.raises(IntegrityError):
        host.push(filled)

    assert snapshot(filled) == stored


@pytest.mark.parametrize("key", [keys.HEAD, keys.DESCRIPTOR])
def test_a_newer_format_asks_for_an_upgrade(filled: MemoryStore, disk: Path, key: str) -> None:
    data = snapshot(filled)[key]
    assert b'"version":1' in data or b'"version": 1' in data
    newer = data.replace(b'"version":1', b'"version":2').replace(b'"version": 1', b'"version": 2')
    filled.put(key, newer)

    error = require_refused(Host(home=disk / "victim"), filled, UnsupportedFormat)

    assert error.exit_code == 2
    assert error.hint is not None
    assert "upgrade" in error.hint


def with_manifest(store: MemoryStore, edit: Callable[[dict[str, Any]], object]) -> None:
    """Write the newest checkpoint's manifest anew, and a head that vouches for it."""
    (key,) = [info.key for info in store.walk(keys.MANIFESTS)]
    document = json.loads(zstandard.decompress(snapshot(store)[key], 1 << 24))
    edit(document)
    vouch_for(store, zstandard.compress(json.dumps(document).encode()))


def vouch_for(store: MemoryStore, data: bytes) -> None:
    """Put these bytes in place of the manifest, with a head that names their digest."""
    (key,) = [info.key for info in store.walk(keys.MANIFESTS)]
    store.put(key, data)
    (entry,) = edit_head(store).checkpoints
    reference = entry.manifest.model_copy(
        update={"digest": Hash.BLAKE3.of(data).hex(), "size": len(data)}
    )
    edit_head(store, checkpoints=(entry.model_copy(update={"manifest": reference}),))


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "ckpt-1/../../x",
        "a//b",
        "./a",
        "a\\b",
        "a\0b",
        "",
        "é" * 3000,
    ],
)
def test_a_manifest_that_names_a_path_outside_is_refused(
    filled: MemoryStore, disk: Path, path: str
) -> None:
    with_manifest(filled, lambda document: document["files"][0].update(path=path))

    error = require_refused(Host(home=disk / "victim"), filled, IntegrityError)

    assert "path" in str(error)


def test_a_manifest_whose_path_leads_out_of_its_checkpoint_is_refused(
    filled: MemoryStore, disk: Path
) -> None:
    """Inside the storage root, but where other checkpoints are."""
    with_manifest(filled, lambda document: document["files"][-1].update(path="zzz/file"))
    victim = Host(home=disk / "victim")

    error = require_refused(victim, filled, IntegrityError)

    assert "'zzz/file', which is not in it" in str(error)
    assert not victim.work.exists(), "nothing was fetched"


def _with_wrong_chunk_digests(document: dict[str, Any]) -> None:
    for row in document["objects"]:
        if row[3] != "tar+zstd":
            row[2] = "00" * 32


def _with_frames_said_to_be_longer(document: dict[str, Any]) -> None:
    for row in document["objects"]:
        if row[3] == "tar+zstd":
            row[4] = [[stored, raw + 512] for stored, raw in row[4]]


@pytest.mark.parametrize(
    "edit",
    [
        lambda document: document["files"].pop(),
        lambda document: document["files"].append(document["files"][0]),
        lambda document: document["files"].append(
            {**document["files"][-1], "path": "ckpt-1/text/x"}
        ),
        lambda document: document["files"][0].update(size=1),
        lambda document: document["files"][1].update(digest="00" * 32),
        lambda document: document["files"][1].update(size=-1),
        lambda document: document["files"][1].update(size=2**70),
        lambda document: document["files"][1].update(mtime_ns="9" * 40),
        lambda document: document["files"][1].update(chunks=[[0.5, "00" * 32]], pack=None),
        lambda document: document["files"][1].update(chunks=[[0.5, "00" * 32]]),
        lambda document: document["objects"].pop(),
        lambda document: document["objects"].clear(),
        lambda document: document["objects"][0].__setitem__(1, 1 << 40),
        lambda document: document["objects"][0].__setitem__(0, "../head.json"),
        lambda document: document["objects"][0].__setitem__(0, "head.json"),
        _with_wrong_chunk_digests,
        lambda document: document["objects"][0].__setitem__(3, "brotli"),
        lambda document: document.update(checkpoint="0001-00000001-000000000000"),
        lambda document: document.update(repository_id="another"),
        lambda document: document.update(totals={}),
        lambda document: document.update(directories=["../x"]),
        lambda document: document.update(engine={}),
        lambda document: document.update(files={}),
        lambda document: document.update(timeline=2),
        lambda document: document.update(epoch=2),
        lambda document: document["totals"].update(new_bytes=0),
        lambda document: document["engine"].update(id="ckpt-9"),
        lambda document: document["engine"].update(step="999"),
        lambda document: document["engine"].update(records="1"),
        lambda document: document["engine"].update(lineage="another"),
        lambda document: document["engine"].update(fingerprint="1"),
        _with_frames_said_to_be_longer,
    ],
)
def test_a_manifest_that_does_not_add_up_is_refused(
    filled: MemoryStore, disk: Path, edit: Callable[[dict[str, Any]], object]
) -> None:
    """Although head vouches for it: a bug or an attacker wrote both."""
    with_manifest(filled, edit)

    error = require_refused(Host(home=disk / "victim"), filled, IntegrityError)

    assert error.exit_code == 12


def test_a_manifest_of_a_newer_version_asks_for_an_upgrade(filled: MemoryStore, disk: Path) -> None:
    with_manifest(filled, lambda document: document.update(version=2))

    require_refused(Host(home=disk / "victim"), filled, UnsupportedFormat)


def test_a_manifest_that_inflates_without_end_is_refused(
    filled: MemoryStore, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "INFLATED_LIMIT", 1 << 20)
    vouch_for(filled, zstandard.compress(b" " * (64 << 20)))

    error = require_refused(Host(home=disk / "victim"), filled, IntegrityError)

    assert "inflates to more" in str(error)


def test_a_chunk_that_inflates_to_more_than_its_file_is_refused(
    filled: MemoryStore, disk: Path
) -> None:
    """The manifest is as it should be, but for the digest of the stored bytes."""
    bomb = zstandard.compress(bytes(64 << 20))

    def plant(document: dict[str, Any]) -> None:
        for row in document["objects"]:
            if row[3] == "zstd":
                filled.put(row[0], bomb)
                row[1:3] = [len(bomb), Hash.BLAKE3.of(bomb).hex()]

    with_manifest(filled, plant)

    require_refused(Host(home=disk / "victim"), filled, IntegrityError)


@pytest.mark.parametrize("depth", [33, 900, 990, 1000, 5000, 100_000])
@pytest.mark.parametrize("place", ["head", "header", "file row", "object row", "directory"])
def test_json_that_nests_too_deeply_is_refused(
    filled: MemoryStore, disk: Path, place: str, depth: int
) -> None:
    deep = "[" * depth + "]" * depth
    if place == "head":
        filled.put(keys.HEAD, f'{{"format":"ckptsync/head","version":1,"x":{deep}}}'.encode())
    else:
        field = {"header": "x", "file row": "files", "object row": "objects"}.get(
            place, "directories"
        )
        (key,) = [info.key for info in filled.walk(keys.MANIFESTS)]
        document = json.loads(zstandard.decompress(snapshot(filled)[key], 1 << 24))
        document[field] = ["HERE"] if field != "x" else "HERE"
        vouch_for(filled, zstandard.compress(json.dumps(document).replace('"HERE"', deep).encode()))

    error = require_refused(Host(home=disk / "victim"), filled, IntegrityError)

    assert error.exit_code == 12
