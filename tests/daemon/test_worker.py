"""What a worker is asked for, and its end: real threads, and a bucket in memory."""

import threading
from typing import Any

import pytest

from ckptsync.daemon.request import Phase
from ckptsync.daemon.worker import Worker
from ckptsync.errors import (
    Busy,
    Cancelled,
    IntegrityError,
)
from ckptsync.model import Role
from ckptsync.operations.orders import Push
from ckptsync.state.lock import PipelineLock, lock_path
from tests.daemon.bench import (
    PATIENCE,
    Bench,
    pushed,
    write,
)

# Asking


def test_a_push_by_hand_joins_a_scheduled_one_that_is_under_way(primary: Bench) -> None:
    write(primary, "1")
    worker = primary.start()
    primary.bucket.hold("put", "head.json")
    primary.alarm.ring("orders:duty")
    assert primary.bucket.reached.wait(PATIENCE)

    asked = worker.submit(Push())
    running = worker.snapshot().running
    assert running is not None
    assert (asked.id, asked.state) == (running.id, Phase.RUNNING)
    primary.bucket.let_go()
    done = primary.ended(asked.id)
    assert isinstance(done.result, dict)
    assert done.result["checkpoint"]["engine_id"] == "1"
    assert [run.kind for run in primary.pipeline.state.history.runs()] == ["push"]


@pytest.mark.parametrize("order", [Push(engine_id="1"), Push(new_timeline=True)])
def test_a_push_of_something_else_is_made_by_itself(primary: Bench, order: Push) -> None:
    write(primary, "1")
    write(primary, "2")
    worker = primary.start()
    primary.bucket.hold("put", "head.json")
    plain = worker.submit(Push())
    assert primary.bucket.reached.wait(PATIENCE)

    other, another = worker.submit(order), worker.submit(order)
    assert len({plain.id, other.id, another.id}) == 3
    assert [each.id for each in worker.snapshot().queued] == [other.id, another.id]
    primary.bucket.let_go()
    primary.ended(another.id)


def test_a_push_by_hand_of_what_is_not_there_leaves_the_schedule_alone(primary: Bench) -> None:
    write(primary, "1")
    worker = primary.start()
    primary.ring()
    failed = primary.done(Push(engine_id="7"))
    assert failed.error is not None
    assert worker.snapshot().last_push_failure is None


def test_a_request_that_was_asked_for_before_is_not_done_again(primary: Bench) -> None:
    write(primary, "1")
    worker = primary.start()
    first = worker.submit(Push(), id="mine")
    primary.ended(first.id)

    assert worker.submit(Push(), id="mine").state is Phase.DONE
    assert len(primary.pipeline.state.history.runs()) == 1


# Ending


def test_a_stop_ends_a_push_within_a_chunk_and_the_next_process_goes_on(primary: Bench) -> None:
    write(primary, "1")
    worker = primary.start()
    primary.bucket.hold("put", "chunks/")
    asked = worker.submit(Push())
    assert primary.bucket.reached.wait(PATIENCE)
    worker.stop()
    primary.bucket.let_go()
    worker.join()
    ended = worker.find(asked.id)
    assert ended is not None
    assert isinstance(ended.error, Cancelled)
    assert pushed(primary) == []
    worker.release()

    sent = {call.key for call in primary.bucket.calls if call.method == "put"}
    assert primary.start().snapshot().epoch == 1
    calls = primary.asked(primary.ring)
    assert pushed(primary) == ["1"]
    again = {call.key for call in calls if call.method == "put"} & sent
    assert again <= {"head.json", "nodes/host-a.json"}


def test_after_its_end_nothing_is_left_and_nothing_breaks(primary: Bench) -> None:
    worker = primary.start()
    threads = {"work-orders", "watch-orders", "tell-orders"}
    assert threads <= {thread.name for thread in threading.enumerate()}
    with pytest.raises(Busy), PipelineLock(lock_path(primary.host.home, "orders")):
        raise AssertionError
    primary.end()

    assert not threads & {thread.name for thread in threading.enumerate()}
    with PipelineLock(lock_path(primary.host.home, "orders")):
        assert primary.left() is None
    assert worker.status.startswith("orders: ")
    for ask in (worker.snapshot, worker.pause, worker.resume, worker.cancel_switchover):
        with pytest.raises(Busy):
            ask()
    assert isinstance(worker.submit(Push()).error, Cancelled)
    worker.release()


def test_a_lock_that_is_held_keeps_a_worker_from_being(primary: Bench) -> None:
    with PipelineLock(lock_path(primary.host.home, "orders")), pytest.raises(Busy):
        primary.begin()
    assert primary.start().snapshot().role is Role.PRIMARY


def test_a_worker_that_cannot_be_made_lets_go_of_everything(primary: Bench) -> None:
    primary.start()
    primary.end()
    (primary.host.home / "state.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(IntegrityError):
        primary.begin()

    with PipelineLock(lock_path(primary.host.home, "orders")):
        assert primary.bugs == []


def test_a_snapshot_never_waits_for_the_bucket(primary: Bench) -> None:
    write(primary, "1")
    worker: Worker = primary.start()
    primary.bucket.hold("put", "head.json")
    worker.submit(Push())
    assert primary.bucket.reached.wait(PATIENCE)

    told: Any = worker.snapshot().running
    assert (told.kind, told.state) == ("push", Phase.RUNNING)
    assert told.moved > 0
