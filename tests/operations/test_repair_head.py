"""Making a head anew from the manifests, after it was lost."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
import zstandard

from ckptsync.errors import (
    Busy,
    Cancelled,
    CannotTell,
    CkptsyncError,
    HeadLost,
    IntegrityError,
    PrimaryActive,
    Refused,
    Unavailable,
    UnfitStore,
    UnsupportedFormat,
    WrongRepository,
)
from ckptsync.model import Progress, Role, ignore
from ckptsync.operations.push import push
from ckptsync.operations.repair_head import REASON, HeadRebuilt, rebuild_head
from ckptsync.repository import catalog, keys, nodes
from ckptsync.repository import descriptor as descriptors
from ckptsync.repository import head as heads
from ckptsync.repository.head import Entry, Fork, Sweep
from ckptsync.repository.manifest import Manifest
from ckptsync.repository.nodes import Heartbeat
from ckptsync.repository.objects import StoredObject
from ckptsync.repository.repository import Repository, read_head
from ckptsync.stores.base import Fetched, ObjectStore, Version
from ckptsync.stores.memory import MemoryStore
from tests.fakes.stores import Call, Crash, FaultyStore, LyingStore
from tests.operations.actors import LOST, Late, Odd, Sweeper, Verdict
from tests.operations.invariants import Seen, require_sound
from tests.operations.looks import data_puts, require_restores
from tests.operations.races import READ, SWAP, attempt, fail_at_the_manifest, unavailable
from tests.pipelines import Host, a_small_checkpoint, contents, copy_of, snapshot, wanted


def rebuild(
    host: Host, store: ObjectStore, *, force: bool = False, progress: Progress = ignore
) -> HeadRebuilt:
    with host.running(store) as pipeline:
        return rebuild_head(pipeline, force=force, progress=progress)


def reasons(report: HeadRebuilt) -> dict[str, str]:
    return {each.key: each.reason for each in report.left_out}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bereft:
    """A bucket whose head is gone."""

    host: Host
    bucket: MemoryStore
    old: Seen

    def copied_to(self, home: Path) -> "Bereft":
        return replace(self, host=self.host.copied_to(home), bucket=copy_of(self.bucket))


def lose_head(host: Host, bucket: MemoryStore) -> Bereft:
    seen = require_sound(bucket)
    assert seen is not None
    bucket.delete([keys.HEAD])
    return Bereft(host=host, bucket=bucket, old=seen)


@pytest.fixture
def bereft(host: Host, bucket: MemoryStore) -> Bereft:
    """Of three checkpoints, of which the last forks from the first."""
    for number in (1, 2):
        host.push_new(f"ckpt-{number}", bucket)
    host.go_back_to("ckpt-1", bucket)
    host.push_new("ckpt-2b", bucket)
    return lose_head(host, bucket)


def require_as_before(new: Seen, old: Seen) -> None:
    """All that can be known of the old head is in the new one."""
    assert new.entries == old.entries
    assert new.head.checkpoints == old.head.checkpoints
    assert [(each.seq, each.count) for each in new.head.pages] == [
        (each.seq, each.count) for each in old.head.pages
    ]
    assert (new.head.latest, new.head.next_seq) == (old.head.latest, old.head.next_seq)
    assert new.head.repository_id == old.head.repository_id
    *timelines, begun = new.head.timelines
    assert timelines[0] == old.head.timelines[0]
    assert [(each.id, each.parent, each.epoch, each.node) for each in timelines] == [
        (each.id, each.parent, each.epoch, each.node) for each in old.head.timelines
    ]
    assert (begun.reason, begun.epoch, begun.id) == (REASON, new.head.epoch, new.head.timeline)
    latest = next((entry for entry in new.entries if entry.id == new.head.latest), None)
    assert latest is None or begun.parent == Fork(timeline=latest.timeline, checkpoint=latest.id)
    assert new.head.revision > old.head.revision
    assert new.head.epoch > old.head.epoch
    assert new.head.sweep == Sweep(generation=new.head.sweep.generation)
    assert new.head.sweep.generation > old.head.sweep.generation
    assert (new.head.writer.node, new.head.writer.state) == ("host-a", "active")


def test_every_checkpoint_is_named_again_and_restores(bereft: Bereft, disk: Path) -> None:
    host, bucket = bereft.host, bereft.bucket
    with pytest.raises(HeadLost):
        host.push(bucket)
    moved: list[int] = []

    report = rebuild(host, bucket, progress=moved.append)

    new = require_sound(bucket)
    assert new is not None
    assert report == HeadRebuilt(head=new.head, left_out=(), replaced=False, already=False)
    assert report.checkpoints == 3
    require_as_before(new, bereft.old)
    assert sum(moved) == sum(entry.manifest.size for entry in new.entries)
    for entry in new.entries:
        fresh = replace(host, home=disk / entry.id)
        fresh.restore(bucket, wanted(entry.id))
        assert contents(fresh.root / entry.engine_id)
    require_restores(bucket, host, "ckpt-2b", disk)


def test_the_next_push_goes_on_and_stores_only_what_is_new(bereft: Bereft) -> None:
    host, bucket = bereft.host, bereft.bucket
    rebuild(host, bucket)
    assert host.push(bucket).already_synced
    host.checkpoint("ckpt-3", {**a_small_checkpoint("ckpt-2b"), "new": b"new"})
    calls = FaultyStore(bucket)

    entry = host.push(calls).entry

    assert len(data_puts(calls)) == 1
    assert entry.timeline == read_head(bucket).head.timeline
    assert entry.new_bytes < 10_000 < entry.bytes
    assert require_sound(bucket) is not None


def test_hundreds_of_checkpoints_and_forks_come_back_as_they_were(
    host: Host, bucket: MemoryStore, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "SPILL_ABOVE", 24)
    monkeypatch.setattr(catalog, "SPILL", 12)
    forks = {90: 80, 210: 190}
    with host.running(bucket) as pipeline:
        for number in range(1, 301):
            if number in forks:
                host.restore(bucket, wanted(f"ckpt-{forks[number]}"))
            host.checkpoint(f"ckpt-{number}", {"a": b"%d" % number, "same": b"x" * 5000})
            push(pipeline, engine_id=None, new_timeline=False, progress=ignore)
            shutil.rmtree(host.root)
    bereft = lose_head(host, bucket)
    assert len(bereft.old.head.pages) > 9
    assert len(bereft.old.head.timelines) == 3

    report = rebuild(host, bucket)

    new = require_sound(bucket)
    assert new is not None
    assert report.checkpoints == 300
    assert not report.left_out
    require_as_before(new, bereft.old)
    for number in (1, 80, 150, 300):
        fresh = replace(host, home=disk / f"restored-{number}")
        fresh.restore(bucket, wanted(f"ckpt-{number}"))
        assert (fresh.root / f"ckpt-{number}" / "a").read_bytes() == b"%d" % number


@pytest.mark.parametrize("damage", [None, b"damaged"], ids=["gone", "damaged"])
def test_it_works_on_a_directory_as_well(
    host: Host, two_pushed: ObjectStore, damage: bytes | None
) -> None:
    old = require_sound(two_pushed)
    assert old is not None
    if damage is None:
        two_pushed.delete([keys.HEAD])
    else:
        two_pushed.put(keys.HEAD, damage)

    assert rebuild(host, two_pushed, force=True).replaced is (damage is not None)

    new = require_sound(two_pushed)
    assert new is not None
    require_as_before(new, old)
    assert host.push(two_pushed).already_synced


def test_a_host_that_remembers_nothing_can_do_it_too(bereft: Bereft, other: Host) -> None:
    report = rebuild(other, bereft.bucket)

    assert report.head.writer.node == "host-b"
    assert isinstance(attempt(bereft.host, FaultyStore(bereft.bucket)), CkptsyncError)
    other.restore(bereft.bucket)
    other.push_new("ckpt-3", bereft.bucket)
    assert require_sound(bereft.bucket) is not None


def test_who_remembers_the_lost_head_does_not_take_the_new_one_for_an_older_one(
    bereft: Bereft, other: Host
) -> None:
    with other.running(bereft.bucket) as pipeline:
        pipeline.state.identity.joined(bereft.old.head.repository_id)
        pipeline.state.identity.saw(revision=5000, epoch=1)

    head = rebuild(bereft.host, bereft.bucket).head

    with other.running(bereft.bucket) as pipeline:
        assert pipeline.register().read().head == head


# What is left out


def test_a_checkpoint_that_lacks_an_object_is_left_out(bereft: Bereft) -> None:
    newest = bereft.old.entries[-1]
    lacking = own_objects(bereft, newest)
    bereft.bucket.delete([each.key for each in lacking])

    report = rebuild(bereft.host, bereft.bucket)

    reason = reasons(report)[keys.manifest(newest.id)]
    more = len(lacking) - 1
    assert reason == f"refers to {lacking[0].key}, which is gone, and lacks {more} more"
    new = require_sound(bereft.bucket)
    assert new is not None
    assert new.entries == bereft.old.entries[:-1]
    assert new.head.latest == bereft.old.entries[0].id, "where the youngest timeline began"
    assert new.head.next_seq == bereft.old.head.next_seq
    assert keys.manifest(newest.id) in snapshot(bereft.bucket), "nothing is deleted"
    assert bereft.host.push(bereft.bucket).entry.engine_id == "ckpt-2b"


def manifest_of(world: Bereft, entry: Entry) -> Manifest:
    repository = Repository(store=world.bucket, descriptor=descriptors.read(world.bucket))
    return repository.manifest(entry)


def own_objects(world: Bereft, entry: Entry) -> list[StoredObject]:
    """Those that no other checkpoint refers to."""
    others = [each for each in world.old.entries if each != entry]
    shared = {stored.key for each in others for stored in manifest_of(world, each).objects}
    return [each for each in manifest_of(world, entry).objects if each.key not in shared]


def test_a_checkpoint_of_which_an_object_was_cut_short_is_left_out(bereft: Bereft) -> None:
    newest = bereft.old.entries[-1]
    key = own_objects(bereft, newest)[-1].key
    data = bereft.bucket.get(key, limit=1 << 20).data
    bereft.bucket.put(key, data[:-1])

    report = rebuild(bereft.host, bereft.bucket)

    says = f"refers to {key}, which has {len(data) - 1:,} bytes, where {len(data):,} were stored"
    assert reasons(report) == {keys.manifest(newest.id): says}


def flipped(data: bytes) -> bytes:
    return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]


def of_another_checkpoint(data: bytes) -> bytes:
    return edited(data, b"-00000003-", b"-00000004-")


def edited(data: bytes, old: bytes, new: bytes) -> bytes:
    text = b"".join(zstandard.ZstdDecompressor().read_to_iter(data))
    assert old in text
    return zstandard.compress(text.replace(old, new))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (flipped, "is damaged"),
        (lambda data: data[:40], "is damaged"),
        (lambda _data: b"", "is damaged"),
        (of_another_checkpoint, "describes checkpoint"),
        (lambda data: edited(data, b'"timeline":2', b'"timeline":1'), "contradicts the name"),
        (lambda data: edited(data, b'"repository_id":"', b'"repository_id":"0'), "belongs to"),
        (lambda data: edited(data, b'"path":"ckpt-2b/', b'"path":"../'), "../"),
        (lambda data: edited(data, b'"epoch":1', b'"epoch":9000000000000000000'), "has numbers"),
    ],
    ids=["bit", "short", "empty", "other", "timeline", "repository", "path", "epoch"],
)
def test_a_manifest_that_makes_no_sense_is_left_out(
    bereft: Bereft, damage: Callable[[bytes], bytes], says: str
) -> None:
    *rest, newest = bereft.old.entries
    key = keys.manifest(newest.id)
    bereft.bucket.put(key, damage(bereft.bucket.get(key, limit=1 << 20).data))
    stored = snapshot(bereft.bucket)

    report = rebuild(bereft.host, bereft.bucket)

    assert list(reasons(report)) == [key]
    assert says in reasons(report)[key]
    new = require_sound(bereft.bucket)
    assert new is not None
    assert new.entries == tuple(rest)
    assert new.head.next_seq == bereft.old.head.next_seq
    assert stored.items() <= snapshot(bereft.bucket).items()
    assert bereft.host.push(bereft.bucket).entry.engine_id == "ckpt-2b"


def test_what_only_lies_there_is_left_out_and_counts_for_nothing(bereft: Bereft) -> None:
    strays = [
        "manifests/README",
        "manifests/0001-00000001-ABCDEFABCDEF.json.zst",
        "manifests/0001-00000001-abcdefabcdef.json",
        "manifests/below/0001-00000001-abcdefabcdef.json.zst",
        "manifests/0001-ffffffff-abcdefabcdef.json.zst",
        "condemned/99999999999999999999-abcdefabcdefabcdefabcdefabcdefab.json.zst",
        "condemned/9007199254740992-abcdefabcdefabcdefabcdefabcdefab.json.zst",
        "condemned/x",
    ]
    for each in strays:
        bereft.bucket.put(each, b"x")

    report = rebuild(bereft.host, bereft.bucket)

    assert set(reasons(report)) == set(strays[:5])
    new = require_sound(bereft.bucket)
    assert new is not None
    require_as_before(new, bereft.old)
    assert new.head.sweep.generation < 1 << 53


def test_a_manifest_that_came_damaged_once_is_not_left_out(bereft: Bereft) -> None:
    key = keys.manifest(bereft.old.entries[-1].id)

    class Noisy(FaultyStore):
        def get(self, key_: str, *, limit: int, unless: Version | None = None) -> Fetched:
            fetched = super().get(key_, limit=limit, unless=unless)
            once = self.calls.count(Call("get", key)) == 1 and key_ == key
            return replace(fetched, data=flipped(fetched.data)) if once else fetched

    assert not rebuild(bereft.host, Noisy(bereft.bucket)).left_out


def test_a_number_that_only_a_name_still_tells_of_is_not_used_again(bereft: Bereft) -> None:
    bereft.bucket.put("manifests/0002-00000029-abcdefabcdef.json.zst", b"rotten")

    assert rebuild(bereft.host, bereft.bucket).head.next_seq == 0x2A


def test_a_manifest_of_a_newer_version_is_not_left_out(bereft: Bereft) -> None:
    key = keys.manifest(bereft.old.entries[-1].id)
    newer = edited(bereft.bucket.get(key, limit=1 << 20).data, b'"version":1', b'"version":2')
    bereft.bucket.put(key, newer)
    stored = snapshot(bereft.bucket)

    with pytest.raises(UnsupportedFormat):
        rebuild(bereft.host, bereft.bucket, force=True)

    assert snapshot(bereft.bucket) == stored


def test_of_a_push_that_was_repeated_only_what_was_committed_is_named(
    host: Host, bucket: MemoryStore, disk: Path
) -> None:
    host.push_new("ckpt-1", bucket)
    host.checkpoint("ckpt-2", a_small_checkpoint(2))
    crash_at_the_swap(host, bucket, disk)
    host.push(bucket)
    bereft = lose_head(host, bucket)

    report = rebuild(host, bucket)

    new = require_sound(bucket)
    assert new is not None
    require_as_before(new, bereft.old)
    (reason,) = reasons(report).values()
    assert reason == f"has the number of checkpoint {new.head.latest}, which was committed"


def test_a_push_that_ended_before_its_commit_counts_as_committed(
    host: Host, bucket: MemoryStore, disk: Path
) -> None:
    """Nobody can tell any more, and the checkpoint is whole."""
    host.push_new("ckpt-1", bucket)
    host.checkpoint("ckpt-2", a_small_checkpoint(2))
    crash_at_the_swap(host, bucket, disk)
    lose_head(host, bucket)

    assert rebuild(host, bucket).checkpoints == 2

    assert host.push(bucket).already_synced
    require_restores(bucket, host, "ckpt-2", disk)


def crash_at_the_swap(host: Host, store: MemoryStore, disk: Path) -> None:
    rehearsed = FaultyStore(copy_of(store))
    host.copied_to(disk / "rehearsal").push(rehearsed)
    with pytest.raises(Crash):
        host.push(FaultyStore(store, crash_at=rehearsed.calls.index(SWAP)))


def test_what_a_sweep_had_condemned_and_not_deleted_is_not_relied_on(
    host: Host, bucket: MemoryStore
) -> None:
    """An upload of before may be deleted at any moment by a sweep that nobody knows of now."""
    host.push_new("ckpt-1", bucket)
    host.checkpoint("ckpt-2", a_small_checkpoint(2))
    fail_at_the_manifest(host, bucket)
    sweeper = Sweeper(store=bucket)
    sweeper.sweep()
    bereft = lose_head(host, bucket)
    assert bereft.old.head.sweep.generation == 1

    head = rebuild(host, bucket).head

    assert head.sweep.generation > 1
    calls = FaultyStore(bucket)
    host.push(calls)
    assert sweeper.condemned
    assert set(data_puts(calls)).isdisjoint(sweeper.condemned)
    assert require_sound(bucket) is not None


@pytest.mark.parametrize("prefix", ["", keys.CHUNKS, keys.MANIFESTS])
def test_where_no_checkpoint_is_left_an_empty_list_is_begun_only_by_force(
    host: Host, bucket: MemoryStore, prefix: str
) -> None:
    host.push_new("ckpt-1", bucket)
    host.push_new("ckpt-2", bucket)
    old = lose_head(host, bucket).old.head
    gone = [info.key for info in bucket.walk(prefix) if info.key != keys.DESCRIPTOR]
    bucket.delete(gone)
    stored = snapshot(bucket)
    with pytest.raises(Refused, match="no checkpoint that is whole"):
        rebuild(host, bucket)
    assert snapshot(bucket) == stored

    head = rebuild(host, bucket, force=True).head

    assert (head.latest, head.checkpoints) == (None, ())
    assert head.next_seq == old.next_seq
    assert host.push(bucket).entry.seq == head.next_seq
    assert require_sound(bucket) is not None


# Where it must not be done


def test_a_head_that_can_be_read_is_left_alone(host: Host, bucket: MemoryStore) -> None:
    host.push_new("ckpt-1", bucket)
    stored = snapshot(bucket)

    with pytest.raises(Refused, match="nothing to rebuild") as caught:
        rebuild(host, bucket, force=True)

    assert caught.value.exit_code == 13
    assert snapshot(bucket) == stored


def test_a_head_of_a_newer_version_is_left_alone(host: Host, bucket: MemoryStore) -> None:
    host.push_new("ckpt-1", bucket)
    bucket.put(keys.HEAD, b'{"format":"ckptsync/head","version":2}')
    stored = snapshot(bucket)

    with pytest.raises(UnsupportedFormat):
        rebuild(host, bucket, force=True)

    assert snapshot(bucket) == stored


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff", b"[" * 99, b'{"version":1,"epoch":'])
def test_a_damaged_head_is_replaced_only_by_force(bereft: Bereft, damage: bytes) -> None:
    bereft.bucket.put(keys.HEAD, damage)
    stored = snapshot(bereft.bucket)
    with pytest.raises(Refused, match="damaged") as caught:
        rebuild(bereft.host, bereft.bucket)
    assert caught.value.hint is not None
    assert snapshot(bereft.bucket) == stored

    report = rebuild(bereft.host, bereft.bucket, force=True)

    assert report.replaced
    new = require_sound(bereft.bucket)
    assert new is not None
    require_as_before(new, bereft.old)
    assert bereft.host.push(bereft.bucket).already_synced


def test_a_head_that_came_damaged_once_is_left_alone(host: Host, bucket: MemoryStore) -> None:
    host.push_new("ckpt-1", bucket)

    class Noisy(FaultyStore):
        def get(self, key: str, *, limit: int, unless: Version | None = None) -> Fetched:
            fetched = super().get(key, limit=limit, unless=unless)
            once = self.calls.count(READ) == 1 and key == keys.HEAD
            return replace(fetched, data=flipped(fetched.data)[:-1]) if once else fetched

    with pytest.raises(Refused, match="nothing to rebuild"):
        rebuild(host, Noisy(bucket), force=True)


def test_a_head_too_long_to_be_read_is_to_be_moved_by_hand(bereft: Bereft) -> None:
    bereft.bucket.put(keys.HEAD, b" " * (heads.LIMIT + 1))

    with pytest.raises(IntegrityError) as caught:
        rebuild(bereft.host, bereft.bucket, force=True)

    assert "by hand" in (caught.value.hint or "")


def test_without_a_descriptor_nothing_can_be_rebuilt(bereft: Bereft) -> None:
    bereft.bucket.delete([keys.DESCRIPTOR])

    with pytest.raises(IntegrityError, match=r"has no ckptsync\.json") as caught:
        rebuild(bereft.host, bereft.bucket, force=True)

    assert "from a copy" in (caught.value.hint or "")
    assert keys.HEAD not in snapshot(bereft.bucket)


def test_what_is_another_pipelines_or_another_repository_is_left_alone(
    bereft: Bereft, disk: Path
) -> None:
    stored = snapshot(bereft.bucket)
    stranger = Host(home=disk / "stranger", pipeline="payments")
    knows_another = Host(home=disk / "another")
    knows_another.push_new("ckpt-1", MemoryStore(bereft.bucket.name))

    for host in (stranger, knows_another):
        with pytest.raises(WrongRepository):
            rebuild(host, bereft.bucket, force=True)

    assert snapshot(bereft.bucket) == stored


def test_a_head_of_another_repository_is_left_alone(bereft: Bereft, other: Host) -> None:
    foreign = MemoryStore()
    other.push_new("ckpt-1", foreign)
    bereft.bucket.put(keys.HEAD, foreign.get(keys.HEAD, limit=1 << 20).data)

    with pytest.raises(IntegrityError, match="belongs to repository"):
        rebuild(bereft.host, bereft.bucket, force=True)


def test_a_primary_elsewhere_that_seems_alive_is_displaced_only_by_force(
    bereft: Bereft, other: Host
) -> None:
    beat = Heartbeat(
        node="host-b", node_id="nb", machine="b", role=Role.PRIMARY, epoch=12, warm=None,
        pulling=None, at=datetime.now(UTC),
    )  # fmt: skip
    nodes.write(bereft.bucket, beat)
    stored = snapshot(bereft.bucket)
    with pytest.raises(PrimaryActive, match="'host-b'"):
        rebuild(bereft.host, bereft.bucket)
    assert snapshot(bereft.bucket) == stored

    assert rebuild(bereft.host, bereft.bucket, force=True).head.epoch == 13


# Crashes, lost replies, others


def test_a_head_that_turns_up_meanwhile_is_left_alone(bereft: Bereft) -> None:
    def turn_up(_number: int, call: Call) -> None:
        if call == SWAP:
            bereft.bucket.put(keys.HEAD, bereft.old.head.model_dump_json().encode())

    with pytest.raises(Refused, match="nothing to rebuild"):
        rebuild(bereft.host, Odd(bereft.bucket, turn_up))

    assert read_head(bereft.bucket).head == bereft.old.head
    assert bereft.host.push(bereft.bucket).already_synced


def test_of_two_that_rebuild_at_once_one_wins(bereft: Bereft, other: Host) -> None:
    done: list[HeadRebuilt] = []

    def rebuild_first(_number: int, call: Call) -> None:
        if call == SWAP and not done:
            done.append(rebuild(other, bereft.bucket))

    with pytest.raises(Refused, match="by node 'host-b'"):
        rebuild(bereft.host, Odd(bereft.bucket, rebuild_first))

    assert read_head(bereft.bucket).head == done[0].head


def test_damage_that_changes_meanwhile_is_looked_at_again(bereft: Bereft) -> None:
    def damage(_number: int, call: Call) -> None:
        if call == SWAP:
            bereft.bucket.put(keys.HEAD, b"damaged")

    with pytest.raises(Busy):
        rebuild(bereft.host, Odd(bereft.bucket, damage))

    assert snapshot(bereft.bucket)[keys.HEAD] == b"damaged"


@pytest.mark.parametrize("damage", [None, b"damaged"], ids=["gone", "damaged"])
@pytest.mark.parametrize("crash_after", [False, True], ids=["before the call", "after the call"])
def test_a_crash_at_any_call_leaves_no_head_or_the_whole_of_it(
    bereft: Bereft,
    disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    crash_after: bool,
    damage: bytes | None,
) -> None:
    monkeypatch.setattr(catalog, "SPILL_ABOVE", 2)
    monkeypatch.setattr(catalog, "SPILL", 1)
    if damage is not None:
        bereft.bucket.put(keys.HEAD, damage)
    rebuilt = 0
    for number in count():
        left = bereft.copied_to(disk / f"crash-{number}")
        store = FaultyStore(left.bucket, crash_at=number, crash_after=crash_after)
        with suppress(Crash):
            rebuild(left.host, store, force=True)
            break
        there = snapshot(left.bucket).get(keys.HEAD)
        rebuilt += there != damage

        report = rebuild(left.host, left.bucket, force=True)

        assert report.already is (there != damage)
        require_goes_on(left)
    assert number >= 10
    assert rebuilt == int(crash_after), "the swap is the last call"


def require_goes_on(world: Bereft) -> None:
    new = require_sound(world.bucket)
    assert new is not None
    assert new.entries == world.old.entries
    assert new.head.latest == world.old.head.latest
    assert len(new.head.timelines) == 3
    assert world.host.push(world.bucket).already_synced
    world.host.checkpoint("ckpt-3", a_small_checkpoint(3))
    world.host.push(world.bucket)
    assert require_sound(world.bucket, since=new) is not None


@pytest.mark.parametrize("damage", [None, b"damaged"], ids=["gone", "damaged"])
@pytest.mark.parametrize("lost", [False, True], ids=["not carried out", "not answered"])
def test_a_call_that_fails_at_any_time_leaves_what_asking_again_goes_on_from(
    bereft: Bereft, disk: Path, lost: bool, damage: bytes | None
) -> None:
    if damage is not None:
        bereft.bucket.put(keys.HEAD, damage)
    for number in count():
        left = bereft.copied_to(disk / f"fault-{number}")

        def decide(at: int, call: Call, number: int = number) -> Verdict:
            if at != number:
                return None
            return LOST if lost else unavailable(call)

        odd = Odd(left.bucket, decide)
        with suppress(Unavailable, CannotTell):
            rebuild(left.host, odd, force=True)
        report = rebuild(left.host, left.bucket, force=True)
        assert report.checkpoints == 3
        require_goes_on(left)
        if number >= len(odd.calls):
            break
    assert number >= 10


def test_a_swap_that_is_not_answered_is_tried_again(bereft: Bereft) -> None:
    tried: list[Call] = []

    def fail_once(_number: int, call: Call) -> Verdict:
        if call == SWAP:
            tried.append(call)
        return unavailable(call) if call == SWAP and len(tried) == 1 else None

    rebuild(bereft.host, Odd(bereft.bucket, fail_once))

    assert len(tried) == 2
    require_goes_on(bereft)


def test_a_swap_that_arrives_late_is_found(bereft: Bereft) -> None:
    late = Late(bereft.bucket)

    rebuild(bereft.host, late)

    assert late.calls.count(SWAP) == 1
    require_goes_on(bereft)


def test_a_store_that_ignores_conditions_is_left_alone(bereft: Bereft) -> None:
    stored = snapshot(bereft.bucket)

    with pytest.raises(UnfitStore):
        rebuild(bereft.host, LyingStore(bereft.bucket))

    assert snapshot(bereft.bucket) == stored


def test_a_store_whose_clock_was_never_set_gets_numbers_that_are_higher_too(
    host: Host, bucket: MemoryStore
) -> None:
    bucket = MemoryStore(clock=lambda: datetime(1970, 1, 1, tzinfo=UTC))
    host.push_new("ckpt-1", bucket)
    Sweeper(store=bucket).sweep()
    with host.running(bucket) as pipeline:
        pipeline.register().read()
    old = lose_head(host, bucket).old.head
    assert old.sweep.generation == 1

    new = rebuild(host, bucket).head

    assert new.sweep.generation == 2
    assert new.revision > old.revision


def test_it_can_be_stopped(bereft: Bereft) -> None:
    stored = snapshot(bereft.bucket)

    with bereft.host.running(bereft.bucket) as pipeline:

        def stop(_moved: int) -> None:
            pipeline.stop.set()

        with pytest.raises(Cancelled):
            rebuild_head(pipeline, progress=stop)

    assert snapshot(bereft.bucket) == stored
