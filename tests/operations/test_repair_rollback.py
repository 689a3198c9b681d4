"""Going on from a bucket that was restored from an older copy."""

import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from uuid import uuid4

import pytest

from ckptsync.errors import (
    Busy,
    CannotTell,
    CkptsyncError,
    Fenced,
    ForeignWriter,
    HeadLost,
    LineageRegression,
    PrimaryActive,
    Refused,
    RollbackDetected,
    Unavailable,
    UnfitStore,
    WrongRepository,
)
from ckptsync.model import CheckpointId, Role
from ckptsync.operations.pipeline import Pipeline, Takeover
from ckptsync.operations.pull import Restored as Pulled
from ckptsync.operations.repair_head import rebuild_head
from ckptsync.operations.repair_rollback import REASON, RollbackAccepted, accept_rollback
from ckptsync.operations.roles import become
from ckptsync.repository import claim, keys, nodes
from ckptsync.repository.claim import Claimant
from ckptsync.repository.commit import doomed
from ckptsync.repository.head import Fork, Head
from ckptsync.repository.nodes import Heartbeat
from ckptsync.repository.repository import HeadAt, read_head
from ckptsync.state.journal import UploadJournal
from ckptsync.stores.base import Body, Expect, ObjectStore, Version
from ckptsync.stores.memory import MemoryStore
from tests.fakes.feldera_engine import Engine
from tests.fakes.stores import Call, Crash, FaultyStore, LyingStore
from tests.operations.actors import LOST, Late, Odd, Verdict, edit_head
from tests.operations.invariants import require_sound
from tests.operations.looks import repository_in, require_restores
from tests.operations.races import SWAP, attempt, fail_at_the_manifest, unavailable
from tests.pipelines import Host, a_small_checkpoint, contents, copy_of, snapshot, wanted


def accept(host: Host, store: ObjectStore, *, force: bool = False) -> RollbackAccepted:
    with host.running(store) as pipeline:
        return accept_rollback(pipeline, force=force)


def put_back(bucket: MemoryStore, backup: MemoryStore) -> None:
    bucket._objects = dict(backup._objects)


def numbers(head: Head) -> tuple[int, int, int, int]:
    return (head.revision, head.epoch, head.next_seq, head.sweep.generation)


def require_beyond(new: Head, *older: Head) -> None:
    """No number of the new head went down, and none that must go up stayed."""
    for each in older:
        assert all(a > b for a, b in zip(numbers(new)[:2], numbers(each)[:2], strict=True))
        assert new.next_seq >= each.next_seq
        assert new.sweep.generation > each.sweep.generation


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledBack:
    """A bucket that was put back to its first checkpoint, after two more had been pushed."""

    host: Host
    bucket: MemoryStore
    past: Head
    future: Head

    def copied_to(self, home: Path) -> "RolledBack":
        return replace(self, host=self.host.copied_to(home), bucket=copy_of(self.bucket))


@pytest.fixture
def back(host: Host, bucket: MemoryStore) -> RolledBack:
    host.push_new("ckpt-1", bucket)
    backup = copy_of(bucket)
    for number in (2, 3):
        host.push_new(f"ckpt-{number}", bucket)
    future = read_head(bucket).head
    put_back(bucket, backup)
    return RolledBack(host=host, bucket=bucket, past=read_head(bucket).head, future=future)


def test_what_is_on_the_disk_goes_on_from_the_older_head(back: RolledBack, disk: Path) -> None:
    host, bucket = back.host, back.bucket
    with pytest.raises(RollbackDetected):
        host.push(bucket)

    report = accept(host, bucket)

    head = report.head
    assert report == RollbackAccepted(
        head=head, taken=True, already=False, gone=(CheckpointId(back.future.latest or ""),)
    )
    assert head == read_head(bucket).head
    require_beyond(head, back.past, back.future)
    assert head.writer.node_id == back.past.writer.node_id
    assert head.writer.instance != back.past.writer.instance
    assert (head.writer.state, head.latest) == ("active", back.past.latest)
    assert head.checkpoints == back.past.checkpoints
    assert head.timelines[:-1] == back.past.timelines
    fork = head.timelines[-1]
    assert (fork.id, fork.epoch, fork.reason) == (head.timeline, head.epoch, REASON)
    assert fork.parent == Fork(timeline=1, checkpoint=back.past.latest)
    pushed = host.push(bucket)
    assert not pushed.already_synced
    assert pushed.entry.timeline == head.timeline
    seen = require_sound(bucket)
    assert seen is not None
    assert seen.engine_ids == ("ckpt-1", "ckpt-3")
    for name in seen.engine_ids:
        require_restores(bucket, host, name, disk)


