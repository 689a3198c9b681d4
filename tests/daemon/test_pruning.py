"""Pruning by a worker: what follows a push, what is asked for by hand, and what gets in its way."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from structlog.testing import capture_logs

from ckptsync.daemon.once import once
from ckptsync.daemon.request import Phase
from ckptsync.errors import AccessDenied, Cancelled, Fenced, IntegrityError
from ckptsync.model import Role, ignore
from ckptsync.operations.orders import Activate, Keep, Prune, Push, Unkeep
from ckptsync.operations.status import Memory, status
from ckptsync.repository.retention import Policy
from ckptsync.state.history import Outcome
from ckptsync.stores.memory import MemoryStore
from tests.daemon.bench import PATIENCE, Bench, Clock, pushed, taken_over, write
from tests.fakes.stores import Call, FaultyStore
from tests.operations.invariants import require_sound
from tests.pipelines import Host

LEAN: Final = Policy(min_count=1, min_age=timedelta(0))
"""Keeps but the newest."""
NODES: Final = Call("walk", "nodes/")
"""Nobody but a prune makes it."""
HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
SCRAP: Final = 2500
"""Objects to delete, which takes three requests."""
AT_ONCE: Final = 1000


@pytest.fixture
def lean(primary: Bench) -> Bench:
    """The primary, with a checkpoint in its bucket; each new one lets those before it go."""
    primary.host = replace(primary.host, retention=LEAN)
    write(primary, "1")
    primary.start()
    primary.ring()
    return primary


@pytest.fixture
def standby_of_lean(lean: Bench, standby: Bench) -> Bench:
    """With a worker that has found out what it is, as the primary's has."""
    standby.host = replace(standby.host, retention=LEAN)
    standby.start()
    return standby


def states(bench: Bench) -> Mapping[str, str]:
    return {entry.engine_id: entry.state for entry in bench.bucket.head.checkpoints}


def runs(bench: Bench) -> list[tuple[str, Outcome]]:
    """The oldest first."""
    history = bench.pipeline.state.history.runs()
    return [(run.kind, run.outcome) for run in reversed(history)]


def memory(bench: Bench) -> Memory:
    found = status(bench.pipeline).memory
    assert isinstance(found, Memory)
    return found


def scraps(store: MemoryStore) -> list[str]:
    return [info.key for info in store.walk("chunks/00/00000000")]  # no other begins like that


def litter(bench: Bench, store: MemoryStore, clock: Clock) -> None:
    """What a push that died left, so that a sweep has much to delete."""
    scatter(store)
    clock.advance(2 * DAY)


def scatter(store: MemoryStore) -> None:
    for number in range(SCRAP):
        store.put(f"chunks/00/00{number:030x}", b"")


# After a push


def test_a_push_that_committed_is_followed_by_a_prune(lean: Bench) -> None:
    write(lean, "2")
    lean.ring()

    assert states(lean) == {"1": "retired", "2": "live"}
    done = Outcome.DONE
    assert runs(lean) == [("push", done), ("push", done), ("prune", done)]
    last = memory(lean).last_prune
    assert last is not None
    assert last.outcome is done


def test_a_push_is_answered_before_the_prune_that_follows_it(lean: Bench) -> None:
    write(lean, "2")
    lean.bucket.hold(NODES.method, NODES.key)
    asked = lean.worker.submit(Push())
    assert lean.bucket.reached.wait(PATIENCE)

    push = lean.worker.find(asked.id)
    assert push is not None
    assert push.state is Phase.DONE
    running = lean.worker.snapshot().running
    assert running is not None
    assert (running.kind, states(lean)) == ("prune", {"1": "live", "2": "live"})
    lean.bucket.let_go()
    lean.settle()
    assert states(lean) == {"1": "retired", "2": "live"}


def test_a_push_of_what_was_synced_already_is_followed_by_none(lean: Bench) -> None:
    assert NODES not in lean.asked(lambda: lean.done(Push()))


def test_a_prune_with_nothing_to_do_leaves_no_trace(lean: Bench) -> None:
    """The first push left it nothing to do."""
    assert NODES in lean.bucket.calls
    assert runs(lean) == [("push", Outcome.DONE)]
    assert memory(lean).last_prune is None


def test_what_was_retired_goes_after_a_push_a_day_later(lean: Bench) -> None:
    write(lean, "2")
    lean.ring()
    before = {info.key for info in lean.bucket.walk("")}
    lean.clock.advance(DAY)
    write(lean, "3")
    lean.ring()

    assert states(lean) == {"2": "retired", "3": "live"}
    gone = before - {info.key for info in lean.bucket.walk("")}
    assert {key.split("/")[0] for key in gone} == {"chunks", "manifests", "packs"}
    require_sound(lean.bucket)


# Prunes that fail


