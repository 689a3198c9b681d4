"""Which checkpoints are where."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest

from ckptsync.errors import CheckpointNotFound, HeadLost
from ckptsync.model import CheckpointId, Engine, LocalCheckpoint
from ckptsync.operations import listing
from ckptsync.operations.listing import (
    Row,
    Stored,
    details,
    local_checkpoints,
    local_sizes,
    side_by_side,
    stored,
    unpushed,
)
from ckptsync.repository.head import Entry, ManifestRef
from ckptsync.stores.memory import MemoryStore
from tests.pipelines import Host

_THEN = datetime(2026, 1, 1, tzinfo=UTC)


def _local(id: str, fingerprint: int | None = None) -> LocalCheckpoint:
    return LocalCheckpoint(
        engine=Engine(layout="feldera", id=id, step=1, fingerprint=fingerprint), at=_THEN
    )


def _entry(id: str, seq: int = 1, state: Literal["live", "retired", "bad"] = "live") -> Entry:
    return Entry(
        id=CheckpointId(f"0001-{seq:08x}-{'0' * 12}"),
        seq=seq,
        timeline=1,
        epoch=1,
        engine_id=id,
        step="1",
        at=_THEN,
        manifest=ManifestRef(digest="0" * 64, size=1),
        bytes=1,
        new_bytes=1,
        state=state,
    )


def _name(row: Row) -> str:
    found = row.checkpoint
    return found.engine_id if isinstance(found, Entry) else found.engine.id


def test_what_was_never_stored_comes_first_and_the_newest_on_top() -> None:
    found = Stored(name="s", entries=(_entry("b", 2), _entry("a", 1)), latest=_entry("b", 2).id)

    rows = side_by_side([_local("b"), _local("c"), _local("d")], found)

    assert [(_name(row), row.where, row.latest) for row in rows] == [
        ("d", "local", False),
        ("c", "local", False),
        ("b", "both", True),
        ("a", "bucket", False),
    ]


def test_what_only_read_bucket_has_was_never_pushed() -> None:
    seed = Stored(name="seed", read_only=True, entries=(_entry("a"),), latest=_entry("a").id)

    rows = side_by_side([_local("a")], seed)

    assert [(_name(row), row.where) for row in rows] == [("a", "local"), ("a", "read_bucket")]


def test_only_what_no_bucket_has_counted_is_counted_here() -> None:
    local = [_local("a"), _local("b")]

    rows = side_by_side(
        local, Stored(name="s", entries=(_entry("a"),)), sizes=lambda asked: dict.fromkeys(asked, 7)
    )

    assert [(_name(row), row.bytes) for row in rows] == [("b", 7), ("a", _entry("a").bytes)]


def test_the_size_of_a_checkpoint_is_that_of_its_files(tmp_path: Path) -> None:
    host = Host(home=tmp_path)
    for step in (1, 2, 3):
        host.checkpoint(f"step-{step}", {"a": b"x" * step, "b/c": b"12", "empty": b""})
    with host.running(MemoryStore()) as pipeline:
        layout = pipeline.layout
        first, second, third = layout.checkpoints()
        shutil.rmtree(host.root / "step-2")

        assert local_sizes(layout, host.root, [third, second, first]) == {third: 5, first: 3}


def test_nothing_is_opened_for_its_size_where_there_is_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(home=tmp_path)
    for step in (1, 2):
        host.checkpoint(f"step-{step}", {"a": b"1", "b": b"12"})
    with host.running(MemoryStore()) as pipeline:
        found = pipeline.layout.checkpoints()

        monkeypatch.setattr(listing, "_COUNTED", 4)
        assert local_sizes(pipeline.layout, host.root, found) == dict.fromkeys(found, 3)
        monkeypatch.setattr(listing, "_COUNTED", 3)
        assert local_sizes(pipeline.layout, host.root, found) == {}


def test_the_same_id_with_another_fingerprint_is_another_checkpoint() -> None:
    rows = side_by_side([_local("a", fingerprint=7)], Stored(name="s", entries=(_entry("a"),)))

    assert [row.where for row in rows] == ["local", "bucket"]


def test_without_a_bucket_everything_is_local() -> None:
    assert [row.where for row in side_by_side([_local("a")])] == ["local"]


@pytest.mark.parametrize(
    ("entries", "lacking"),
    [
        ((), ["a", "b", "c"]),
        ((_entry("a"),), ["b", "c"]),
        ((_entry("b"),), ["c"]),
        ((_entry("c"),), []),
        ((_entry("c", state="bad"), _entry("a")), ["b", "c"]),
        ((_entry("other"),), ["a", "b", "c"]),
    ],
)
def test_unpushed_is_what_is_newer_than_all_that_is_stored(
    entries: tuple[Entry, ...], lacking: list[str]
) -> None:
    local = [_local("a"), _local("b"), _local("c")]

    assert [each.engine.id for each in unpushed(local, entries)] == lacking


def test_a_host_without_storage_has_no_checkpoints(tmp_path: Path) -> None:
    with Host(home=tmp_path).running(MemoryStore()) as pipeline:
        assert local_checkpoints(pipeline.layout, pipeline.storage_path) == ()


def test_read_bucket_is_listed_while_the_bucket_is_empty(tmp_path: Path) -> None:
    seed, bucket = MemoryStore("seed"), MemoryStore("bucket")
    seeded = Host(home=tmp_path / "a").push_new("step-1", seed)
    host = Host(home=tmp_path / "b")

    with host.running(bucket, seed) as pipeline:
        before = stored(pipeline)
        also = details(pipeline, seeded.id)
    own = host.push_new("step-2", bucket)
    with host.running(bucket, seed) as pipeline:
        after = stored(pipeline)

    assert (before.read_only, after.read_only) == (True, False)
    assert (before.name, before.latest) == (seed.name, seeded.id)
    assert also.source == seed.name
    assert (after.name, [each.id for each in after.entries]) == (bucket.name, [own.id])


@pytest.mark.parametrize("wanted", ["latest", "step-2", "id"])
def test_details_are_found_by_each_name_of_a_checkpoint(tmp_path: Path, wanted: str) -> None:
    store, host = MemoryStore(), Host(home=tmp_path)
    host.push_new("step-1", store)
    entry = host.push_new("step-2", store)

    with host.running(store) as pipeline:
        found = details(pipeline, entry.id if wanted == "id" else wanted)

    assert found.entry == entry
    assert found.manifest.engine.id == "step-2"


def test_a_bucket_that_was_emptied_is_not_listed_as_empty(tmp_path: Path) -> None:
    seed, host = MemoryStore("seed"), Host(home=tmp_path)
    host.push_new("step-1", MemoryStore("bucket"))

    with host.running(MemoryStore("bucket"), seed) as pipeline:
        for look_at in (stored, lambda each: details(each, "latest")):
            with pytest.raises(HeadLost, match="lost, not empty"):
                look_at(pipeline)


def test_details_of_what_is_not_there_are_refused(tmp_path: Path) -> None:
    store, host = MemoryStore(), Host(home=tmp_path)
    with host.running(store) as pipeline, pytest.raises(CheckpointNotFound, match="holds none"):
        details(pipeline, "latest")
    host.push_new("step-1", store)
    with host.running(store) as pipeline, pytest.raises(CheckpointNotFound, match="step-9"):
        details(pipeline, "step-9")
