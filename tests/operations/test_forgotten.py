"""Everything there is, in buckets of which retention has retired and forgotten a part."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
import structlog

from ckptsync.cli.console import SENTENCES
from ckptsync.errors import (
    Busy,
    CheckpointNotFound,
    CkptsyncError,
    IntegrityError,
    UnpushedWork,
)
from ckptsync.model import CheckpointId, Role, ignore
from ckptsync.operations.doctor_repository import repository as examined
from ckptsync.operations.forgotten import Forgotten
from ckptsync.operations.listing import details, side_by_side, stored
from ckptsync.operations.past import past
from ckptsync.operations.pipeline import StandbySettings, Takeover
from ckptsync.operations.pull import Restored
from ckptsync.operations.push import PushReport
from ckptsync.operations.repair_head import rebuild_head
from ckptsync.operations.repair_rollback import accept_rollback
from ckptsync.operations.status import BucketStatus, status
from ckptsync.operations.topology import topology
from ckptsync.operations.unsynced import unsynced
from ckptsync.operations.verify import VerifyReport, verify
from ckptsync.repository import keys
from ckptsync.repository.commit import MustReplan, fork
from ckptsync.repository.head import Entry, Fork, Keep
from ckptsync.repository.repository import read_head
from ckptsync.repository.timelines import path
from ckptsync.stores.memory import MemoryStore
from tests.fakes.stores import Call
from tests.operations.actors import Odd, before, edit_head
from tests.operations.forgetting import (
    entries_of,
    forget,
    into_pages,
    mark_bad,
    replace_pages,
    repository_of,
    retire,
)
from tests.operations.invariants import require_sound
from tests.operations.looks import manifest_of
from tests.operations.races import at_each_call
from tests.operations.standbys import Replica, poll, standing_by
from tests.operations.takeovers import Node, a_node
from tests.pipelines import (
    PACK_BELOW,
    Host,
    a_small_checkpoint,
    contents,
    copy_of,
    noise,
    snapshot,
    wanted,
)

OLD: Final = range(6)
"""By number, oldest first: the checkpoints of the first timeline."""
FORK: Final = 2
LATEST: Final = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Six checkpoints, and two on a timeline that began at the third of them."""

    store: MemoryStore
    a: Node
    b: Node
    all: tuple[Entry, ...]

    def ids(self, *numbers: int) -> tuple[CheckpointId, ...]:
        return tuple(self.all[number].id for number in numbers)

    @property
    def usable(self) -> list[Entry]:
        """Those that a pull by name brings."""
        return [entry for entry in entries_of(self.store) if entry.state != "bad"]


@pytest.fixture
def world(disk: Path) -> World:
    """Each checkpoint has content of its own, and some that all have."""
    store = MemoryStore("s3://dr/orders")
    a = a_node(disk, "host-a")
    standby = StandbySettings(initially=True)
    b = a_node(disk, "host-b", standby=standby, takeover=Takeover(guard=False))
    for number in range(1, 9):
        if number == 7:
            a.go_back_to("ckpt-3", store)
        push_next(a, store, number)
    assert read_head(store).head.timeline == 2
    return World(store=store, a=a, b=b, all=tuple(entries_of(store)))


def push_next(host: Host, store: MemoryStore, number: int) -> Entry:
    own = {"own": noise(PACK_BELOW, number), "small": noise(50, number)}
    host.checkpoint(f"ckpt-{number}", {**a_small_checkpoint(), **own})
    return host.push(store).entry


def all_retired(world: World) -> None:
    retire(world.store, *world.ids(*OLD))


def gaps(world: World) -> None:
    forget(world.store, *world.ids(1, 4, 6))


def no_fork_point(world: World) -> None:
    forget(world.store, *world.ids(FORK))


def no_old_timeline(world: World) -> None:
    forget(world.store, *world.ids(*OLD))


def only_latest(world: World) -> None:
    forget(world.store, *world.ids(*OLD, 6))


def a_bad_one_amid(world: World) -> None:
    forget(world.store, *world.ids(0, 3))
    (bad,) = world.ids(FORK)
    mark_bad(world.store, bad)


def in_pages(world: World) -> None:
    into_pages(world.store)


def retired_in_pages(world: World) -> None:
    into_pages(world.store)
    retire(world.store, *world.ids(*OLD))