def test_a_prune_that_fails_neither_fails_nor_delays_the_next_push(
    lean: Bench, store: MemoryStore
) -> None:
    store.put("nodes/host-x.json", b"damaged")
    write(lean, "2")
    with capture_logs() as logs:
        asked = lean.done(Push())

    assert asked.state is Phase.DONE
    assert [each["kind"] for each in logs if each["event"] == "request.failed"] == ["prune"]
    assert runs(lean)[-2:] == [("push", Outcome.DONE), ("prune", Outcome.FAILED)]
    last = memory(lean).last_prune
    assert last is not None
    assert last.details is not None
    assert "nodes/host-x.json cannot be read" in last.details
    assert set(states(lean).values()) == {"live"}
    told = lean.worker.snapshot()
    assert (told.role, told.last_push_failure) == (Role.PRIMARY, None)
    assert lean.left() == 300.0
    write(lean, "3")
    lean.ring()
    assert pushed(lean) == ["1", "2", "3"]


def test_after_a_prune_that_failed_one_that_does_not_is_noted_once_though_it_did_nothing(
    primary: Bench, store: MemoryStore
) -> None:
    """Else the failure would look like how things are."""
    primary.start()
    store.put("nodes/host-x.json", b"damaged")
    write(primary, "1")
    primary.ring()
    store.delete(["nodes/host-x.json"])
    for name in "23":
        write(primary, name)
        primary.ring()

    push, prune = ("push", Outcome.DONE), ("prune", Outcome.DONE)
    assert runs(primary) == [push, ("prune", Outcome.FAILED), push, prune, push]


def test_a_prune_that_finds_another_writer_fences_this_node_and_leaves_head_alone(
    lean: Bench, store: MemoryStore, tmp_path: Path
) -> None:
    write(lean, "2")
    lean.bucket.hold(NODES.method, NODES.key)
    lean.worker.submit(Push())
    assert lean.bucket.reached.wait(PATIENCE)
    taken_over(Host(home=tmp_path / "b", node="host-b", now=lean.clock), store)
    head = lean.bucket.head
    lean.bucket.let_go()
    lean.settle()

    assert lean.bucket.head == head
    assert set(states(lean).values()) == {"live"}
    assert lean.worker.snapshot().role is Role.FENCED
    assert runs(lean)[-1] == ("prune", Outcome.FAILED)
    again = lean.done(Prune())
    assert isinstance(again.error, Fenced)
    assert lean.bucket.head == head


def test_a_bucket_that_forbids_deleting_is_left_to_others_for_a_day(lean: Bench) -> None:
    class Undeletable(FaultyStore):
        def _call(self, method: str, key: str, action: Any) -> Any:
            if method == "delete":
                self.calls.append(Call(method, key))
                raise AccessDenied(self.name, "delete", key, "not you")
            return super()._call(method, key, action)

    lean.bucket._inner = Undeletable(lean.bucket._inner)
    lean.clock.advance(DAY)
    told = []
    for name in "234":
        write(lean, name)
        with capture_logs() as logs:
            calls = lean.asked(lean.ring)
        assert [each for each in logs if each["event"] == "request.failed"] == []
        told.append(len([each for each in logs if each["event"] == "prune.left_to_others"]))
        assert ("delete" in {call.method for call in calls}) is (name == "2")
        assert memory(lean).prune_left_to_others

    assert told == [1, 0, 0]
    assert set(states(lean).values()) == {"live"}
    by_hand = lean.done(Prune())
    assert isinstance(by_hand.error, AccessDenied)
    assert by_hand.error.exit_code == 14
    lean.clock.advance(DAY)
    assert not memory(lean).prune_left_to_others
    write(lean, "5")
    with capture_logs() as logs:
        lean.ring()
    assert "prune.left_to_others" in [each["event"] for each in logs]


# What interrupts them


def test_a_stop_ends_a_sweep_within_a_batch_and_the_next_one_goes_on(
    lean: Bench, store: MemoryStore, clock: Clock
) -> None:
    litter(lean, store, clock)
    lean.bucket.hold("delete", "chunks/")
    asked = lean.worker.submit(Prune(orphans=True))
    assert lean.bucket.reached.wait(PATIENCE)
    lean.worker.stop()
    lean.bucket.let_go()
    lean.worker.join()

    ended = lean.worker.find(asked.id)
    assert ended is not None
    assert isinstance(ended.error, Cancelled)
    assert len(scraps(store)) == SCRAP - AT_ONCE
    lean.again()
    again = lean.done(Prune())
    assert isinstance(again.result, dict)
    assert again.result["deleted_objects"] == SCRAP - AT_ONCE
    assert scraps(store) == []
    require_sound(store)


