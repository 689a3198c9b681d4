"""What is known of a request while it waits, runs, and after it has ended."""

import gc
import threading
import weakref
from datetime import UTC, datetime, timedelta

import pytest

from ckptsync.daemon.request import Phase, Request
from ckptsync.errors import CkptsyncError, Fenced

START = datetime(2026, 1, 1, tzinfo=UTC)


class Ticking:
    """A clock that is a second later whenever it is read."""

    def __init__(self) -> None:
        self._at = START

    def __call__(self) -> datetime:
        self._at += timedelta(seconds=1)
        return self._at


def seconds(at: datetime | None) -> float | None:
    return None if at is None else (at - START).total_seconds()


def test_it_is_queued_then_running_then_done_with_a_result() -> None:
    request = Request("push", now=Ticking(), id="mine")
    queued = request.snapshot()
    request.start()
    running = request.snapshot()
    request.succeed("a report")
    done = request.snapshot()

    assert [each.state for each in (queued, running, done)] == ["queued", "running", "done"]
    assert {(each.id, each.kind) for each in (queued, running, done)} == {("mine", "push")}
    times = [queued.created_at, running.started_at, done.finished_at]
    assert [seconds(at) for at in times] == [1, 2, 3]
    assert (queued.started_at, running.finished_at, running.result) == (None, None, None)
    assert (done.result, done.error) == ("a report", None)


def test_what_failed_keeps_its_error_and_has_no_result() -> None:
    request = Request("push", now=Ticking())
    error = Fenced("another took over", hint="look")

    request.fail(error)

    state = request.snapshot()
    assert (state.state, state.error, state.result) == (Phase.FAILED, error, None)
    assert state.started_at is None


def test_each_gets_an_id_of_its_own_unless_one_is_given() -> None:
    ids = {Request("push", now=Ticking()).id for _ in range(100)}

    assert len(ids) == 100


def test_a_wait_ends_with_the_request_and_not_before() -> None:
    request = Request("push", now=Ticking())
    seen: list[bool] = []
    waiter = threading.Thread(target=lambda: seen.append(request.wait(30)))

    assert request.wait(0) is False
    request.start()
    assert request.wait(0) is False
    waiter.start()
    request.succeed(None)
    waiter.join()

    assert seen == [True]
    assert request.wait(0) is True


def test_bytes_of_many_threads_are_all_counted_and_can_be_taken_back() -> None:
    request = Request("push", now=Ticking())

    def move() -> None:
        for _ in range(1_000):
            request.progress(3)
            request.progress(-1)

    threads = [threading.Thread(target=move) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert request.snapshot().moved == 8_000


def test_a_kept_error_does_not_keep_what_it_came_through() -> None:
    class Buffer:
        pass

    seen: list[weakref.ref[Buffer]] = []

    def upload() -> None:
        buffer = Buffer()
        seen.append(weakref.ref(buffer))
        try:
            read()
        except ValueError as error:
            raise CkptsyncError("up here") from error

    def read() -> None:
        buffer = Buffer()
        seen.append(weakref.ref(buffer))
        raise ValueError("deep down")

    request = Request("push", now=Ticking())
    try:
        upload()
    except CkptsyncError as error:
        request.fail(error)
    gc.collect()

    assert [buffer() for buffer in seen] == [None, None]
    assert str(request.snapshot().error) == "up here"


def test_a_snapshot_does_not_change() -> None:
    request = Request("push", now=Ticking())
    before = request.snapshot()

    request.start()

    assert before.state is Phase.QUEUED
    with pytest.raises(AttributeError):
        before.moved = 1  # type: ignore[misc] # which is what is tested