def forgotten_from_pages(world: World) -> None:
    into_pages(world.store)
    forget(world.store, *world.ids(1, FORK, 4))
    retire(world.store, *world.ids(0))


def only_latest_in_a_page(world: World) -> None:
    only_latest(world)
    into_pages(world.store)


def kept(world: World) -> None:
    all_retired(world)
    first, second = world.ids(0, 1)
    forever = Keep(checkpoint=first, by="ops@host-a")
    expired = Keep(checkpoint=second, by="ops@host-a", until=world.store.now() - timedelta(1))
    edit_head(world.store, keeps={"pre-upgrade": forever, "drill": expired})


WORLDS: Final[Mapping[str, Callable[[World], None]]] = {
    each.__name__: each
    for each in (
        all_retired,
        gaps,
        no_fork_point,
        no_old_timeline,
        only_latest,
        a_bad_one_amid,
        in_pages,
        retired_in_pages,
        forgotten_from_pages,
        only_latest_in_a_page,
        kept,
    )
}


@pytest.fixture(params=WORLDS)
def thinned(world: World, request: pytest.FixtureRequest) -> World:
    """In each state that retention and sweeps can have left it in."""
    WORLDS[request.param](world)
    assert require_sound(world.store) is not None
    return world


def check(host: Host, store: MemoryStore | Odd, checkpoints: str = "all") -> VerifyReport:
    with host.running(store) as pipeline:
        return verify(pipeline, checkpoints=checkpoints, full=True, progress=ignore)


# Everything, in every state


def test_it_can_be_looked_at(thinned: World) -> None:
    store, there = thinned.store, entries_of(thinned.store)
    poll(thinned.b, store)
    thinned.b.beat(store)
    before = snapshot(store)

    for node in (thinned.a, thinned.b):
        with node.running(store) as pipeline:
            rows = side_by_side((), stored(pipeline))
            assert [row.checkpoint for row in rows] == there[::-1]
            assert [row.latest for row in rows] == [True] + [False] * (len(there) - 1)
            for entry in there:
                assert details(pipeline, entry.id).entry == entry
            assert details(pipeline, "latest").entry == there[-1]
            told = status(pipeline)
            assert told.problem is None
            assert isinstance(told.bucket, BucketStatus)
            assert told.bucket.latest == there[-1]
            assert topology(pipeline).latest == there[-1].id
            assert past(pipeline, limit=100).bucket_problem is None
            assert list(examined(pipeline))
    assert snapshot(store) == before


def test_verify_finds_no_damage_where_there_is_none(thinned: World) -> None:
    report = check(thinned.a, thinned.store)

    assert report.sound
    assert len(report.checkpoints) == len(entries_of(thinned.store))


def test_what_is_there_can_be_pulled_and_what_is_not_is_not_found(
    thinned: World, disk: Path
) -> None:
    usable = {entry.id for entry in thinned.usable}
    for number, entry in enumerate(thinned.all):
        target = disk / f"to-{number}"
        if entry.id not in usable:
            with pytest.raises(CheckpointNotFound):
                thinned.b.pull(thinned.store, wanted(entry.id, to=target))
            continue
        thinned.b.restore(thinned.store, wanted(entry.id, to=target))
        assert (target / entry.engine_id / "own").read_bytes() == noise(PACK_BELOW, number + 1)
    assert thinned.b.restore(thinned.store).entry == entries_of(thinned.store)[-1]


def test_a_standby_follows_it(thinned: World) -> None:
    polled = poll(thinned.b, thinned.store)

    assert polled.warm is not None
    assert polled.warm.entry == entries_of(thinned.store)[-1]


def test_the_next_push_goes_on(thinned: World) -> None:
    seen = require_sound(thinned.store)

    entry = push_next(thinned.a, thinned.store, 9)

    assert require_sound(thinned.store, since=seen) is not None
    assert entry.new_bytes < 2 * PACK_BELOW, "the rest is the latest's"
    assert manifest_of(thinned.store).header.parent == thinned.all[LATEST].id


def test_whatever_is_gone_back_to_can_be_gone_on_from(thinned: World, disk: Path) -> None:
    for number, entry in enumerate(thinned.usable[:-1]):
        store, a = copy_of(thinned.store), thinned.a.copied_to(disk / f"back-{number}")
        a.go_back_to(entry.id, store)
        again = a.push(store)
        push_next(a, store, 9)

        seen = require_sound(store)
        assert seen is not None
        assert again.already_synced == (entry.state == "live")
        assert seen.head.timelines[-1].parent == Fork(timeline=entry.timeline, checkpoint=entry.id)
        assert seen.entries[-1].new_bytes < 2 * PACK_BELOW
        shutil.rmtree(a.home)


