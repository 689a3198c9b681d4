"""What cron does: the duty of the moment, once."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ckptsync.daemon.once import Did, once
from ckptsync.errors import ForeignWriter, HookFailed, TimedOut, Unavailable
from ckptsync.hooks import Hook
from ckptsync.model import Role, ignore
from ckptsync.operations.activate import activate
from ckptsync.operations.orders import Activate
from ckptsync.operations.pipeline import StandbySettings
from ckptsync.operations.roles import become
from ckptsync.operations.standby import Standby
from ckptsync.repository import claim, nodes
from ckptsync.state.switchover import Handover, HandoverStage
from ckptsync.stores.memory import MemoryStore
from tests.daemon.bench import AWAY, Bucket, Clock, taken_over
from tests.pipelines import Host, a_small_checkpoint


@pytest.fixture
def host(tmp_path: Path, clock: Clock) -> Host:
    host = Host(home=tmp_path / "a", now=clock)
    host.root.mkdir(parents=True)
    return host


@pytest.fixture
def standby(tmp_path: Path, clock: Clock) -> Host:
    settings = StandbySettings(initially=True)
    return Host(home=tmp_path / "b", node="host-b", now=clock, standby=settings)


def did(host: Host, store: MemoryStore | Bucket) -> Did:
    with host.running(store) as pipeline:
        return once(pipeline, progress=ignore)


def document(done: Did) -> Mapping[str, Any]:
    assert done.document is not None
    return done.document


def test_a_primary_pushes_what_is_there_and_nothing_twice(host: Host, store: MemoryStore) -> None:
    assert did(host, store) == Did(role=Role.PRIMARY, did=None, document=None)
    host.checkpoint("1", a_small_checkpoint())

    pushed = did(host, store)
    assert (pushed.role, pushed.did) == (Role.PRIMARY, "push")
    assert document(pushed)["checkpoint"]["engine_id"] == "1"
    assert did(host, store).did is None


def test_a_standby_fetches_what_is_new_and_says_what(
    host: Host, standby: Host, store: MemoryStore
) -> None:
    assert did(standby, store) == Did(role=Role.STANDBY, did=None, document=None)
    entry = host.push_new("1", store)

    polled = did(standby, store)
    assert (polled.role, polled.did) == (Role.STANDBY, "poll")
    assert document(polled)["checkpoint"] == entry.id
    assert document(polled)["fetched_bytes"] > 0
    assert did(standby, store).did is None


def test_a_pause_holds_for_cron_too(host: Host, store: MemoryStore, clock: Clock) -> None:
    host.checkpoint("1", a_small_checkpoint())
    with host.running(store) as pipeline:
        pipeline.state.roles.pause(clock.at)

    assert did(host, store).did is None


def test_an_activation_that_was_interrupted_goes_on(
    host: Host, standby: Host, store: MemoryStore, tmp_path: Path
) -> None:
    host.push_new("1", store)
    ready = tmp_path / "ready"
    standby = replace(standby, hooks={Hook.ON_ACTIVATE: ("test", "-e", str(ready))})
    order = Activate(request="drill", engine_stopped=True)
    with standby.running(store) as pipeline, pytest.raises(HookFailed):
        activate(pipeline, order, Standby(pipeline), progress=ignore)
    ready.touch()

    done = did(standby, store)
    assert (done.role, done.did) == (Role.PRIMARY, "activate")
    assert document(done)["request"] == "drill"


def test_the_engine_of_a_node_that_was_displaced_is_stopped(
    host: Host, store: MemoryStore, tmp_path: Path, clock: Clock
) -> None:
    stopped = tmp_path / "stopped"
    host = replace(host, hooks={Hook.ON_FENCED: ("touch", str(stopped))})
    host.push_new("1", store)
    taken_over(Host(home=tmp_path / "b", node="host-b", now=clock), store)

    assert did(host, store) == Did(role=Role.FENCED, did="stop-engine", document=None)
    assert stopped.exists()
    assert did(host, store).did is None


def test_a_node_that_is_done_with_has_nothing_to_do(host: Host, store: MemoryStore) -> None:
    host.push_new("1", store)
    with host.running(store) as pipeline:
        become(pipeline, Role.DIVERGED)

    assert did(host, store) == Did(role=Role.DIVERGED, did=None, document=None)


def test_what_it_cannot_do_it_says(host: Host, standby: Host, store: MemoryStore) -> None:
    host.push_new("1", store)
    bucket = Bucket(store)
    with bucket.away():
        for each in (host, standby):
            with pytest.raises(Unavailable, match=AWAY.reason):
                did(each, bucket)
    rebuilt = replace(host, home=host.home.with_name("rebuilt"))
    with pytest.raises(ForeignWriter):
        did(rebuilt, store)


def test_a_switchover_that_nobody_took_is_taken_back_when_its_time_is_up(
    host: Host, store: MemoryStore, clock: Clock
) -> None:
    """By a process that finds it interrupted."""
    host.push_new("1", store)
    with host.running(store) as pipeline:
        minute = timedelta(minutes=1)
        pipeline.state.handovers.save(
            Handover(
                node="b", deadline=clock.at + minute, timeout=minute, stage=HandoverStage.RELEASED
            )
        )
        pipeline.register().change(
            lambda old: claim.released(old.head, "b"),
            landed=lambda head: head.writer.state == "released",
        )
        become(pipeline, Role.RELEASED)
    clock.advance(timedelta(minutes=2))

    with pytest.raises(TimedOut):
        did(host, store)
    assert did(host, store) == Did(role=Role.PRIMARY, did=None, document=None)


def test_it_leaves_a_sign_of_life(host: Host, store: MemoryStore) -> None:
    did(host, store)

    seen = nodes.read(store, host.node)
    assert seen is not None
    assert seen.fresh
