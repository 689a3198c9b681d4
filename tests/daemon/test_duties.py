"""Each duty once: what it does, and what follows from it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest
from structlog.testing import capture_logs

from ckptsync.daemon.duties import Duties, standing
from ckptsync.daemon.duty import Duty, Standing
from ckptsync.errors import HookFailed, SourceError, Unavailable
from ckptsync.hooks import Hook
from ckptsync.model import Role, ignore
from ckptsync.operations import fence
from ckptsync.operations.orders import Activate, Order, Push
from ckptsync.operations.pipeline import Pipeline, StandbySettings
from ckptsync.operations.roles import become, role_of
from ckptsync.operations.standby import Standby
from ckptsync.repository import claim
from ckptsync.state.activation import Activation, Stage
from ckptsync.state.switchover import Handover, HandoverStage
from ckptsync.stores.memory import MemoryStore
from tests.daemon.bench import Bucket, Clock
from tests.pipelines import Host, a_small_checkpoint


@pytest.fixture
def host(tmp_path: Path, clock: Clock) -> Host:
    host = Host(home=tmp_path / "a", now=clock)
    host.root.mkdir(parents=True)
    return host


@pytest.fixture
def pipeline(host: Host, store: MemoryStore) -> Iterator[Pipeline]:
    """Of a primary that has pushed checkpoint 1."""
    host.push_new("1", store)
    with host.running(Bucket(store)) as running:
        become(running, Role.PRIMARY)
        yield running


def do(pipeline: Pipeline, duty: Duty) -> Order | None:
    return Duties(pipeline, Standby(pipeline), Event()).do(duty, ignore)


def test_a_push_follows_from_a_checkpoint_that_was_not_pushed(
    pipeline: Pipeline, host: Host
) -> None:
    assert do(pipeline, Duty.LOOK) is None
    host.checkpoint("2", a_small_checkpoint("2"))

    assert do(pipeline, Duty.LOOK) == Push()


def test_a_push_always_follows_where_the_engine_is_asked_for_a_checkpoint_first(
    host: Host, store: MemoryStore
) -> None:
    with replace(host, hooks={Hook.PRE_PUSH: ("true",)}).running(store) as pipeline:
        assert do(pipeline, Duty.LOOK) == Push()


def test_a_storage_that_is_gone_is_a_failure_and_not_nothing(
    pipeline: Pipeline, host: Host
) -> None:
    host.root.rename(host.home / "elsewhere")
    with pytest.raises(SourceError):
        do(pipeline, Duty.LOOK)


def test_a_poll_that_brings_something_is_a_row_of_the_history(
    pipeline: Pipeline, tmp_path: Path, store: MemoryStore
) -> None:
    with Host(home=tmp_path / "b", node="host-b").running(store) as other:
        duties = Duties(other, Standby(other), Event())
        assert duties.do(Duty.POLL, ignore) is None
        assert duties.do(Duty.POLL, ignore) is None

        (run,) = other.state.history.runs()
        assert run.kind == "poll"
        assert duties.polled is not None
        assert duties.polled.warm is not None


def test_the_same_activation_follows_however_often_a_release_is_seen(
    pipeline: Pipeline, tmp_path: Path, store: MemoryStore
) -> None:
    def release() -> None:
        pipeline.register().change(
            lambda old: claim.released(old.head, "host-b"), landed=lambda _head: False
        )

    release()
    with (
        Host(home=tmp_path / "b", node="host-b").running(store) as other,
        Host(home=tmp_path / "c", node="host-c").running(store) as third,
    ):
        duties = Duties(other, Standby(other), Event())
        first, second = duties.do(Duty.POLL, ignore), duties.do(Duty.POLL, ignore)
        assert isinstance(first, Activate)
        assert first.reason == "switchover from host-a"
        assert not first.force
        assert second == first
        assert do(third, Duty.POLL) is None, "it was not released to that one"


def test_an_activation_goes_on_by_the_order_that_it_was_begun_with(pipeline: Pipeline) -> None:
    begun = Activation(
        request="drill",
        started_at=pipeline.now(),
        reason="a drill",
        forced=True,
        stage=Stage.FENCED,
        engine_stopped=True,
    )
    pipeline.state.activations.save(begun)

    assert do(pipeline, Duty.ACTIVATE) == Activate(
        request="drill", reason="a drill", force=True, engine_stopped=True
    )


def test_an_activation_that_nothing_is_known_of_leaves_a_standby(
    pipeline: Pipeline,
) -> None:
    become(pipeline, Role.ACTIVATING)

    assert do(pipeline, Duty.ACTIVATE) is None
    assert role_of(pipeline) is Role.STANDBY


def test_the_hook_that_stops_the_engine_is_tried_until_it_does(
    host: Host, store: MemoryStore, tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    host = replace(host, hooks={Hook.ON_FENCED: ("test", "-e", str(ready))})
    with host.running(store) as pipeline:
        fence.lose(pipeline, "another node took over")
        assert standing(pipeline, Role.FENCED).engine_unstopped
        with pytest.raises(HookFailed):
            do(pipeline, Duty.STOP_ENGINE)
        ready.touch()
        assert do(pipeline, Duty.STOP_ENGINE) is None
        assert not standing(pipeline, Role.FENCED).engine_unstopped


def test_a_standing_is_what_this_node_remembers(pipeline: Pipeline, clock: Clock) -> None:
    plain = Standing(
        role=Role.PRIMARY,
        paused=False,
        engine_unstopped=False,
        activation_retriable=False,
        handing_over=False,
        activation_unfinished=False,
        first_pull_due=False,
    )
    assert standing(pipeline, Role.PRIMARY) == plain
    pipeline.state.roles.pause(clock.at)
    minute = timedelta(minutes=1)
    handover = Handover(
        node="b", deadline=clock.at + minute, timeout=minute, stage=HandoverStage.STOPPING
    )
    pipeline.state.handovers.save(handover)

    assert standing(pipeline, None, first_pull_due=True) == Standing(
        role=None,
        paused=True,
        engine_unstopped=False,
        activation_retriable=False,
        handing_over=True,
        activation_unfinished=False,
        first_pull_due=True,
    )


def _without_disk(host: Host, start_from: str) -> Host:
    """Its disk was lost; its state was not."""
    host.root.rename(host.home / "lost")
    host.root.mkdir()
    return replace(host, standby=StandbySettings(start_from=start_from))


def test_a_first_pull_that_cannot_be_is_told_of_and_no_reason_not_to_start(
    host: Host, store: MemoryStore
) -> None:
    host.push_new("1", store)
    with _without_disk(host, "latest").running(store) as pipeline:
        with capture_logs() as logged:
            do(pipeline, Duty.START)
            do(pipeline, Duty.FIRST_PULL)

        (told,) = (each for each in logged if each["event"] == "start.not_pulled")
        assert "cannot tell whether an engine runs" in told["error"]
        assert role_of(pipeline) is Role.PRIMARY


def test_a_bucket_that_is_away_is_asked_again_for_what_the_engine_cannot_start_without(
    host: Host, store: MemoryStore
) -> None:
    host.push_new("1", store)
    bucket = Bucket(store)
    with _without_disk(host, "latest").running(bucket) as pipeline:
        duties = Duties(pipeline, Standby(pipeline), Event())
        assert duties.do(Duty.START, ignore) is None
        with bucket.away(), pytest.raises(Unavailable):
            duties.do(Duty.FIRST_PULL, ignore)
        assert duties.first_pull_due

        host.checkpoint("2", a_small_checkpoint())
        with bucket.away():
            duties.do(Duty.FIRST_PULL, ignore)
        assert not duties.first_pull_due, "the engine may go on from what is there"