def test_another_node_can_take_it_over_and_give_it_back(thinned: World) -> None:
    latest = thinned.all[LATEST].id

    report = thinned.b.activate(thinned.store)
    push_next(thinned.b, thinned.store, 9)

    assert (report.checkpoint, report.left_behind) == (latest, 0)
    assert thinned.a.start(thinned.store) is Role.FENCED
    assert not thinned.a.rejoin(thinned.store).already
    poll(thinned.a, thinned.store)
    seen = require_sound(thinned.store)
    assert seen is not None
    again = thinned.a.activate(thinned.store, "back", force=True)
    assert again.checkpoint == seen.entries[-1].id
    push_next(thinned.a, thinned.store, 10)
    assert require_sound(thinned.store, since=seen) is not None


def test_it_can_be_handed_over(thinned: World) -> None:
    def take(_seconds: float) -> None:
        if read_head(thinned.store).head.writer.state == "released":
            thinned.b.activate(thinned.store)

    poll(thinned.b, thinned.store)
    thinned.b.beat(thinned.store)
    thinned.a.hand_over(thinned.store, "host-b", take)

    assert (thinned.a.role, thinned.b.role) == (Role.STANDBY, Role.PRIMARY)
    push_next(thinned.b, thinned.store, 9)
    assert require_sound(thinned.store) is not None


def test_whatever_a_standby_begins_with_is_the_latest_then(thinned: World, disk: Path) -> None:
    """Also one that was retired: nobody deletes what is gone on from."""
    for number, entry in enumerate(thinned.usable):
        store = copy_of(thinned.store)
        begins = StandbySettings(initially=True, start_from=entry.id)
        node = replace(thinned.b, home=disk / f"begin-{number}", standby=begins)

        assert node.activate(store).checkpoint == entry.id

        seen = require_sound(store)
        assert seen is not None
        assert seen.head.latest == entry.id
        revived = next(each for each in seen.entries if each.id == entry.id)
        assert (revived.state, revived.retired_at) == ("live", None)
        shutil.rmtree(node.home)


def test_a_lost_head_is_rebuilt_from_what_was_not_swept(thinned: World) -> None:
    """What was retired or found bad is live again: nobody can tell any more."""
    there = [entry.id for entry in entries_of(thinned.store)]
    thinned.store.delete([keys.HEAD])

    with thinned.a.running(thinned.store) as pipeline:
        rebuilt = rebuild_head(pipeline)

    assert [entry.id for entry in entries_of(thinned.store)] == there
    assert not rebuilt.left_out
    assert rebuilt.head.latest == thinned.all[LATEST].id
    assert require_sound(thinned.store) is not None
    push_next(thinned.a, thinned.store, 9)


def test_a_bucket_that_went_back_can_be_accepted(thinned: World) -> None:
    older = copy_of(thinned.store)
    push_next(thinned.a, thinned.store, 9)

    with thinned.a.running(older) as pipeline:
        accepted = accept_rollback(pipeline)

    assert accepted.taken
    assert len(accepted.gone) == 1
    assert require_sound(older) is not None
    assert thinned.a.push(older, new_timeline=True).entry.engine_id == "ckpt-9"
    assert require_sound(older) is not None


# A push, while what it goes on from is retired or forgotten


def retired_at_once(id: CheckpointId) -> Callable[[MemoryStore], None]:
    return lambda store: retire(store, id)


def deleted_at_once(id: CheckpointId) -> Callable[[MemoryStore], None]:
    return lambda store: forget(store, id)


MEDDLING: Final = pytest.mark.parametrize("meddle", [retired_at_once, deleted_at_once])
Meddle = Callable[[CheckpointId], Callable[[MemoryStore], None]]