def test_what_an_interrupted_sweep_left_goes_after_the_next_push(
    lean: Bench, store: MemoryStore, clock: Clock
) -> None:
    litter(lean, store, clock)
    write(lean, "2")
    lean.bucket.hold("delete", "chunks/")
    lean.alarm.ring("orders:duty")
    assert lean.bucket.reached.wait(PATIENCE)
    lean.end()
    left = len(scraps(store))
    assert 0 < left <= SCRAP - AT_ONCE

    lean.start()
    clock.advance(HOUR / 2)
    write(lean, "3")
    lean.ring()
    assert scraps(store) == []


def test_an_activation_does_not_wait_for_a_prune(
    lean: Bench, standby_of_lean: Bench, store: MemoryStore, clock: Clock
) -> None:
    scatter(store)
    write(lean, "2")  # what is written after the last commit may be of a push under way
    lean.ring()
    lean.end()
    clock.advance(2 * DAY)
    standby = standby_of_lean
    standby.bucket.hold("delete", "chunks/")
    prune = standby.worker.submit(Prune(orphans=True))
    assert standby.bucket.reached.wait(PATIENCE)
    asked = standby.worker.submit(Activate(request="now", force=True, engine_stopped=True))
    standby.bucket.let_go()

    assert standby.ended(asked.id).error is None
    assert isinstance(standby.ended(prune.id).error, Cancelled)
    assert standby.worker.snapshot().role is Role.PRIMARY
    assert 0 < len(scraps(store)) < SCRAP
    done = standby.done(Prune())
    assert done.error is None
    assert scraps(store) == []


# By hand


def test_a_standby_prunes_and_keeps_when_it_is_asked_to(
    lean: Bench, standby_of_lean: Bench
) -> None:
    standby = standby_of_lean
    lean.host = replace(lean.host, retention=Policy(min_count=9, min_age=DAY))
    lean.again()
    write(lean, "2")
    lean.ring()

    kept = standby.done(Keep(checkpoint="1", name="mine", by="a test"))
    assert isinstance(kept.result, dict)
    assert kept.result["name"] == "mine"
    idle = standby.done(Prune())
    assert isinstance(idle.result, dict)
    assert (idle.result["retired"], idle.result["kept"]) == ([], 2)
    unkept = standby.done(Unkeep(name="mine"))
    assert isinstance(unkept.result, dict)
    assert unkept.result["already"] is False
    pruned = standby.done(Prune())
    assert isinstance(pruned.result, dict)
    assert len(pruned.result["retired"]) == 1
    assert states(standby) == {"1": "retired", "2": "live"}
    assert standby.worker.snapshot().role is Role.STANDBY
    kinds = ["keep", "prune", "unkeep", "prune"]
    assert [kind for kind, _outcome in runs(standby) if kind in kinds] == kinds
    write(lean, "3")
    lean.ring()
    assert pushed(lean)[-1] == "3", "the primary is still the writer"


def test_a_prune_by_hand_that_fails_says_why_and_changes_nothing(
    lean: Bench, standby_of_lean: Bench, store: MemoryStore
) -> None:
    store.put("nodes/host-x.json", b"damaged")
    head = lean.bucket.head
    for bench in (lean, standby_of_lean):
        asked = bench.done(Prune())
        assert isinstance(asked.error, IntegrityError)
        assert bench.worker.snapshot().role in (Role.PRIMARY, Role.STANDBY)
    assert lean.bucket.head == head


# Without a daemon


def test_what_cron_runs_prunes_after_its_push(tmp_path: Path, clock: Clock) -> None:
    host, store = Host(home=tmp_path / "a", retention=LEAN, now=clock), MemoryStore(clock=clock)
    for name in "12":
        host.checkpoint(name, {"n": name.encode()})
        with host.running(store) as pipeline:
            assert once(pipeline, progress=ignore).did == "push"

    with host.running(store) as pipeline:
        kinds = [run.kind for run in pipeline.state.history.runs()]
        found = status(pipeline).bucket
    assert kinds == ["prune", "push", "push"]
    assert [(each.engine_id, each.state) for each in getattr(found, "entries", ())] == [
        ("2", "live"),
        ("1", "retired"),
    ]


def test_a_prune_that_fails_is_a_warning_of_what_cron_runs(tmp_path: Path, clock: Clock) -> None:
    host, store = Host(home=tmp_path / "a", retention=LEAN, now=clock), MemoryStore(clock=clock)
    host.push_new("1", store)
    store.put("nodes/host-x.json", b"damaged")
    host.checkpoint("2", {"n": b"2"})
    with host.running(store) as pipeline, capture_logs() as logs:
        did = once(pipeline, progress=ignore)

    assert did.did == "push"
    assert did.document is not None
    assert did.document["checkpoint"]["engine_id"] == "2"
    assert [each["log_level"] for each in logs if each["event"] == "push.not_pruned"] == ["warning"]
