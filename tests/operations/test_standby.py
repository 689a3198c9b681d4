"""A standby polls: what is new is fetched once, verified, and ready to be published."""

import os
import shutil
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from ckptsync.errors import Cancelled, IntegrityError, Refused, SourceError, Unavailable
from ckptsync.model import ignore
from ckptsync.operations.pipeline import StandbySettings
from ckptsync.operations.standby import Poll, Standby
from ckptsync.repository import keys
from ckptsync.repository.repository import read_head
from ckptsync.sources.digests import Digests
from ckptsync.stores.base import ObjectStore
from ckptsync.stores.memory import MemoryStore
from tests.fakes.stores import Call, FaultyStore
from tests.operations.actors import Odd, edit_head
from tests.operations.standbys import (
    Counting,
    activate,
    asked,
    fetched,
    poll,
    repository_and_head,
    require_ready,
    standing_by,
)
from tests.pipelines import (
    CHUNK,
    PACK_BELOW,
    Host,
    a_small_checkpoint,
    contents,
    noise,
    wanted,
)


def engine_id(polled: Poll) -> str | None:
    return None if polled.warm is None else polled.warm.entry.engine_id


def test_what_is_new_is_held_and_nothing_is_seen_in_the_storage(
    two_pushed: ObjectStore, host: Host, other: Host
) -> None:
    head = read_head(two_pushed).head

    polled = poll(other, two_pushed)

    assert polled.head == head
    assert polled.staged == polled.warm
    assert polled.warm is not None
    assert polled.warm.entry == head.checkpoints[-1]
    assert (polled.warm.source, polled.warm.read_only) == (two_pushed.name, False)
    assert polled.fetched == sum(map(len, a_small_checkpoint().values())) - 700 + PACK_BELOW + 9
    assert not other.root.exists()
    require_ready(other, "ckpt-2", contents(host.root / "ckpt-2"))