@MEDDLING
def test_what_was_gone_back_to_is_recorded_only_while_it_is_live(
    world: World, disk: Path, meddle: Meddle
) -> None:
    """Nothing was written since, so a push only says that this is the latest again."""
    point = world.all[FORK]
    world.a.go_back_to(point.id, world.store)
    anew = 0

    for host, store, outcome in at_each_call(world.a, world.store, disk, meddle(point.id)):
        assert isinstance(outcome, PushReport), outcome
        seen = require_sound(store, forgotten=[point.id])
        assert seen is not None
        assert seen.head.latest == outcome.entry.id
        fork_at = Fork(timeline=1, checkpoint=point.id)
        assert seen.head.timelines[-1].parent == fork_at
        anew += not outcome.already_synced
        assert outcome.already_synced == (outcome.entry.id == point.id)
        assert host.push(store).already_synced

    assert anew >= 3, "nobody ever met the push"


def test_no_timeline_begins_at_what_is_not_live_any_more(world: World) -> None:
    store, point = world.store, world.all[FORK]
    with world.a.running(store) as pipeline:
        for change in (retire, forget):
            change(store, point.id)
            with pytest.raises(MustReplan):
                fork(
                    pipeline.register(), repository_of(store), point, "pull: went back", store.now()
                )

    assert read_head(store).head.latest == world.all[LATEST].id


@MEDDLING
def test_a_push_from_what_is_retired_or_forgotten_meanwhile_is_whole(
    world: World, disk: Path, meddle: Meddle
) -> None:
    point = world.all[FORK]
    world.a.go_back_to(point.id, world.store)
    world.a.checkpoint("ckpt-9", {**a_small_checkpoint(), "own": noise(PACK_BELOW, 9)})

    for _host, store, outcome in at_each_call(world.a, world.store, disk, meddle(point.id)):
        assert isinstance(outcome, PushReport), outcome
        seen = require_sound(store)
        assert seen is not None
        assert seen.entries[-1] == outcome.entry
        assert seen.head.timelines[-1].parent == Fork(timeline=1, checkpoint=point.id)
        assert manifest_of(store).header.parent == point.id


def test_nothing_of_what_was_forgotten_is_referred_to(world: World) -> None:
    """Only what it shares with others is still in the bucket, but nobody vouches for it."""
    point = world.all[FORK]
    world.a.go_back_to(point.id, world.store)
    forget(world.store, point.id, sweep=False)
    repository = repository_of(world.store)
    before = {stored.key for entry in world.all for stored in repository.manifest(entry).objects}

    world.a.push(world.store)

    assert not before & {stored.key for stored in manifest_of(world.store).objects}
    way = path(read_head(world.store).head)
    assert way == {3: way[3], 1: point.seq}, "what lay before it still lies behind"


def test_the_same_checkpoint_is_pushed_once_more_if_the_bucket_has_forgotten_it(
    world: World,
) -> None:
    """So would the engine's next one be; what is pushed is what the disk holds."""
    *_, first, latest = world.all
    edit_head(world.store, latest=first.id)
    forget(world.store, latest.id)

    with world.a.running(world.store) as pipeline:
        assert unsynced(pipeline) is None, "as far as can be told without the bucket"
    report = world.a.push(world.store)

    assert not report.already_synced
    assert report.entry.engine_id == latest.engine_id
    assert manifest_of(world.store).header.parent == first.id
    assert require_sound(world.store) is not None


def test_a_page_that_is_replaced_meanwhile_fails_a_push_for_now_at_most(
    world: World, disk: Path
) -> None:
    into_pages(world.store)
    world.a.checkpoint("ckpt-9", {**a_small_checkpoint(), "own": noise(PACK_BELOW, 9)})

    for host, store, outcome in at_each_call(world.a, world.store, disk, replace_pages):
        assert isinstance(outcome, PushReport | Busy), outcome
        assert host.push(store).entry.engine_id == "ckpt-9"
        assert require_sound(store) is not None


# A pull, while what it fetches is forgotten


def interfered(
    node: Host,
    world: World,
    disk: Path,
    act: Callable[[Host, Odd], object],
    meddle: Callable[[MemoryStore], object],
) -> Iterator[tuple[Host, MemoryStore, object]]:
    """For each call of `act`, what it gives or raises if somebody meddles just before it."""
    number = 0
    while True:
        store = copy_of(world.store)
        home = disk / f"interfered-{number}"
        there = node.copied_to(home) if node.home.exists() else replace(node, home=home)

        def strike(store: MemoryStore = store) -> None:
            meddle(store)

        odd = Odd(store, before(number, strike))
        try:
            outcome = act(there, odd)
        except CkptsyncError as error:
            outcome = error
        if number >= len(odd.calls):
            assert number >= 4
            return
        yield there, store, outcome
        shutil.rmtree(home, ignore_errors=True)
        number += 1