def test_who_saw_what_is_gone_trusts_the_bucket_again(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    """Even a node that saw more of it than the one that accepts."""
    host.push_new("ckpt-1", bucket)
    backup = copy_of(bucket)
    host.push_new("ckpt-2", bucket)
    for _ in range(9):
        edit_head(bucket)
    follow(other, bucket)
    put_back(bucket, backup)
    with pytest.raises(RollbackDetected):
        follow(other, bucket)

    accept(host, bucket)

    follow(other, bucket)
    host.push(bucket)
    follow(other, bucket)


def follow(host: Host, bucket: ObjectStore) -> Head:
    """Look at the bucket as a standby does."""
    with host.running(bucket) as pipeline:
        become(pipeline, Role.STANDBY)
        pipeline.state.identity.joined(read_head(bucket).head.repository_id)
        return pipeline.register().read().head


def test_a_standby_only_forgets(other: Host, back: RolledBack) -> None:
    bucket = back.bucket
    future = copy_of(bucket)
    edit_head(future, epoch=7)
    for _ in range(9):
        edit_head(future)
    follow(other, future)
    stored = snapshot(bucket)
    with pytest.raises(RollbackDetected):
        follow(other, bucket)

    report = accept(other, bucket)

    assert report == RollbackAccepted(head=back.past, taken=False, already=False, gone=())
    assert snapshot(bucket) == stored
    assert follow(other, bucket) == back.past
    with pytest.raises(Refused, match="nothing to accept"):
        accept(other, bucket)


def test_a_head_that_others_changed_since_it_went_back_is_known_and_accepted(
    back: RolledBack,
) -> None:
    """They have seen no newer one, so by its numbers it is the newest by now."""
    host, bucket = back.host, back.bucket
    for _ in range(9):
        edit_head(bucket)
    assert read_head(bucket).head.revision > back.future.revision
    with pytest.raises(RollbackDetected, match="its writer's last write is one that this node"):
        host.push(bucket)

    assert accept(host, bucket).taken

    host.push(bucket)
    require_sound(bucket)


def test_who_was_the_writer_once_and_follows_now_accepts_its_own_older_write(
    back: RolledBack,
) -> None:
    host, bucket = back.host, back.bucket
    with host.running(bucket) as pipeline:
        become(pipeline, Role.STANDBY)

    assert not accept(host, bucket).taken

    assert follow(host, bucket) == back.past
    with pytest.raises(Refused, match="nothing to accept"):
        accept(host, bucket)


def test_a_copy_of_this_node_is_still_told_from_a_bucket_that_went_back(
    host: Host, bucket: MemoryStore, disk: Path
) -> None:
    host.push_new("ckpt-1", bucket)
    clone = host.copied_to(disk / "clone")
    clone.push_new("ckpt-2", bucket)

    with pytest.raises(ForeignWriter, match="a copy of this node"):
        host.push_new("ckpt-3", bucket)
    with pytest.raises(Refused, match="nothing to accept"):
        accept(host, bucket)


@pytest.mark.parametrize("role", list(Role))
def test_only_who_was_the_writer_when_it_stopped_writes(back: RolledBack, role: Role) -> None:
    stored = snapshot(back.bucket)
    with back.host.running(back.bucket) as pipeline:
        become(pipeline, role)
        become(pipeline, Role.STOPPED)

    report = accept(back.host, back.bucket)

    assert report.taken is (role in (Role.PRIMARY, Role.RELEASED, Role.STOPPED))
    assert (snapshot(back.bucket) != stored) is report.taken


def test_where_nothing_went_back_there_is_nothing_to_accept(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    with pytest.raises(Refused, match="never saw one"):
        accept(host, bucket)
    host.push_new("ckpt-1", bucket)
    stored = snapshot(bucket)

    for each in (host, other):
        with pytest.raises(Refused, match="not older than what this node has seen") as caught:
            accept(each, bucket)
        assert caught.value.exit_code == 13

    assert snapshot(bucket) == stored
    assert host.push(bucket).already_synced


def test_accepting_twice_is_accepting_once(back: RolledBack) -> None:
    head = accept(back.host, back.bucket).head

    again = accept(back.host, back.bucket)

    assert again == RollbackAccepted(head=head, taken=True, already=True, gone=())
    back.host.push(back.bucket)
    with pytest.raises(Refused, match="nothing to accept"):
        accept(back.host, back.bucket)


def test_a_bucket_that_goes_back_once_more_is_accepted_once_more(back: RolledBack) -> None:
    backup = copy_of(back.bucket)
    first = accept(back.host, back.bucket).head
    back.host.push(back.bucket)
    put_back(back.bucket, backup)
    with pytest.raises(RollbackDetected):
        back.host.push(back.bucket)

    second = accept(back.host, back.bucket).head

    require_beyond(second, first)
    assert second.writer.instance != first.writer.instance
    assert not back.host.push(back.bucket).already_synced


def test_what_was_accepted_goes_back_and_is_accepted_under_another_instance(
    back: RolledBack,
) -> None:
    first = accept(back.host, back.bucket).head
    backup = copy_of(back.bucket)
    edit_head(back.bucket)
    with back.host.running(back.bucket) as pipeline:
        pipeline.register().read()
    put_back(back.bucket, backup)

    second = accept(back.host, back.bucket).head

    assert second.writer.instance != first.writer.instance
    require_beyond(second, first)


def test_a_head_that_was_rebuilt_was_not_accepted_nor_the_other_way_round(
    back: RolledBack,
) -> None:
    accept(back.host, back.bucket)
    with (
        back.host.running(back.bucket) as pipeline,
        pytest.raises(Refused, match="nothing to rebuild"),
    ):
        rebuild_head(pipeline)
    back.bucket.delete([keys.HEAD])
    with back.host.running(back.bucket) as pipeline:
        rebuild_head(pipeline)

    with pytest.raises(Refused, match="nothing to accept"):
        accept(back.host, back.bucket)


def test_a_store_that_ignores_conditions_is_not_taken_anew(back: RolledBack) -> None:
    stored = snapshot(back.bucket)

    with pytest.raises(UnfitStore):
        accept(back.host, LyingStore(back.bucket))

    assert snapshot(back.bucket) == stored


def test_what_was_accepted_does_not_give_way_to_what_was_gone(back: RolledBack) -> None:
    """The newer head turns up again, after all."""
    accept(back.host, back.bucket)
    turned_up = copy_of(back.bucket)
    turned_up.put(keys.HEAD, back.future.model_dump_json().encode())

    with pytest.raises(RollbackDetected):
        back.host.push(turned_up)


def test_a_head_that_is_gone_or_of_another_repository_is_not_accepted(
    back: RolledBack, other: Host
) -> None:
    foreign = MemoryStore(back.bucket.name)
    other.push_new("ckpt-1", foreign)
    gone = copy_of(back.bucket)
    gone.delete([keys.HEAD])
    for store, kind in ((foreign, WrongRepository), (gone, HeadLost)):
        stored = snapshot(store)
        with pytest.raises(kind):
            accept(back.host, store)
        assert snapshot(store) == stored


# What the local disk holds


def test_what_was_pushed_on_a_fork_that_is_gone_is_pushed_again(
    host: Host, bucket: MemoryStore, disk: Path
) -> None:
    """Its step is below that of the latest, which it never came from."""
    host.push_new("ckpt-1", bucket)
    host.push_new("ckpt-5", bucket)
    backup = copy_of(bucket)
    host.go_back_to("ckpt-1", bucket)
    host.push_new("ckpt-2", bucket)
    put_back(bucket, backup)

    head = accept(host, bucket).head

    assert host.push(bucket).entry.timeline == head.timeline
    assert require_sound(bucket) is not None
    require_restores(bucket, host, "ckpt-2", disk)
    shutil.rmtree(host.root)
    host.checkpoint("ckpt-0", a_small_checkpoint(0))
    with pytest.raises(LineageRegression):
        host.push(bucket)


def test_a_life_of_the_engine_that_began_in_what_is_gone_goes_on(
    host: Host, bucket: MemoryStore
) -> None:
    host = replace(host, layout="feldera")
    with Engine(host.root, seed=1) as engine:
        engine.checkpoint()
    host.push(bucket)
    backup = copy_of(bucket)
    shutil.rmtree(host.root)
    with Engine(host.root, seed=2) as engine:
        engine.checkpoint()
        host.push(bucket, new_timeline=True)
        put_back(bucket, backup)

        accept(host, bucket)

        host.push(bucket)
        engine.checkpoint()
        host.push(bucket)
    seen = require_sound(bucket)
    assert seen is not None
    assert [entry.timeline for entry in seen.entries] == [1, 2, 2]


def test_what_was_restored_and_is_still_there_is_what_the_next_push_goes_on_from(
    host: Host, bucket: MemoryStore
) -> None:
    first = host.push_new("ckpt-1", bucket)
    host.push_new("ckpt-2", bucket)
    backup = copy_of(bucket)
    edit_head(bucket)
    host.go_back_to("ckpt-1", bucket)
    assert host.push(bucket).already_synced
    put_back(bucket, backup)

    accept(host, bucket)

    assert host.push(bucket).already_synced
    assert read_head(bucket).head.latest == first.id
    host.checkpoint("ckpt-1b", a_small_checkpoint("1b"))
    assert host.push(bucket).entry.engine_id == "ckpt-1b"
    assert require_sound(bucket) is not None


def test_what_follows_a_restored_checkpoint_is_held_to_that(
    host: Host, bucket: MemoryStore
) -> None:
    host.push_new("ckpt-1", bucket)
    host.push_new("ckpt-5", bucket)
    backup = copy_of(bucket)
    edit_head(bucket)
    host.go_back_to("ckpt-1", bucket)
    with host.running(bucket) as pipeline:
        pipeline.register().read()
    put_back(bucket, backup)
    shutil.rmtree(host.root)
    host.checkpoint("ckpt-0", a_small_checkpoint(0))

    accept(host, bucket)

    with pytest.raises(LineageRegression, match="before step 1"):
        host.push(bucket)


def test_what_was_restored_and_is_gone_is_followed_by_nothing(
    host: Host, bucket: MemoryStore
) -> None:
    """The next checkpoint follows the latest that there is."""
    first = host.push_new("ckpt-1", bucket)
    backup = copy_of(bucket)
    second = host.push_new("ckpt-2", bucket)
    host.push_new("ckpt-3", bucket)
    host.go_back_to("ckpt-2", bucket)
    put_back(bucket, backup)

    report = accept(host, bucket)

    assert second.id in report.gone
    pushed = host.push(bucket).entry
    assert pushed.engine_id == "ckpt-2"
    assert read_head(bucket).head.timelines[-1].parent == Fork(timeline=1, checkpoint=first.id)
    assert require_sound(bucket) is not None


def test_a_pull_that_was_interrupted_is_finished_with_what_is_there(
    back: RolledBack, disk: Path
) -> None:
    host, bucket = back.host, back.bucket
    origin = host.copied_to(disk / "origin")
    with host.running(bucket) as pipeline:
        gone = pipeline.state.identity.remembered().pushed
        assert gone is not None
        pipeline.state.identity.publishing(gone.checkpoint_id, gone.engine_id, 3, None)

    accept(host, bucket)

    with pytest.raises(Refused, match="interrupted"):
        host.push(bucket)
    pulled = host.pull(bucket, wanted(explicit=False))
    assert isinstance(pulled, Pulled)
    assert pulled.entry.id == back.past.latest
    require_restores(bucket, origin, "ckpt-1", disk)
    assert host.push(bucket).already_synced


def test_a_storage_that_cannot_be_read_is_no_obstacle(back: RolledBack) -> None:
    shutil.rmtree(back.host.root)
    back.host.root.mkdir()
    (back.host.root / "not a directory").touch()

    assert accept(back.host, back.bucket).taken


def test_uploads_of_what_is_gone_are_not_relied_on(host: Host, bucket: MemoryStore) -> None:
    """Neither those of this node, nor those that another one still remembers."""
    first = host.push_new("ckpt-1", bucket)
    backup = copy_of(bucket)
    edit_head(bucket)
    host.checkpoint("ckpt-2", a_small_checkpoint(2))
    fail_at_the_manifest(host, bucket)
    with host.running(bucket) as pipeline:
        assert list(journal(pipeline).uploads())
        assert pipeline.state.manifests.get(bytes.fromhex(first.manifest.digest)) is not None
    put_back(bucket, backup)

    head = accept(host, bucket).head

    with host.running(bucket) as pipeline:
        assert not list(journal(pipeline).uploads())
        assert pipeline.state.manifests.get(bytes.fromhex(first.manifest.digest)) is None
    for generation in (0, 1, 12, head.sweep.generation - 1):
        assert doomed({"chunks/x": generation}, head.sweep, {}) == {"chunks/x"}
    assert not doomed({"chunks/x": head.sweep.generation}, head.sweep, {})


def journal(pipeline: Pipeline) -> UploadJournal:
    me = pipeline.state.identity.remembered()
    assert me.repository_id is not None
    return UploadJournal(pipeline.state.database, me.repository_id)


# Others


@pytest.fixture
def displaced(host: Host, other: Host, bucket: MemoryStore) -> Host:
    """The second machine, which had taken over; its bucket went back to before that."""
    host.push_new("ckpt-1", bucket)
    backup = copy_of(bucket)
    take_over_as(other, bucket)
    put_back(bucket, backup)
    return other


def take_over_as(host: Host, store: MemoryStore) -> None:
    with host.running(store) as pipeline:
        repository = repository_in(store)
        me, instance = pipeline.state.identity.remembered(), str(uuid4())
        by = Claimant(node=host.node, node_id=me.node_id, instance=instance, request=None)
        pipeline.state.identity.begin(repository.descriptor.repository_id, instance)

        def take(old: HeadAt) -> Head:
            latest = old.head.entry(old.head.latest or CheckpointId(""))
            taken = claim.claimed(old.head, by, latest, "activate", store.now())
            return claim.confirmed(taken, old.head.latest, ())

        pipeline.register().change(take, landed=lambda head: head.writer.instance == instance)


def beat(store: ObjectStore, host: Host, role: Role, *, epoch: int = 1) -> None:
    with host.running(store) as pipeline:
        me = pipeline.state.identity.remembered()
        nodes.write(
            store,
            Heartbeat(
                node=host.node,
                node_id=me.node_id,
                machine=pipeline.machine,
                role=role,
                epoch=epoch,
                warm=None,
                pulling=None,
                at=pipeline.now(),
            ),
        )


@pytest.mark.parametrize("role", [Role.PRIMARY, Role.STOPPED, Role.STANDBY])
def test_a_writer_that_seems_alive_is_displaced_only_by_force(
    host: Host, displaced: Host, bucket: MemoryStore, role: Role
) -> None:
    beat(bucket, host, role)
    stored = snapshot(bucket)

    with pytest.raises(PrimaryActive, match=r"'host-a' was alive .* as the writer") as caught:
        accept(displaced, bucket)
    assert caught.value.exit_code == 13
    assert snapshot(bucket) == stored

    head = accept(displaced, bucket, force=True).head
    assert head.writer.node == "host-b"
    with pytest.raises(Fenced):
        host.push(bucket)


def test_a_writer_that_was_not_heard_of_for_long_is_displaced(
    host: Host, displaced: Host, bucket: MemoryStore
) -> None:
    beat(bucket, host, Role.PRIMARY)
    later = MemoryStore(bucket.name, clock=lambda: datetime.now(UTC) + nodes.FRESH)
    later._objects = bucket._objects

    assert accept(displaced, later).head.writer.node == "host-b"


@pytest.mark.parametrize(
    ("role", "refused"),
    [
        (Role.PRIMARY, True),
        (Role.ACTIVATING, True),
        (Role.UNFENCED, True),
        (Role.STANDBY, False),
        (Role.FENCED, False),
    ],
)
def test_who_calls_itself_the_primary_stands_in_the_way_too(
    back: RolledBack, other: Host, role: Role, refused: bool
) -> None:
    beat(back.bucket, other, role)
    if not refused:
        assert accept(back.host, back.bucket).taken
        return
    with pytest.raises(PrimaryActive, match=f"calls itself {role}"):
        accept(back.host, back.bucket)
    unguarded = replace(back.host, takeover=Takeover(guard=False))
    assert accept(unguarded, back.bucket).taken


def test_what_this_node_has_just_said_of_itself_does_not(back: RolledBack) -> None:
    beat(back.bucket, back.host, Role.PRIMARY)

    assert accept(back.host, back.bucket).taken


def test_what_nobody_can_read_stands_in_the_way_too(back: RolledBack) -> None:
    back.bucket.put(nodes.key("host-c"), b"{")

    with pytest.raises(PrimaryActive, match="cannot be read"):
        accept(back.host, back.bucket)

    assert accept(back.host, back.bucket, force=True).taken


def test_the_epoch_goes_beyond_what_others_say_that_they_have_seen(
    back: RolledBack, other: Host
) -> None:
    beat(back.bucket, other, Role.STANDBY, epoch=41)
    beat(back.bucket, replace(other, node="host-c"), Role.STANDBY, epoch=2**63 - 1)

    assert accept(back.host, back.bucket).head.epoch == 42


def test_of_two_that_accept_at_once_one_wins(
    host: Host, displaced: Host, bucket: MemoryStore
) -> None:
    edit = FaultyStore(bucket)

    def accept_first(_number: int, call: Call) -> None:
        if call == SWAP and not edit.calls:
            accept(displaced, edit)

    with host.running(bucket) as pipeline:
        pipeline.state.identity.saw(revision=99, epoch=9)
    with pytest.raises(Busy, match="'host-b' replaced head"):
        accept(host, Odd(bucket, accept_first))

    seen = require_sound(bucket)
    assert seen is not None
    assert seen.head.writer.node == "host-b"
    with pytest.raises(CkptsyncError) as caught:
        host.push(bucket)
    assert caught.value.exit_code == 11
    displaced.checkpoint("ckpt-2", a_small_checkpoint(2))
    displaced.push(bucket)


# Crashes and lost replies


@pytest.mark.parametrize("crash_after", [False, True], ids=["before the call", "after the call"])
def test_a_crash_at_any_call_leaves_a_bucket_that_is_refused_or_one_that_goes_on(
    back: RolledBack, disk: Path, crash_after: bool
) -> None:
    accepted = 0
    for number in count():
        left = back.copied_to(disk / f"crash-{number}")
        store = FaultyStore(left.bucket, crash_at=number, crash_after=crash_after)
        try:
            accept(left.host, store)
        except Crash:
            pass
        else:
            break
        head = read_head(left.bucket).head
        if head == back.past:
            assert isinstance(attempt(left.host, FaultyStore(left.bucket)), RollbackDetected)
        else:
            accepted += 1

        require_goes_on(left, accept(left.host, left.bucket).head)
    assert number >= 5
    assert accepted == int(crash_after), "the swap is the last call"


def require_goes_on(world: RolledBack, head: Head) -> None:
    require_beyond(head, world.past, world.future)
    assert read_head(world.bucket).head == head
    assert len(head.timelines) == 2
    assert not world.host.push(world.bucket).already_synced
    seen = require_sound(world.bucket)
    assert seen is not None
    assert seen.engine_ids == ("ckpt-1", "ckpt-3")
    fresh = Host(home=world.host.home / "elsewhere")
    fresh.restore(world.bucket)
    assert contents(fresh.root / "ckpt-3") == contents(world.host.root / "ckpt-3")


@pytest.mark.parametrize("lost", [False, True], ids=["not carried out", "not answered"])
def test_a_call_that_fails_at_any_time_leaves_what_asking_again_goes_on_from(
    back: RolledBack, disk: Path, lost: bool
) -> None:
    for number in count():
        left = back.copied_to(disk / f"fault-{number}")

        def decide(at: int, call: Call, number: int = number) -> Verdict:
            if at != number:
                return None
            return LOST if lost else unavailable(call)

        odd = Odd(left.bucket, decide)
        with suppress(Unavailable, CannotTell):
            accept(left.host, odd)
        require_goes_on(left, accept(left.host, left.bucket).head)
        if number >= len(odd.calls):
            break
    assert number >= 5


def test_a_swap_that_arrives_late_is_found(back: RolledBack) -> None:
    late = Late(back.bucket)

    head = accept(back.host, late).head

    assert late.calls.count(SWAP) == 1
    require_goes_on(back, head)


def test_a_swap_that_arrives_after_its_process_died_is_found(back: RolledBack) -> None:
    """It overtakes the swap of the one who asks again."""

    class Dying(FaultyStore):
        def put(
            self, key: str, body: Body, *, expect: Version | Expect = Expect.ANYTHING
        ) -> Version:
            if key == keys.HEAD:
                on_its_way.append((bytes(body), expect))
                raise Crash
            return super().put(key, body, expect=expect)

    def arrive(_number: int, call: Call) -> None:
        if call == SWAP and on_its_way:
            body, expect = on_its_way.pop()
            back.bucket.put(keys.HEAD, body, expect=expect)

    on_its_way: list[tuple[bytes, Version | Expect]] = []
    with pytest.raises(Crash):
        accept(back.host, Dying(back.bucket))

    odd = Odd(back.bucket, arrive)
    head = accept(back.host, odd).head

    assert odd.calls.count(SWAP) == 1
    require_goes_on(back, head)