def test_a_poll_with_nothing_new_is_one_request(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    entry = host.push_new("ckpt-1", bucket)
    store = Counting(bucket)
    with standing_by(other, store) as standby:
        first = standby.poll(progress=ignore)
        asked(store)

        for number in range(3):
            again = standby.poll(progress=ignore)

            assert asked(store) == ["get head.json"]
            assert store.unchanged == number + 1, "a 304"
            assert again.head == first.head == read_head(bucket).head
            assert again.warm == first.warm
            assert again.warm is not None
            assert again.warm.entry == entry
            assert (again.staged, again.fetched) == (None, 0)


def test_a_head_that_moved_without_a_new_checkpoint_is_one_request_too(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    """A release to this very node, for example."""
    host.push_new("ckpt-1", bucket)
    store = FaultyStore(bucket)
    with standing_by(other, store) as standby:
        standby.poll(progress=ignore)
        writer = read_head(bucket).head.writer
        edit_head(bucket, writer=writer.model_copy(update={"released_to": "host-b"}))
        asked(store)

        polled = standby.poll(progress=ignore)
        assert asked(store) == ["get head.json"]
        assert polled.head is not None
        assert polled.head.writer.released_to == "host-b"
        assert polled.staged is None

        assert standby.poll(progress=ignore).head == polled.head
        assert asked(store) == ["get head.json"]


def test_no_byte_is_fetched_or_hashed_twice(
    host: Host, other: Host, bucket: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = {f"{number}": noise(PACK_BELOW, number) for number in range(5)}
    store, read = FaultyStore(bucket), list[Path]()
    of_path = Digests.of_path

    def counted(self: Digests, path: Path, **how: object) -> object:
        read.append(path)
        return of_path(self, path, **how)  # type: ignore[arg-type] # passed on

    monkeypatch.setattr(Digests, "of_path", counted)
    reads: Counter[str] = Counter()
    with standing_by(other, store) as standby:
        for number in range(1, 5):
            host.checkpoint(f"ckpt-{number}", {**shared, "new": noise(PACK_BELOW, -number)})
            host.push(bucket)
            polled = standby.poll(progress=ignore)
            assert polled.fetched == PACK_BELOW * (6 if number == 1 else 1)
            reads.update(fetched(asked(store)))

    assert len(reads) == 5 + 4
    assert set(reads.values()) == {1}
    assert read == [], "what was verified as it was written is not read"


def test_only_the_newest_are_kept_on_the_disk(host: Host, other: Host, bucket: MemoryStore) -> None:
    kept = replace(other, standby=StandbySettings(warm_keep=3))
    with standing_by(kept, bucket) as standby:
        for number in range(1, 7):
            host.checkpoint(f"ckpt-{number}", {"only": noise(PACK_BELOW, number), "same": b"same"})
            host.push(bucket)
            standby.poll(progress=ignore)

            staged = [path for path in (other.work / "files").rglob("*") if path.is_file()]
            assert len(staged) == min(number, 3) + 1


def test_an_older_one_is_whole_too_while_it_is_kept(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    entries = []
    with standing_by(other, bucket) as standby:
        for number in (1, 2, 3):
            entries.append(host.push_new(f"ckpt-{number}", bucket))
            standby.poll(progress=ignore)
        repository, _ = repository_and_head(bucket)
        away = FaultyStore(MemoryStore(), fail_at={})

        warm = standby.stage(
            replace(repository, store=away), entries[1], read_only=False, progress=ignore
        )
        standby.publish(warm)

    assert asked(away) == []
    assert contents(other.root / "ckpt-2") == contents(host.root / "ckpt-2")
    assert not (other.root / "ckpt-3").exists()


def test_what_is_held_survives_a_restart_and_is_verified_by_reading(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    host.push_new("ckpt-1", bucket)
    poll(other, bucket)
    store = FaultyStore(bucket)

    polled = poll(other, store)

    assert polled.staged is None
    assert engine_id(polled) == "ckpt-1"
    assert asked(store) == ["get head.json", "get ckptsync.json"]


@pytest.mark.parametrize("harm", ["altered", "deleted"])
def test_a_held_file_that_was_harmed_between_two_processes_is_fetched_again(
    host: Host, other: Host, bucket: MemoryStore, harm: str
) -> None:
    host.push_new("ckpt-1", bucket)
    host.push_new("ckpt-2", bucket)
    poll(other, bucket)
    largest = max((other.work / "files").rglob("*"), key=lambda path: path.stat().st_size)
    if harm == "altered":
        facts = largest.stat()
        largest.write_bytes(bytes(facts.st_size))
        os.utime(largest, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    else:
        largest.unlink()
    store = FaultyStore(bucket)

    with standing_by(other, store) as standby:
        with structlog.testing.capture_logs() as logs:
            assert standby.newest() is None, "what is not whole is not held"
        polled = standby.poll(progress=ignore)

    assert [each["event"] for each in logs] == ["standby.lost"]
    assert polled.staged is not None
    assert len(fetched(asked(store))) == 1
    require_ready(other, "ckpt-2", contents(host.root / "ckpt-2"))


def test_what_only_the_storage_holds_whole_is_not_held(
    two_pushed: ObjectStore, host: Host, other: Host
) -> None:
    """Anybody may delete it there."""
    shutil.copytree(host.root / "ckpt-2", other.root / "ckpt-2", copy_function=shutil.copy2)
    poll(other, two_pushed)
    max((other.work / "files").rglob("*"), key=lambda path: path.stat().st_size).unlink()

    with standing_by(other, two_pushed) as standby:
        assert standby.newest() is None


def test_a_held_file_that_somebody_deletes_meanwhile_is_noticed_before_anything_is_published(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    host.push_new("ckpt-1", bucket)
    with standing_by(other, bucket) as standby:
        warm = standby.poll(progress=ignore).warm
        assert warm is not None
        max((other.work / "files").rglob("*"), key=lambda path: path.stat().st_size).unlink()

        with pytest.raises(SourceError, match="was gone"):
            standby.publish(warm)
        assert not other.root.exists()

        activate(standby, bucket)

    assert contents(other.root / "ckpt-1") == contents(host.root / "ckpt-1")


def test_what_a_stopped_poll_fetched_is_used_by_the_next_process(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    host.checkpoint("ckpt-1", {f"{number}": noise(CHUNK + number, number) for number in range(6)})
    host.push(bucket)
    other = replace(other, parallel=1)
    stop = threading.Event()

    def decide(_number: int, call: Call) -> None:
        if call.method == "read_into" and call.key.startswith(keys.CHUNKS):
            reads.append(call.key)
            if len(reads) == 7:
                stop.set()

    reads: list[str] = []
    with other.running(Odd(bucket, decide)) as pipeline:
        standby = Standby(replace(pipeline, stop=stop))
        with pytest.raises(Cancelled):
            standby.poll(progress=ignore)
        assert standby.pulling is None
        assert standby.warm is None
    assert len(reads) == 7, "stopped within a chunk"

    again = FaultyStore(bucket)
    poll(other, again)

    assert len(fetched(asked(again))) <= 11 - 5
    require_ready(other, "ckpt-1", contents(host.root / "ckpt-1"))


def test_a_stop_while_what_is_held_is_verified_is_honoured(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    host.push_new("ckpt-1", bucket)
    poll(other, bucket)
    with other.running(bucket) as pipeline:
        stopped = threading.Event()
        stopped.set()
        with pytest.raises(Cancelled):
            Standby(replace(pipeline, stop=stopped)).newest()

    require_ready(other, "ckpt-1", contents(host.root / "ckpt-1"))


def test_what_a_failed_poll_fetched_is_used_by_the_next_one(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    host.checkpoint("ckpt-1", {f"{number}": noise(PACK_BELOW, number) for number in range(9)})
    host.push(bucket)
    reads, away = 0, True

    def decide(_number: int, call: Call) -> Unavailable | None:
        nonlocal reads
        reads += call.method == "read_into"
        return Unavailable(bucket.name, "read", call.key, "503") if away and reads > 5 else None

    with standing_by(replace(other, parallel=1), Odd(bucket, decide)) as standby:
        with pytest.raises(Unavailable):
            standby.poll(progress=ignore)
        assert standby.head == read_head(bucket).head, "known although the poll failed"
        away, before = False, reads

        polled = standby.poll(progress=ignore)

    assert reads - before == 9 - 5
    assert polled.fetched == 4 * PACK_BELOW
    assert engine_id(polled) == "ckpt-1"


def test_progress_adds_up_to_the_size_of_the_checkpoint(
    two_pushed: ObjectStore, other: Host
) -> None:
    moved: list[int] = []
    with standing_by(other, two_pushed) as standby:
        polled = standby.poll(progress=moved.append)

    assert polled.warm is not None
    assert sum(moved) == polled.warm.entry.bytes


def test_what_is_pulled_can_be_seen_from_another_thread(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    entry, seen = host.push_new("ckpt-1", bucket), list[object]()

    def decide(_number: int, call: Call) -> None:
        if call.method == "read_into":
            seen.append(standby.pulling)

    with standing_by(other, Odd(bucket, decide)) as standby:
        standby.poll(progress=ignore)

        assert set(seen) == {entry.id}
        assert standby.pulling is None


def test_damage_in_the_bucket_is_an_error_each_time_and_what_was_held_stays(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    host.push_new("ckpt-1", bucket)
    before = {info.key for info in bucket.walk("chunks/")}
    with standing_by(other, bucket) as standby:
        standby.poll(progress=ignore)
        host.push_new("ckpt-2", bucket)
        for info in bucket.walk("chunks/"):
            if info.key not in before:
                bucket.put(info.key, bytes(info.size))

        for _ in range(2):
            with pytest.raises(IntegrityError, match="is damaged"):
                standby.poll(progress=ignore)
            assert standby.warm is not None

    require_ready(other, "ckpt-1", contents(host.root / "ckpt-1"))


def test_a_missing_object_in_the_bucket_itself_is_damage(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    host.push_new("ckpt-1", bucket)
    with standing_by(other, bucket) as standby:
        standby.poll(progress=ignore)
        host.push_new("ckpt-2", bucket)
        bucket.delete([info.key for info in bucket.walk("packs/")])

        with pytest.raises(IntegrityError, match="is gone"):
            standby.poll(progress=ignore)

    require_ready(other, "ckpt-1", contents(host.root / "ckpt-1"))


def test_going_back_to_an_older_one_that_is_still_held_fetches_nothing(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    first = host.push_new("ckpt-1", bucket)
    store = FaultyStore(bucket)
    with standing_by(other, store) as standby:
        standby.poll(progress=ignore)
        host.push_new("ckpt-2", bucket)
        standby.poll(progress=ignore)
        bad = read_head(bucket).head.checkpoints[1].model_copy(update={"state": "bad"})
        edit_head(bucket, latest=first.id, checkpoints=(first, bad))
        asked(store)

        polled = standby.poll(progress=ignore)

    assert polled.warm is not None
    assert polled.warm.entry == first
    assert fetched(asked(store)) == []
    require_ready(other, "ckpt-1", contents(host.root / "ckpt-1"))


def test_a_checkpoint_of_another_layout_is_refused(two_pushed: ObjectStore, other: Host) -> None:
    with pytest.raises(Refused, match="pushed with layout 'directory'"):
        poll(replace(other, layout="feldera"), two_pushed)


def test_what_is_held_for_another_layout_is_held_no_longer(
    two_pushed: ObjectStore, other: Host
) -> None:
    poll(other, two_pushed)

    with standing_by(replace(other, layout="feldera"), two_pushed) as standby:
        assert standby.newest() is None


# Publishing


def test_publishing_moves_what_was_held_and_leaves_nothing_staged(
    two_pushed: ObjectStore, host: Host, other: Host
) -> None:
    with standing_by(other, two_pushed) as standby:
        standby.poll(progress=ignore)
        inodes = {path.stat().st_ino for path in (other.work / "files").rglob("*")}

        activate(standby, two_pushed)

        assert standby.newest() is None
    assert contents(other.root / "ckpt-2") == contents(host.root / "ckpt-2")
    files = [path for path in other.root.rglob("*") if path.is_file()]
    assert {path.stat().st_ino for path in files} <= inodes, "renamed, not copied"
    assert not other.work.exists()
    with other.running(two_pushed) as pipeline:
        me = pipeline.state.identity.remembered()
    assert me.publishing is None
    assert me.restored is not None
    assert me.restored.engine_id == "ckpt-2"


def test_the_manifest_of_what_was_published_is_at_hand_for_the_next_push(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    entry = host.push_new("ckpt-1", bucket)
    with standing_by(other, bucket) as standby:
        activate(standby, bucket)
    with other.running(bucket) as pipeline:
        cached = pipeline.state.manifests.get(bytes.fromhex(entry.manifest.digest))

    assert cached == bucket.get(keys.manifest(entry.id), limit=1 << 20).data


def test_after_publishing_the_next_poll_holds_it_anew(
    two_pushed: ObjectStore, host: Host, other: Host
) -> None:
    """What lies in the storage is copied: it may go any time."""
    store = FaultyStore(two_pushed)
    with standing_by(other, store) as standby:
        standby.poll(progress=ignore)
        activate(standby, store)
        asked(store)

        polled = standby.poll(progress=ignore)

        assert engine_id(polled) == "ckpt-2"
        assert polled.fetched == 0
        assert fetched(asked(store)) == []
        shutil.rmtree(other.root)
        assert polled.warm is not None
        standby.publish(polled.warm)
    assert contents(other.root / "ckpt-2") == contents(host.root / "ckpt-2")


def test_staging_fetches_what_is_not_held(two_pushed: ObjectStore, host: Host, other: Host) -> None:
    with standing_by(other, two_pushed) as standby:
        activate(standby, two_pushed)

    assert contents(other.root / "ckpt-2") == contents(host.root / "ckpt-2")


def test_staging_what_is_held_asks_no_bucket(host: Host, other: Host, bucket: MemoryStore) -> None:
    entry = host.push_new("ckpt-1", bucket)
    with standing_by(other, bucket) as standby:
        held = standby.poll(progress=ignore).warm
        repository, _ = repository_and_head(bucket)
        away = FaultyStore(MemoryStore("s3://away"))

        staged = standby.stage(
            replace(repository, store=away), entry, read_only=False, progress=ignore
        )

    assert staged == held
    assert asked(away) == []


def test_staging_copies_nothing_of_what_lies_in_the_storage_already(
    two_pushed: ObjectStore, host: Host, other: Host
) -> None:
    other.restore(two_pushed)
    inodes = {path: path.stat().st_ino for path in other.root.rglob("*")}
    store = FaultyStore(two_pushed)
    with standing_by(other, store) as standby:
        activate(standby, store)

    assert fetched(asked(store)) == []
    assert {path: path.stat().st_ino for path in other.root.rglob("*")} == inodes


def test_what_was_staged_with_the_help_of_the_storage_is_not_held(
    two_pushed: ObjectStore, other: Host
) -> None:
    other.restore(two_pushed)
    with standing_by(other, two_pushed) as standby:
        repository, at = repository_and_head(two_pushed)
        entry = at.head.checkpoints[-1]
        standby.stage(repository, entry, read_only=False, progress=ignore)

        assert standby.newest() is None


def test_publishing_twice_ends_as_publishing_once(
    two_pushed: ObjectStore, host: Host, other: Host
) -> None:
    for _ in range(2):
        with standing_by(other, two_pushed) as standby:
            activate(standby, two_pushed)

    assert contents(other.root / "ckpt-2") == contents(host.root / "ckpt-2")
    assert not list(other.work.rglob("*"))


def test_what_is_not_staged_cannot_be_published(
    two_pushed: ObjectStore, other: Host, host: Host
) -> None:
    with standing_by(other, two_pushed) as standby:
        warm = standby.poll(progress=ignore).warm
        assert warm is not None
        standby.clear()

        with pytest.raises(SourceError, match="is not staged"):
            standby.publish(warm)

    assert not other.root.exists()
    assert not other.work.exists()


# Beside a pull by hand


def test_a_pull_by_hand_uses_what_was_held_and_the_standby_notices(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    host.push_new("ckpt-1", bucket)
    with standing_by(other, bucket) as standby:
        standby.poll(progress=ignore)
        store = FaultyStore(bucket)

        restored = other.restore(store)

        assert restored.fetched == 0
        assert fetched(asked(store)) == []
        assert standby.newest() is None
        shutil.rmtree(other.root)
        assert standby.poll(progress=ignore).fetched > 0
    require_ready(other, "ckpt-1", contents(host.root / "ckpt-1"))


def test_a_pull_by_hand_of_another_checkpoint_reads_nothing_of_what_was_held(
    host: Host, other: Host, bucket: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        host.checkpoint(f"ckpt-{number}", {"only": noise(PACK_BELOW, number)})
        host.push(bucket)
    poll(other, bucket)

    def unexpected(_self: Digests, path: Path, **_how: object) -> None:
        raise AssertionError(path)

    monkeypatch.setattr(Digests, "of_path", unexpected)

    other.restore(bucket, wanted("ckpt-1"))


def test_a_pull_elsewhere_leaves_what_is_held_alone(
    two_pushed: ObjectStore, host: Host, other: Host
) -> None:
    poll(other, two_pushed)

    other.restore(two_pushed, wanted("ckpt-1", to=other.home / "elsewhere"))

    require_ready(other, "ckpt-2", contents(host.root / "ckpt-2"))


# A certain checkpoint


def test_an_engine_may_call_a_checkpoint_latest(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    host.push_new("latest", bucket)
    with standing_by(other, bucket) as standby:
        assert engine_id(standby.poll(progress=ignore)) == "latest"
        host.push_new("ckpt-" + "9" * 19, bucket)

        assert engine_id(standby.poll(progress=ignore)) == "ckpt-" + "9" * 19


def test_an_id_is_fetched_once_and_never_replaced_by_a_newer_one(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    for number in (1, 2):
        host.push_new(f"ckpt-{number}", bucket)
    store = FaultyStore(bucket)
    other = replace(other, standby=StandbySettings(start_from="ckpt-1"))
    with standing_by(other, store) as standby:
        assert engine_id(standby.poll(progress=ignore)) == "ckpt-1"
        host.push_new("ckpt-3", bucket)
        shutil.rmtree(host.root / "ckpt-1")
        host.checkpoint("ckpt-1", {"trained": b"anew"})
        host.push(bucket, engine_id="ckpt-1", new_timeline=True)
        asked(store)

        polled = standby.poll(progress=ignore)
        assert (engine_id(polled), polled.staged) == ("ckpt-1", None)
        assert polled.head == read_head(bucket).head
        assert asked(store) == ["get head.json"]

        standby.poll(progress=ignore)
        assert asked(store) == ["get head.json"]