def test_a_retired_one_is_pulled_with_one_warning(world: World) -> None:
    point = world.all[FORK]
    retire(world.store, point.id)

    with structlog.testing.capture_logs() as logs:
        world.b.restore(world.store, wanted(point.id))

    warnings = [each for each in logs if each["log_level"] == "warning"]
    assert [each["event"] for each in warnings] == ["pull.retired"]
    assert SENTENCES["pull.retired"].format_map(warnings[0]) == (
        f"checkpoint {point.id} is retired and may be deleted while it is pulled; "
        f"ckptsync keep {point.id} holds it"
    )


def test_a_pull_of_what_is_deleted_meanwhile_leaves_everything_as_it_was(
    world: World, disk: Path
) -> None:
    point = world.all[FORK]
    retire(world.store, point.id)
    world.b.restore(world.store, wanted("ckpt-1"))
    here = contents(world.b.root)
    failed = 0

    def act(node: Host, store: Odd) -> object:
        return node.pull(store, wanted(point.id, force=True))

    for node, _store, outcome in interfered(world.b, world, disk, act, deleted_at_once(point.id)):
        if isinstance(outcome, Restored):
            assert (node.root / "ckpt-3" / "own").read_bytes() == noise(PACK_BELOW, 3)
            continue
        assert isinstance(outcome, Forgotten | CheckpointNotFound), outcome
        assert outcome.transient == isinstance(outcome, Forgotten)
        failed += isinstance(outcome, Forgotten)
        assert contents(node.root) == here
        assert not [path for path in node.work.rglob("*") if path.is_file()]

    assert failed >= 2, "it was never deleted in the middle"


def outdated(world: World) -> Callable[[MemoryStore], None]:
    """The latest is it no more, and is deleted at once."""
    latest, home = world.all[LATEST], world.a.home

    def meddle(store: MemoryStore) -> None:
        copy = world.a.copied_to(home.with_name(f"{home.name}-newer"))
        push_next(copy, store, 9)
        shutil.rmtree(copy.home)
        forget(store, latest.id)

    return meddle


@pytest.mark.parametrize("aside", [False, True], ids=["storage", "elsewhere"])
def test_a_pull_of_the_latest_goes_on_with_the_newer_one(
    world: World, disk: Path, *, aside: bool
) -> None:
    def act(node: Host, store: Odd) -> object:
        return node.pull(store, wanted(to=node.home / "to" if aside else None))

    for node, _store, outcome in interfered(world.b, world, disk, act, outdated(world)):
        assert isinstance(outcome, Restored), outcome
        assert outcome.entry.engine_id == "ckpt-9"
        root = node.home / "to" if aside else node.root
        assert [path.name for path in root.iterdir()] == ["ckpt-9"]


def test_a_pull_that_cannot_be_finished_any_more_says_what_to_do(world: World) -> None:
    """It was interrupted while it put a checkpoint in place that is gone by now."""
    point = world.all[FORK]
    with world.b.running(world.store) as pipeline:
        pipeline.state.identity.publishing(point.id, point.engine_id, 3, None)
    forget(world.store, point.id)

    with pytest.raises(CheckpointNotFound, match="holds part of checkpoint") as caught:
        world.b.pull(world.store, wanted(explicit=False))

    assert caught.value.hint is not None
    assert "--checkpoint latest" in caught.value.hint
    assert world.b.restore(world.store).entry == world.all[LATEST]
    assert world.b.pull(world.store, wanted(explicit=False)) is not None


def test_a_pull_over_what_the_bucket_has_forgotten_says_so(world: World) -> None:
    """It was pushed from here; whether anything newer makes up for it only people can tell."""
    *_, first, latest = world.all
    edit_head(world.store, latest=first.id)
    forget(world.store, latest.id)

    with pytest.raises(UnpushedWork, match="is not in s3://dr/orders any more"):
        world.a.pull(world.store, wanted())

    assert world.a.restore(world.store, wanted(force=True)).entry.id == first.id


# Standbys


def test_a_standby_whose_checkpoint_is_deleted_meanwhile_holds_the_newer_one(
    world: World, disk: Path
) -> None:
    for node, store, outcome in interfered(
        world.b, world, disk, lambda node, store: poll(node, store), outdated(world)
    ):
        assert not isinstance(outcome, CkptsyncError), outcome
        polled = poll(node, store)
        assert polled.warm is not None
        assert polled.warm.entry.engine_id == "ckpt-9"


