"""What a node says of itself, and how it notices that another one took over."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ckptsync.daemon.watch import Heard, Watch
from ckptsync.errors import Cancelled, CkptsyncError, Fenced, RollbackDetected
from ckptsync.model import CheckpointId, Role, ignore
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.roles import become, stop
from ckptsync.operations.start import start
from ckptsync.repository import nodes
from ckptsync.repository.nodes import Heartbeat
from ckptsync.stores.base import Fetched, ObjectStore, Version
from ckptsync.stores.memory import MemoryStore
from tests.daemon.bench import AWAY, PATIENCE, Bucket, Clock, taken_over
from tests.fakes.stores import Call
from tests.pipelines import Host, copy_of

HEAD = Call("get", "head.json")
BEAT = Call("put", "nodes/host-a.json")
WARM = CheckpointId("0001-00000001-0123456789ab")


class Post:
    """A watch on a host that may be at work."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.at_work = True
        self.warm: CheckpointId | None = None
        self.troubles: list[CkptsyncError] = []
        self.mended = 0
        self.returns = 0
        """How often the bucket was found to answer again."""
        self.watch = Watch(
            pipeline,
            at_work=lambda: self.at_work,
            warm=lambda: self.warm,
            pulling=lambda: None,
            trouble=self.troubles.append,
            back=self._note_return,
            mended=self._note_mended,
        )

    def _note_mended(self) -> None:
        self.mended += 1

    def _note_return(self) -> None:
        self.returns += 1

    @property
    def bucket(self) -> Bucket:
        assert isinstance(self.pipeline.store, Bucket)
        return self.pipeline.store

    @contextmanager
    def asking(self, *expected: Call) -> Iterator[None]:
        """Exactly this is asked of the bucket."""
        before = len(self.bucket.calls)
        yield
        assert self.bucket.calls[before:] == list(expected)


@pytest.fixture
def post(tmp_path: Path, store: MemoryStore, clock: Clock) -> Iterator[Post]:
    """A primary's, which has just started."""
    with Host(home=tmp_path / "a", now=clock).running(Bucket(store)) as pipeline:
        start(pipeline)
        yield Post(pipeline)


def seen(post: Post) -> Heartbeat:
    found = nodes.read(post.bucket, "host-a")
    assert found is not None
    assert found.heartbeat is not None
    return found.heartbeat


def test_a_node_says_what_it_is_and_what_it_holds(post: Post) -> None:
    post.warm = WARM
    with post.asking(BEAT):
        post.watch.beat(ignore)

    beat = seen(post)
    assert (beat.role, beat.epoch, beat.warm) == (Role.PRIMARY, 1, WARM)
    assert post.watch.heard == Heard(answered_at=post.pipeline.now())


@pytest.mark.parametrize(
    "role", [Role.STANDBY, Role.RELEASED, Role.FENCED, Role.UNFENCED, Role.DIVERGED]
)
def test_a_node_says_so_in_every_role_in_which_it_is_one_of_the_repository(
    post: Post, role: Role
) -> None:
    become(post.pipeline, role)
    post.watch.beat(ignore)

    assert seen(post).role is role


def test_nothing_is_asked_before_a_node_knows_what_it_is(post: Post) -> None:
    post.at_work = False
    with post.asking():
        post.watch.beat(ignore)
        post.watch.check(ignore)


def test_who_may_be_in_anothers_place_writes_nothing_and_looks_at_nothing(post: Post) -> None:
    become(post.pipeline, Role.STOPPED, reason="ForeignWriter")
    with post.asking():
        post.watch.beat(ignore)
        post.watch.check(ignore)


def test_who_has_never_seen_the_repository_writes_nothing_there(
    tmp_path: Path, store: MemoryStore
) -> None:
    with Host(home=tmp_path / "b", node="host-b").running(Bucket(store)) as pipeline:
        post = Post(pipeline)
        with post.asking():
            post.watch.beat(ignore)


def test_a_bucket_that_is_away_is_heard_of_and_that_it_is_back(post: Post, clock: Clock) -> None:
    post.watch.check(ignore)
    answered = clock.at
    clock.advance(nodes.FRESH)
    with post.bucket.away(), capture_logs() as logged:
        post.watch.beat(ignore)
        post.watch.check(ignore)

    assert post.watch.heard == Heard(answered_at=answered, error=AWAY)
    assert [each["event"] for each in logged] == ["heartbeat.failed", "fence.unchecked"]
    assert (post.troubles, post.returns) == ([], 0)
    for _ in range(2):
        post.watch.beat(ignore)
        assert post.watch.heard == Heard(answered_at=clock.at)
        assert post.returns == 1


