"""Which bucket a standby follows, what it never takes for emptiness, and replicas that lag."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pytest
import structlog

from ckptsync.errors import (
    AccessDenied,
    CheckpointNotFound,
    CkptsyncError,
    HeadLost,
    IntegrityError,
    RollbackDetected,
    Unavailable,
    WrongRepository,
)
from ckptsync.hashing import Hash
from ckptsync.model import ignore
from ckptsync.operations.pipeline import StandbySettings
from ckptsync.operations.standby import Poll, Standby
from ckptsync.operations.writing import create_repository
from ckptsync.repository import keys
from ckptsync.repository.repository import read_head
from ckptsync.stores.memory import MemoryStore
from tests.fakes.stores import FaultyStore
from tests.operations.actors import Odd, edit_head
from tests.operations.standbys import (
    Replica,
    activate,
    asked,
    fetched,
    poll,
    require_ready,
    standing_by,
)
from tests.pipelines import PACK_BELOW, Host, contents, copy_of, noise, snapshot

SEED: Final = "s3://seed/orders"


@pytest.fixture
def seed(host: Host) -> MemoryStore:
    """What another pipeline pushed, long ago."""
    seeds = replace(host, home=host.home.with_name("seeds"), pipeline="elsewhere")
    store = MemoryStore(SEED)
    for number in (1, 2):
        seeds.push_new(f"seed-{number}", store)
    return store


def held(polled: Poll) -> str | None:
    return None if polled.warm is None else polled.warm.entry.engine_id


def follow(store: MemoryStore, origin: MemoryStore, *, without: tuple[str, ...] = ()) -> None:
    """Bring a replica up to date, but for keys that begin so."""
    missing = {key for key in origin._objects if key.startswith(without)} if without else set()
    store._objects = {key: data for key, data in origin._objects.items() if key not in missing}


# read_bucket


def test_while_the_bucket_is_empty_read_bucket_is_followed_and_then_left_for_good(
    host: Host, other: Host, bucket: MemoryStore, seed: MemoryStore
) -> None:
    own, elsewhere = FaultyStore(bucket), FaultyStore(seed)
    with standing_by(other, own, elsewhere) as standby:
        with structlog.testing.capture_logs() as logs:
            polled = standby.poll(progress=ignore)
        assert held(polled) == "seed-2"
        assert polled.head is None, "that of the pipeline's own bucket"
        assert polled.warm is not None
        assert (polled.warm.source, polled.warm.read_only) == (SEED, True)
        assert [each["event"] for each in logs if each["log_level"] == "warning"] == [
            "repository.foreign"
        ]
        asked(elsewhere)

        with structlog.testing.capture_logs() as logs:
            assert held(standby.poll(progress=ignore)) == "seed-2"
        assert asked(elsewhere) == ["get head.json"]
        assert logs == []
        replace(host, home=host.home.with_name("seeds"), pipeline="elsewhere").push_new(
            "seed-3", seed
        )
        with structlog.testing.capture_logs() as logs:
            assert held(standby.poll(progress=ignore)) == "seed-3"
        assert [each["event"] for each in logs] == ["standby.staged"], "it was said once"
        asked(elsewhere)

        host.push_new("ckpt-1", bucket)
        polled = standby.poll(progress=ignore)
        assert held(polled) == "ckpt-1"
        assert polled.head == read_head(bucket).head
        assert polled.warm is not None
        assert not polled.warm.read_only
        assert asked(elsewhere) == []

        asked(own)
        standby.poll(progress=ignore)
        assert asked(own) == ["get head.json"]
        assert asked(elsewhere) == []
    require_ready(other, "ckpt-1", contents(host.root / "ckpt-1"))


def test_a_newer_checkpoint_in_read_bucket_is_followed(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    source = MemoryStore("s3://source/orders")
    host.push_new("ckpt-1", source)
    with standing_by(other, bucket, source) as standby:
        assert held(standby.poll(progress=ignore)) == "ckpt-1"
        host.push_new("ckpt-2", source)
        assert held(standby.poll(progress=ignore)) == "ckpt-2"
    require_ready(other, "ckpt-2", contents(host.root / "ckpt-2"))


def test_read_bucket_is_never_written(other: Host, bucket: MemoryStore, seed: MemoryStore) -> None:
    before = snapshot(seed)
    elsewhere = FaultyStore(seed)
    with standing_by(other, bucket, elsewhere) as standby:
        standby.poll(progress=ignore)

    assert {call.method for call in elsewhere.calls} <= {"get", "read_into"}
    assert snapshot(seed) == before
    assert snapshot(bucket) == {}


def test_what_came_from_read_bucket_is_published_without_a_fork_point(
    other: Host, bucket: MemoryStore, seed: MemoryStore
) -> None:
    with standing_by(other, bucket, seed) as standby:
        warm = standby.poll(progress=ignore).warm
        assert warm is not None
        standby.publish(warm)
    with other.running(bucket) as pipeline:
        assert pipeline.state.identity.remembered().restored is None


def test_a_repository_of_another_hash_and_chunk_size_takes_the_place_of_the_first(
    host: Host, other: Host, bucket: MemoryStore, seed: MemoryStore
) -> None:
    """The digests of what was staged before cannot be compared with its own."""
    host = replace(host, hash=Hash.SHA256, chunk_size=8 << 20)
    with standing_by(other, bucket, seed) as standby:
        assert held(standby.poll(progress=ignore)) == "seed-2"
        host.push_new("ckpt-1", bucket)
        shutil.copytree(host.root / "ckpt-1", other.root / "ckpt-1")

        polled = standby.poll(progress=ignore)
        assert (held(polled), polled.fetched) == ("ckpt-1", 0), "the storage holds it already"
        host.push_new("ckpt-2", bucket)
        assert held(standby.poll(progress=ignore)) == "ckpt-2"
    require_ready(other, "ckpt-2", contents(host.root / "ckpt-2"))


def test_nothing_anywhere_is_no_error_while_the_primary_has_not_pushed_yet(
    other: Host, bucket: MemoryStore
) -> None:
    other = replace(other, standby=StandbySettings(required=True))

    polled = poll(other, bucket, MemoryStore(SEED))

    assert polled == Poll(head=None, warm=None, staged=None, fetched=0)


def test_a_repository_that_holds_nothing_yet_is_known_from_then_on(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    with host.running(bucket) as pipeline:
        create_repository(pipeline)

    with other.running(bucket) as pipeline:
        Standby(pipeline).poll(progress=ignore)

        known = pipeline.state.identity.remembered().repository_id
    assert known == read_head(bucket).head.repository_id, "so the standby gives signs of life there"


# An id


def test_an_id_that_is_in_read_bucket_alone_is_looked_for_in_the_bucket_as_it_changes(
    host: Host, other: Host, bucket: MemoryStore, seed: MemoryStore
) -> None:
    other = replace(other, standby=StandbySettings(start_from="seed-1"))
    own, elsewhere = FaultyStore(bucket), FaultyStore(seed)
    host.push_new("ckpt-1", bucket)
    with standing_by(other, own, elsewhere) as standby:
        polled = standby.poll(progress=ignore)
        assert held(polled) == "seed-1"
        assert polled.warm is not None
        assert polled.warm.read_only
        asked(own)
        asked(elsewhere)

        assert held(standby.poll(progress=ignore)) == "seed-1"
        assert asked(own) == ["get head.json"]
        assert asked(elsewhere) == [], "it is fetched once"

        host.push_new("seed-1", bucket)
        polled = standby.poll(progress=ignore)
        assert polled.warm is not None
        assert not polled.warm.read_only
        host.push_new("ckpt-2", bucket)
        assert standby.poll(progress=ignore).staged is None
    require_ready(other, "seed-1", contents(host.root / "seed-1"))


def test_an_id_that_is_nowhere_is_an_error_each_time_until_it_comes(
    host: Host, other: Host, bucket: MemoryStore, seed: MemoryStore
) -> None:
    other = replace(other, standby=StandbySettings(start_from="ckpt-2"))
    host.push_new("ckpt-1", bucket)
    with standing_by(other, bucket, seed) as standby:
        for _ in range(2):
            with pytest.raises(CheckpointNotFound, match=r"s3://dr/orders or s3://seed/orders"):
                standby.poll(progress=ignore)
            assert standby.head == read_head(bucket).head

        host.push_new("ckpt-2", bucket)
        assert held(standby.poll(progress=ignore)) == "ckpt-2"


# Never read as emptiness


def denied(store: MemoryStore) -> Odd:
    return Odd(store, lambda _, call: AccessDenied(store.name, call.method, call.key, "403"))


def away(store: MemoryStore) -> Odd:
    return Odd(store, lambda _, call: Unavailable(store.name, call.method, call.key, "no route"))


def damaged(store: MemoryStore) -> MemoryStore:
    store.put(keys.HEAD, b"{")
    return store


def headless(store: MemoryStore) -> MemoryStore:
    store.delete([keys.HEAD])
    return store


def without_descriptor(store: MemoryStore) -> MemoryStore:
    store.delete([keys.DESCRIPTOR])
    return store


@pytest.mark.parametrize(
    ("harm", "kind"),
    [
        (denied, AccessDenied),
        (away, Unavailable),
        (damaged, IntegrityError),
        (headless, HeadLost),
        (without_descriptor, IntegrityError),
    ],
)
def test_a_bucket_that_does_not_answer_well_is_an_error_although_read_bucket_is_filled(
    host: Host,
    other: Host,
    bucket: MemoryStore,
    seed: MemoryStore,
    harm: Callable[[MemoryStore], MemoryStore],
    kind: type[CkptsyncError],
) -> None:
    host.push_new("ckpt-1", bucket)
    elsewhere = FaultyStore(seed)

    with standing_by(other, harm(bucket), elsewhere) as standby:
        for _ in range(2):
            with pytest.raises(kind):
                standby.poll(progress=ignore)

    assert asked(elsewhere) == []
    require_ready(other, None)


@pytest.mark.parametrize(
    ("harm", "kind"),
    [(denied, AccessDenied), (away, Unavailable), (damaged, IntegrityError), (headless, HeadLost)],
)
def test_read_bucket_that_does_not_answer_well_is_an_error_too(
    other: Host,
    bucket: MemoryStore,
    seed: MemoryStore,
    harm: Callable[[MemoryStore], MemoryStore],
    kind: type[CkptsyncError],
) -> None:
    with pytest.raises(kind):
        poll(other, bucket, harm(seed))


def test_a_bucket_that_was_emptied_is_an_error_and_what_is_held_stays(
    host: Host, other: Host, bucket: MemoryStore, seed: MemoryStore
) -> None:
    host.push_new("ckpt-1", bucket)
    with standing_by(other, bucket, seed) as standby:
        standby.poll(progress=ignore)
        bucket.delete(list(snapshot(bucket)))
        with pytest.raises(HeadLost, match="seen revision"):
            standby.poll(progress=ignore)
    with standing_by(other, bucket, seed) as standby, pytest.raises(HeadLost):
        standby.poll(progress=ignore)

    require_ready(other, "ckpt-1", contents(host.root / "ckpt-1"))


def test_a_latest_that_none_may_take_is_an_error_and_what_is_held_stays(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    host.push_new("ckpt-1", bucket)
    with standing_by(other, bucket) as standby:
        standby.poll(progress=ignore)
        bad = read_head(bucket).head.checkpoints[0].model_copy(update={"state": "bad"})
        edit_head(bucket, latest=None, checkpoints=(bad,))
        with pytest.raises(IntegrityError, match="latest"):
            standby.poll(progress=ignore)

    require_ready(other, "ckpt-1", contents(host.root / "ckpt-1"))


# Whose bucket it is, and which way time goes


def test_the_bucket_of_another_pipeline_is_refused_before_anything_is_fetched(
    other: Host, seed: MemoryStore
) -> None:
    store = FaultyStore(seed)
    with pytest.raises(WrongRepository, match="belongs to pipeline 'elsewhere'"):
        poll(other, store)

    assert fetched(asked(store)) == []
    assert not other.work.exists()


def test_an_empty_bucket_of_another_pipeline_is_refused_too(
    host: Host, other: Host, seed: MemoryStore
) -> None:
    bucket = MemoryStore("s3://dr/orders")
    bucket.put(keys.DESCRIPTOR, seed.get(keys.DESCRIPTOR, limit=1 << 20).data)

    with pytest.raises(WrongRepository):
        poll(other, bucket, seed)


def test_a_bucket_whose_contents_were_exchanged_is_noticed_at_once_and_after_a_restart(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    host.push_new("ckpt-1", bucket)
    exchanged = MemoryStore(bucket.name)
    for name in ("other-1", "other-2"):
        replace(host, home=host.home.with_name("host-c")).push_new(name, exchanged)
    with standing_by(other, bucket) as standby:
        standby.poll(progress=ignore)
        bucket._objects = copy_of(exchanged)._objects
        for _ in range(2):
            with pytest.raises(WrongRepository, match="holds repository"):
                standby.poll(progress=ignore)
    with pytest.raises(WrongRepository):
        poll(other, bucket)

    require_ready(other, "ckpt-1", contents(host.root / "ckpt-1"))


def test_a_bucket_that_went_back_in_time_is_noticed_by_a_node_that_never_wrote(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    host.push_new("ckpt-1", bucket)
    older = copy_of(bucket)
    host.push_new("ckpt-2", bucket)
    with standing_by(other, bucket) as standby:
        standby.poll(progress=ignore)
        bucket._objects = older._objects
        for _ in range(2):
            with pytest.raises(RollbackDetected, match="went back in time"):
                standby.poll(progress=ignore)
    with pytest.raises(RollbackDetected):
        poll(other, bucket)

    require_ready(other, "ckpt-2", contents(host.root / "ckpt-2"))


def test_polling_makes_no_writer_of_a_node(host: Host, other: Host, bucket: MemoryStore) -> None:
    host.push_new("ckpt-1", bucket)
    before = snapshot(bucket)
    store = FaultyStore(bucket)
    with standing_by(other, store) as standby:
        standby.poll(progress=ignore)
    with other.running(bucket) as pipeline:
        me = pipeline.state.identity.remembered()

    assert snapshot(bucket) == before
    assert {call.method for call in store.calls} == {"get", "read_into"}
    assert me.repository_id == read_head(bucket).head.repository_id
    assert (me.revision, me.epoch) == (2, 1)
    assert (me.instances, me.held_epoch) == (frozenset(), 0)


# Replicas


@pytest.fixture(params=["the bucket", "read_bucket"])
def replica_as(request: pytest.FixtureRequest) -> str:
    place: str = request.param
    return place


@pytest.fixture
def replica(replica_as: str) -> MemoryStore:
    return Replica("s3://replica") if replica_as == "the bucket" else MemoryStore("s3://replica")


def following(
    other: Host, replica_as: str, replica: MemoryStore
) -> tuple[Host, MemoryStore, MemoryStore | None]:
    if replica_as == "the bucket":
        return other, replica, None
    return other, MemoryStore("s3://dr/empty"), replica


def test_a_head_that_comes_before_its_data_leaves_what_is_held_and_is_tried_again(
    host: Host, other: Host, bucket: MemoryStore, replica: MemoryStore, replica_as: str
) -> None:
    host.push_new("ckpt-1", bucket)
    follow(replica, bucket)
    with standing_by(*following(other, replica_as, replica)) as standby:
        standby.poll(progress=ignore)
        before = snapshot(bucket)
        host.push_new("ckpt-2", bucket)
        late = tuple(sorted(snapshot(bucket).keys() - before.keys()))
        assert len(late) >= 3
        for number, key in enumerate(late):
            follow(replica, bucket, without=(key,))
            with structlog.testing.capture_logs() as logs:
                polled = standby.poll(progress=ignore)
            assert (held(polled), polled.staged) == ("ckpt-1", None), key
            warned = [each for each in logs if each["log_level"] == "warning"]
            assert [each["event"] for each in warned] == ["standby.incomplete"][number:], "once"

        follow(replica, bucket)
        assert held(standby.poll(progress=ignore)) == "ckpt-2"
    require_ready(other, "ckpt-2", contents(host.root / "ckpt-2"))


def test_where_nothing_is_held_yet_the_newest_that_is_complete_will_do(
    host: Host, other: Host, bucket: MemoryStore, replica: MemoryStore, replica_as: str
) -> None:
    for number in (1, 2):
        host.push_new(f"ckpt-{number}", bucket)
    before = snapshot(bucket)
    host.push_new("ckpt-3", bucket)
    late = sorted(snapshot(bucket).keys() - before.keys())
    follow(replica, bucket, without=tuple(late))
    with standing_by(*following(other, replica_as, replica)) as standby:
        assert held(standby.poll(progress=ignore)) == "ckpt-2"
        assert standby.poll(progress=ignore).staged is None

        follow(replica, bucket)
        assert held(standby.poll(progress=ignore)) == "ckpt-3"


def test_a_replica_that_always_lags_is_followed_as_far_as_it_is_complete(
    host: Host, other: Host, bucket: MemoryStore, replica: MemoryStore, replica_as: str
) -> None:
    """Its newest is never complete, and still the standby does not stay with its first."""
    host.push_new("ckpt-1", bucket)
    with standing_by(*following(other, replica_as, replica)) as standby:
        for number in range(2, 6):
            before = snapshot(bucket)
            host.push_new(f"ckpt-{number}", bucket)
            follow(replica, bucket, without=tuple(snapshot(bucket).keys() - before.keys()))

            assert held(standby.poll(progress=ignore)) == f"ckpt-{number - 1}"


def test_what_was_fetched_of_an_incomplete_one_is_used_when_the_rest_has_come(
    host: Host, other: Host, bucket: MemoryStore, replica: MemoryStore, replica_as: str
) -> None:
    host.push_new("ckpt-1", bucket)
    before = snapshot(bucket)
    host.checkpoint("ckpt-2", {f"{each}": noise(PACK_BELOW, each) for each in range(5)})
    host.push(bucket)
    chunks = sorted(key for key in snapshot(bucket).keys() - before.keys() if "chunks/" in key)
    follow(replica, bucket, without=(chunks[0],))
    host, store, elsewhere = following(replace(other, parallel=1), replica_as, replica)
    counted = FaultyStore(replica)
    pair = (counted, None) if elsewhere is None else (store, counted)
    with standing_by(host, *pair) as standby:
        assert held(standby.poll(progress=ignore)) == "ckpt-1"
        first = [call for call in fetched(asked(counted)) if call.split()[1] in chunks]
        follow(replica, bucket)

        assert held(standby.poll(progress=ignore)) == "ckpt-2"

        rest = [call for call in fetched(asked(counted)) if call.split()[1] in chunks]
    assert set(first) & set(rest) <= {f"read_into {chunks[0]}"}
    assert len(set(first) | set(rest)) == 5


def test_a_replica_with_an_older_head_is_merely_old(
    host: Host, other: Host, bucket: MemoryStore, replica: MemoryStore, replica_as: str
) -> None:
    host.push_new("ckpt-1", bucket)
    older = copy_of(bucket)
    host.push_new("ckpt-2", bucket)
    follow(replica, bucket)
    with standing_by(*following(other, replica_as, replica)) as standby:
        standby.poll(progress=ignore)
    for _ in range(2):
        with standing_by(*following(other, replica_as, replica)) as standby:
            assert held(standby.poll(progress=ignore)) == "ckpt-2"
            follow(replica, older)
            for _ in range(2):
                polled = standby.poll(progress=ignore)
                assert (held(polled), polled.staged) == ("ckpt-2", None)
    host.push_new("ckpt-3", bucket)
    follow(replica, bucket)
    with standing_by(*following(other, replica_as, replica)) as standby:
        assert held(standby.poll(progress=ignore)) == "ckpt-3", "it goes on from there"


def test_a_pull_by_hand_from_a_replica_takes_the_newest_that_is_complete(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    host.push_new("ckpt-1", bucket)
    before = snapshot(bucket)
    host.push_new("ckpt-2", bucket)
    replica = Replica("s3://replica")
    follow(replica, bucket, without=tuple(snapshot(bucket).keys() - before.keys()))

    assert other.restore(replica).entry.engine_id == "ckpt-1"


def test_activating_from_what_was_polled_is_what_was_pushed(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    host.push_new("ckpt-1", bucket)
    with standing_by(other, bucket) as standby:
        standby.poll(progress=ignore)
        host.push_new("ckpt-2", bucket)
        warm = activate(standby, bucket)

    assert warm.entry.engine_id == "ckpt-2"
    assert contents(other.root / "ckpt-2") == contents(host.root / "ckpt-2")


def test_a_standby_is_made_without_asking_or_reading_anything(
    other: Host, bucket: MemoryStore
) -> None:
    store = FaultyStore(bucket)
    with other.running(store) as pipeline:
        standby = Standby(pipeline)
        assert (standby.warm, standby.head, standby.pulling) == (None, None, None)
        assert standby.newest() is None

    assert asked(store) == []
    assert not other.work.exists()