def test_a_standby_keeps_what_the_bucket_has_forgotten(world: World) -> None:
    with standing_by(world.b, world.store) as standby:
        standby.poll(progress=ignore)
        point = world.all[LATEST]
        outdated(world)(world.store)
        edit_head(world.store, latest=world.all[6].id)  # and what came after it was bad
        for entry in entries_of(world.store)[-1:]:
            mark_bad(world.store, entry.id)

        assert standby.warm is not None
        assert standby.warm.entry.id == point.id
    world.b.beat(world.store)
    with world.a.running(world.store) as pipeline:
        (_, b) = topology(pipeline).nodes
        assert (b.node, b.lag) == ("host-b", None)


def test_a_heartbeat_goes_on_to_name_what_was_forgotten(world: World) -> None:
    """Nobody deletes what a node holds while the node is heard of; it was away."""
    poll(world.b, world.store)
    outdated(world)(world.store)

    with world.b.running(world.store) as pipeline:
        warm = pipeline.state.warm.ids()[0]
    with world.b.running(world.store) as pipeline:
        told = status(pipeline)
        assert told.memory.warm == world.all[LATEST].id  # type: ignore[union-attr]
        assert (told.warm, told.lag) == (None, None)
    assert warm == world.all[LATEST].id


def test_a_replica_whose_head_still_names_what_was_deleted_is_no_damage(
    world: World, disk: Path
) -> None:
    """Deletions were brought there before the head that explains them."""
    replica = Replica("s3://dr/orders")
    replica._objects = dict(world.store._objects)
    poll(world.b, replica)
    older = dict(world.store._objects)
    push_next(world.a, world.store, 9)
    seventh, eighth = world.ids(6, LATEST)
    forget(world.store, seventh, eighth)
    replica._objects = {
        key: older[key] if key == keys.HEAD else data for key, data in world.store._objects.items()
    }
    fresh = replace(world.b, home=disk / "fresh")

    assert poll(world.b, replica).warm is not None
    with structlog.testing.capture_logs() as logs:
        polled = poll(fresh, replica)

    assert [each["event"] for each in logs if each["log_level"] == "warning"] == [
        "standby.incomplete"
    ]
    assert polled.warm is not None
    assert polled.warm.entry.id == world.all[FORK].id, "the newest that is whole there"


# Activations


@MEDDLING
def test_an_activation_from_what_is_retired_or_forgotten_meanwhile_is_sound(
    world: World, disk: Path, meddle: Meddle
) -> None:
    point = world.all[FORK]
    begins = StandbySettings(initially=True, start_from=point.id)
    b = replace(world.b, standby=begins)

    def act(node: Host, store: Odd) -> object:
        assert isinstance(node, Node)
        return node.activate(store)

    def strike(store: MemoryStore) -> None:
        if read_head(store).head.latest != point.id:
            meddle(point.id)(store)

    for node, store, outcome in interfered(b, world, disk, act, strike):
        assert isinstance(node, Node)
        seen = require_sound(store)
        assert seen is not None
        if isinstance(outcome, CkptsyncError):
            assert isinstance(outcome, Forgotten | CheckpointNotFound), outcome
            node = replace(node, standby=world.b.standby)
            node.activate(store)
        push_next(node, store, 9)
        after = require_sound(store, since=seen)
        assert after is not None
        assert after.head.latest == after.entries[-1].id


@pytest.mark.parametrize("before", [(6,), OLD, (*OLD, 6)], ids=["one", "others", "all"])
@pytest.mark.parametrize("paged", [False, True], ids=["in head", "in pages"])
def test_what_this_host_holds_will_do_though_the_bucket_has_forgotten_it(
    world: World, before: tuple[int, ...], *, paged: bool
) -> None:
    """The latest is the newest live one before it; there may be none until the next push."""
    local = Takeover(guard=False, on_pull_failure="local", max_staleness=timedelta(days=9))
    b = replace(world.b, takeover=local)
    poll(b, world.store)
    held = world.all[LATEST]
    lost = push_next(world.a, world.store, 9)
    forget(world.store, held.id, *world.ids(*before))
    world.store.delete([keys.manifest(lost.id)])
    if paged:
        into_pages(world.store)
    left = [entry for entry in entries_of(world.store) if entry.id != lost.id]
    behind = [each for each in left if each.timeline == 2 or each.seq <= world.all[FORK].seq]

    report = b.activate(world.store)

    head = read_head(world.store).head
    assert report.checkpoint == held.id
    assert head.timelines[-1].parent == Fork(timeline=2, checkpoint=held.id)
    assert head.latest == (behind[-1].id if behind else None)
    pushed = push_next(b, world.store, 10)
    assert read_head(world.store).head.latest == pushed.id