def test_what_others_could_not_reach_is_not_back_because_head_is(post: Post) -> None:
    post.watch.answered(AWAY)
    post.watch.check(ignore)

    assert post.watch.heard.error is None
    assert post.returns == 0


def test_a_stop_is_no_news_of_the_bucket(post: Post) -> None:
    post.bucket.error = Cancelled("stopped on request")
    for look in (post.watch.beat, post.watch.check):
        with pytest.raises(Cancelled):
            look(ignore)

    assert post.watch.heard == Heard()


def test_a_head_that_has_not_changed_costs_one_request(post: Post) -> None:
    for _ in range(3):
        with post.asking(HEAD):
            post.watch.check(ignore)
    assert post.troubles == []


def test_a_takeover_is_believed_once_it_was_read_twice(
    post: Post, tmp_path: Path, store: MemoryStore, clock: Clock
) -> None:
    post.watch.check(ignore)
    taken_over(Host(home=tmp_path / "b", node="host-b", now=clock), store)

    with post.asking(HEAD, HEAD):
        post.watch.check(ignore)
    (trouble,) = post.troubles
    assert isinstance(trouble, Fenced)
    assert post.pipeline.state.roles.current() is not None
    with post.asking(HEAD, HEAD):
        post.watch.check(ignore)
    assert len(post.troubles) == 2, "told until somebody has seen to it"


class Stale(Bucket):
    """Answers one read of head with what it was before."""

    older: MemoryStore | None = None

    def get(self, key: str, *, limit: int, unless: Version | None = None) -> Fetched:
        older, self.older = self.older, None
        store: ObjectStore = self._inner if older is None else older
        return store.get(key, limit=limit, unless=unless)


def test_one_stale_answer_is_no_reason_to_stop(
    tmp_path: Path, store: MemoryStore, clock: Clock
) -> None:
    bucket = Stale(store)
    with Host(home=tmp_path / "a", now=clock).running(bucket) as pipeline:
        start(pipeline)
        post = Post(pipeline)
        older = copy_of(store)
        pipeline.register().change(lambda old: old.head, landed=lambda _head: True)
        bucket.older = older
        post.watch.check(ignore)

    assert post.troubles == []


def test_a_bucket_that_went_back_in_time_is_told_of(post: Post, store: MemoryStore) -> None:
    older = copy_of(store)
    post.pipeline.register().change(lambda old: old.head, landed=lambda _head: True)
    store._objects = older._objects
    post.watch.check(ignore)

    (trouble,) = post.troubles
    assert isinstance(trouble, RollbackDetected)


def test_only_a_primary_looks_at_head(post: Post) -> None:
    for role in Role:
        become(post.pipeline, role)
        with post.asking(*[HEAD] * (role is Role.PRIMARY)):
            post.watch.check(ignore)


def test_a_role_that_was_left_meanwhile_is_nothing_to_tell_of(
    post: Post, tmp_path: Path, store: MemoryStore, clock: Clock
) -> None:
    taken_over(Host(home=tmp_path / "b", node="host-b", now=clock), store)
    post.bucket.hold("get", "head.json")
    checking = threading.Thread(target=post.watch.check, args=(ignore,))
    checking.start()
    assert post.bucket.reached.wait(PATIENCE)
    become(post.pipeline, Role.STANDBY)
    post.bucket.let_go()
    checking.join()

    assert post.troubles == []


def test_a_head_put_back_that_was_the_last_one_read_is_noticed(
    post: Post, store: MemoryStore
) -> None:
    post.watch.check(ignore)
    older = copy_of(store)
    post.pipeline.register().change(lambda old: old.head, landed=lambda _head: True)
    store._objects = older._objects
    post.watch.check(ignore)

    (trouble,) = post.troubles
    assert isinstance(trouble, RollbackDetected)


def test_a_node_that_was_stopped_for_a_head_that_is_back_is_told(
    post: Post, store: MemoryStore
) -> None:
    newer = copy_of(store)
    stop(post.pipeline, RollbackDetected("it went back"))
    store._objects = newer._objects
    post.watch.check(ignore)

    assert post.mended == 1
    assert post.troubles == []