# Verify and repair


def test_what_is_swept_while_it_is_verified_is_no_damage(world: World, disk: Path) -> None:
    doomed = world.ids(1, 4)

    def act(node: Host, store: Odd) -> object:
        return check(node, store)

    reported = set()
    for _node, store, outcome in interfered(
        world.b, world, disk, act, lambda store: forget(store, *doomed)
    ):
        assert isinstance(outcome, VerifyReport), outcome
        assert outcome.sound
        ids = {each.entry.id for each in outcome.checkpoints}
        assert ids >= {entry.id for entry in entries_of(store)}
        reported.add(len(ids))
    assert reported >= {6, 8}


def test_pages_that_are_replaced_while_they_are_verified_are_read_anew(
    world: World, disk: Path
) -> None:
    """Nothing is passed over that lay in them."""
    into_pages(world.store)

    def act(node: Host, store: Odd) -> object:
        return check(node, store)

    for _node, _store, outcome in interfered(world.b, world, disk, act, replace_pages):
        assert isinstance(outcome, VerifyReport), outcome
        assert outcome.sound
        assert [each.entry.id for each in outcome.checkpoints] == [
            entry.id for entry in world.all[::-1]
        ]


def test_a_list_that_never_stands_still_cannot_be_verified_now(world: World) -> None:
    into_pages(world.store)

    def decide(_number: int, call: Call) -> None:
        if call.key.startswith("catalog/"):
            replace_pages(world.store)

    with pytest.raises(Busy, match="changed 5 times"):
        check(world.b, Odd(world.store, decide))


def test_one_that_is_forgotten_while_it_is_verified_is_not_found(world: World) -> None:
    (doomed,) = world.ids(1)

    def decide(_number: int, call: Call) -> None:
        if call.key == keys.manifest(doomed) and len(entries_of(world.store)) > LATEST:
            forget(world.store, doomed)

    with pytest.raises(CheckpointNotFound):
        check(world.b, Odd(world.store, decide), doomed)


def test_a_missing_object_of_a_retired_one_is_damage(world: World) -> None:
    (point,) = world.ids(FORK)
    retire(world.store, point)
    world.store.delete([keys.manifest(point)])

    report = check(world.b, world.store)

    assert [each.entry.id for each in report.checkpoints if not each.sound] == [point]
    with pytest.raises(IntegrityError, match="is gone"):
        world.b.pull(world.store, wanted(point))


def test_a_head_is_rebuilt_without_what_was_swept_in_part(world: World) -> None:
    """A sweep that was interrupted has deleted some of the data, and not yet the manifest."""
    store, (swept, unswept) = world.store, world.ids(1, 4)
    manifests = {key: data for key, data in store._objects.items() if swept in key}
    forget(store, swept)
    store._objects |= manifests
    forget(store, unswept, sweep=False)
    store.delete([keys.HEAD])

    with world.a.running(store) as pipeline:
        rebuilt = rebuild_head(pipeline)

    ((key, reason),) = [(each.key, each.reason) for each in rebuilt.left_out]
    assert key == keys.manifest(swept)
    assert reason.startswith("refers to ")
    assert "is gone" in reason
    there = [entry.id for entry in entries_of(store)]
    assert unswept in there, "nothing was deleted of it"
    assert swept not in there
    assert require_sound(store) is not None
    push_next(world.a, store, 9)
    assert require_sound(store) is not None


# What is told of keeps


def test_names_that_hold_are_told_with_their_checkpoint(world: World) -> None:
    kept(world)

    with world.a.running(world.store) as pipeline:
        rows = side_by_side((), stored(pipeline))
        assert list(details(pipeline, world.all[0].id).keeps) == ["pre-upgrade"]
        assert list(details(pipeline, world.all[1].id).keeps) == [], "it has expired"

    assert [list(row.keeps) for row in rows] == [[]] * LATEST + [["pre-upgrade"]]
