"""One thing at a time: what is joined, what goes first, and how it ends."""

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
import structlog

from ckptsync.daemon.lane import Action, Lane
from ckptsync.daemon.request import Phase, Request
from ckptsync.errors import Cancelled, CkptsyncError, Fenced
from ckptsync.failure import Relayed
from ckptsync.model import Progress

PATIENCE = 30.0
"""Seconds until a test that hangs fails; none of them waits as long."""


class Bench:
    """A lane, and what it was given."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.bugs: list[BaseException] = []
        self.told = threading.Event()
        self.lane = Lane(
            "work",
            pipeline="orders",
            interrupt=self.stop.set,
            ready=self.stop.clear,
            fail=self._fail,
            now=lambda: datetime.now(UTC),
        )

    def _fail(self, bug: BaseException) -> None:
        self.bugs.append(bug)
        self.told.set()


class Busy:
    """An action that runs until it is let go, or interrupted."""

    def __init__(self, stop: threading.Event) -> None:
        self.began = threading.Event()
        self._stop = stop
        self._go = threading.Event()

    def __call__(self, progress: Progress) -> object:
        self.began.set()
        while not self._go.wait(0.001):
            progress(1)
            if self._stop.is_set():
                raise Cancelled("stopped on request")
        return "done"

    def let_go(self) -> None:
        self._go.set()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.lane.stop()
    bench.lane.close()


@pytest.fixture
def busy(bench: Bench) -> Iterator[Busy]:
    """Keeps the lane busy with a request of kind "first"."""
    busy = Busy(bench.stop)
    bench.lane.submit("first", busy)
    assert busy.began.wait(PATIENCE)
    yield busy
    busy.let_go()


def returning(result: object) -> Action:
    return lambda _progress: result


def raising(error: BaseException) -> Action:
    def action(_progress: Progress) -> object:
        raise error

    return action


def ended(request: Request) -> Request:
    assert request.wait(PATIENCE)
    return request


def test_what_an_action_returns_is_the_result(bench: Bench) -> None:
    def action(progress: Progress) -> str:
        progress(7)
        return "a report"

    request = ended(bench.lane.submit("push", action))

    state = request.snapshot()
    assert (state.state, state.result, state.moved) == (Phase.DONE, "a report", 7)
    assert state.started_at is not None
    assert bench.lane.running() is None


def test_requests_run_one_after_the_other_in_order(bench: Bench, busy: Busy) -> None:
    ran: list[int] = []

    def action(number: int) -> Action:
        return lambda _progress: ran.append(number)

    requests = [bench.lane.submit("push", action(n), merge=False) for n in range(5)]
    assert [state.id for state in bench.lane.queued()] == [each.id for each in requests]
    assert ran == []
    busy.let_go()

    for request in requests:
        ended(request)
    assert ran == [0, 1, 2, 3, 4]


def test_a_request_of_the_kind_that_is_queued_is_joined(bench: Bench, busy: Busy) -> None:
    one = bench.lane.submit("push", returning(1))
    other = bench.lane.submit("push", returning(2))
    pull = bench.lane.submit("pull", returning(3))
    busy.let_go()

    assert other is one
    assert ended(one).snapshot().result == 1
    assert ended(pull).snapshot().result == 3


def test_a_request_of_the_kind_that_is_running_is_joined(bench: Bench, busy: Busy) -> None:
    joined = bench.lane.submit("first", returning("another"))

    running = bench.lane.running()
    assert running is not None
    assert running.id == joined.id
    busy.let_go()
    assert ended(joined).snapshot().result == "done"


def test_one_that_has_ended_is_not_joined(bench: Bench, busy: Busy) -> None:
    first = bench.lane.submit("first", returning("joined"))
    busy.let_go()
    ended(first)

    assert ended(bench.lane.submit("first", returning("new"))).snapshot().result == "new"


def test_a_request_with_parameters_of_its_own_neither_joins_nor_is_joined(
    bench: Bench, busy: Busy
) -> None:
    particular = bench.lane.submit("push", returning("of X"), merge=False)
    general = bench.lane.submit("push", returning("of the newest"))
    another = bench.lane.submit("push", returning("of Y"), merge=False)
    busy.let_go()

    results = [ended(each).snapshot().result for each in (particular, general, another)]
    assert results == ["of X", "of the newest", "of Y"]


def test_an_id_that_is_queued_running_or_ended_gets_that_very_request(
    bench: Bench, busy: Busy
) -> None:
    def again() -> Request:
        return bench.lane.submit("push", returning(2), id="mine", merge=False)

    request = bench.lane.submit("push", returning(1), id="mine", merge=False)
    assert again() is request
    busy.let_go()
    ended(request)
    assert again() is request
    assert bench.lane.find("mine") is request
    assert request.snapshot().result == 1


def test_an_id_that_joined_another_request_still_finds_it_once_it_has_ended(
    bench: Bench, busy: Busy
) -> None:
    first = bench.lane.submit("first", returning("another"), id="late")
    busy.let_go()
    ended(first)

    assert first.id != "late"
    assert bench.lane.find("late") is first
    assert bench.lane.submit("first", returning("another"), id="late") is first


def test_the_newest_256_that_ended_are_remembered(bench: Bench) -> None:
    requests = [bench.lane.submit("push", returning(n), id=str(n), merge=False) for n in range(258)]
    ended(requests[-1])

    assert [bench.lane.find(id) for id in ("0", "1")] == [None, None]
    assert [bench.lane.find(str(n)) for n in range(2, 258)] == requests[2:]
    assert ended(bench.lane.submit("push", returning("anew"), id="0")) is not requests[0]


def test_an_unknown_id_is_not_found(bench: Bench) -> None:
    assert bench.lane.find("nonesuch") is None


def test_an_urgent_request_interrupts_what_runs_and_goes_first(bench: Bench, busy: Busy) -> None:
    ran: list[tuple[str, bool]] = []

    def action(name: str) -> Action:
        return lambda _progress: ran.append((name, bench.stop.is_set()))

    first = bench.lane.submit("first", action("first"))
    push = bench.lane.submit("push", action("push"))
    urgent = bench.lane.submit("activate", action("activate"), urgent=True)

    assert isinstance(ended(first).snapshot().error, Cancelled)
    ended(urgent)
    ended(push)
    assert ran == [("activate", False), ("push", False)], "one began with the other's stop"


def test_what_was_interrupted_is_not_joined_any_more(bench: Bench) -> None:
    began, noticed = threading.Event(), threading.Event()

    def slow_to_notice(_progress: Progress) -> object:
        began.set()
        assert noticed.wait(PATIENCE)
        raise Cancelled("stopped on request")

    push = bench.lane.submit("push", slow_to_notice)
    assert began.wait(PATIENCE)
    bench.lane.submit("activate", returning("active"), urgent=True)

    again = bench.lane.submit("push", returning("pushed"))

    noticed.set()
    assert again is not push
    assert ended(again).snapshot().result == "pushed"


def test_an_urgent_request_hurries_the_queued_one_that_it_joins(bench: Bench, busy: Busy) -> None:
    ran: list[str] = []

    def action(name: str) -> Action:
        return lambda _progress: ran.append(name)

    push = bench.lane.submit("push", action("push"))
    patient = bench.lane.submit("activate", action("activate"))

    urgent = bench.lane.submit("activate", action("another"), urgent=True)

    assert urgent is patient
    ended(push)
    assert ran == ["activate", "push"]


def test_an_urgent_request_in_an_idle_lane_interrupts_nothing(bench: Bench) -> None:
    request = bench.lane.submit("activate", lambda _: bench.stop.is_set(), urgent=True)

    assert ended(request).snapshot().result is False


def test_a_failure_is_kept_and_the_lane_goes_on(bench: Bench) -> None:
    error = Fenced("another took over", hint="look")

    with structlog.testing.capture_logs() as logged:
        failed = ended(bench.lane.submit("push", raising(error)))
        done = ended(bench.lane.submit("push", returning(1)))

    assert failed.snapshot().error is error
    assert done.snapshot().result == 1
    assert bench.bugs == []
    (told,) = [entry for entry in logged if entry["log_level"] == "error"]
    assert told["event"] == "request.failed"
    assert (told["kind"], told["error"], told["hint"]) == ("push", "another took over", "look")


def test_what_was_cancelled_is_no_cause_for_alarm(bench: Bench) -> None:
    with structlog.testing.capture_logs() as logged:
        ended(bench.lane.submit("push", raising(Cancelled("stopped"))))

    assert [(each["event"], each["log_level"]) for each in logged] == [
        ("request.cancelled", "info")
    ]


@pytest.mark.parametrize("bug", [KeyError("x"), SystemExit(3), KeyboardInterrupt()])
def test_a_bug_fails_the_request_tells_the_process_and_ends_the_lane(
    bench: Bench, busy: Busy, bug: BaseException
) -> None:
    broken = bench.lane.submit("push", raising(bug))
    queued = bench.lane.submit("pull", returning(1))
    busy.let_go()

    assert bench.told.wait(PATIENCE)
    assert bench.bugs == [bug]
    error = ended(broken).snapshot().error
    assert isinstance(error, Relayed)
    assert (error.failure.kind, error.failure.exit_code) == ("Bug", 70)
    assert str(error) == f"this is a bug of ckptsync: {type(bug).__name__}"
    assert isinstance(ended(queued).snapshot().error, Cancelled)
    assert isinstance(ended(bench.lane.submit("push", returning(1))).snapshot().error, Cancelled)
    assert bench.lane.running() is None


def test_a_bug_before_the_action_begins_leaves_nobody_waiting() -> None:
    bugs: list[BaseException] = []
    bug = RuntimeError("not ready")

    def ready() -> None:
        raise bug

    lane = Lane(
        "work",
        pipeline="orders",
        interrupt=threading.Event().set,
        ready=ready,
        fail=bugs.append,
        now=lambda: datetime.now(UTC),
    )
    request = ended(lane.submit("push", returning(1)))
    lane.close()

    assert bugs == [bug]
    assert request.snapshot().state is Phase.FAILED


def test_closing_waits_for_what_runs_and_fails_what_is_queued(bench: Bench, busy: Busy) -> None:
    running = bench.lane.submit("first", returning("joined"))
    queued = bench.lane.submit("push", returning(1), id="mine")
    closer = threading.Thread(target=bench.lane.close)
    closer.start()

    assert isinstance(ended(queued).snapshot().error, Cancelled)
    assert closer.is_alive()
    assert running.snapshot().state is Phase.RUNNING
    refused = bench.lane.submit("pull", returning(1))
    assert str(refused.snapshot().error).startswith("ckptsync is stopping, so this pull")
    busy.let_go()
    closer.join()

    assert running.snapshot().result == "done"
    assert bench.lane.find("mine") is queued
    bench.lane.close()


def test_stopping_interrupts_what_runs_and_returns_at_once(bench: Bench, busy: Busy) -> None:
    running = bench.lane.submit("first", returning("joined"))
    queued = bench.lane.submit("push", returning(1))

    bench.lane.stop()

    assert isinstance(queued.snapshot().error, Cancelled)
    assert isinstance(ended(running).snapshot().error, Cancelled)
    bench.lane.close()
    assert bench.stop.is_set()


def test_a_lane_that_did_nothing_can_be_closed(bench: Bench) -> None:
    bench.lane.close()
    bench.lane.close()

    assert bench.lane.queued() == ()


def test_what_is_logged_names_the_pipeline(bench: Bench) -> None:
    def action(_progress: Progress) -> object:
        return structlog.contextvars.get_contextvars(), threading.current_thread().name

    request = ended(bench.lane.submit("push", action))

    assert request.snapshot().result == ({"pipeline": "orders"}, "work")


def test_a_failed_action_leaves_nothing_in_memory_but_its_error(bench: Bench) -> None:
    class Buffer:
        pass

    seen: list[weakref.ref[Buffer]] = []

    def action(_progress: Progress) -> object:
        buffer = Buffer()
        seen.append(weakref.ref(buffer))
        raise CkptsyncError("no")

    ended(bench.lane.submit("push", action))
    ended(bench.lane.submit("pull", returning(1)))
    gc.collect()

    assert seen[0]() is None


def test_submitting_from_many_threads_loses_nothing(bench: Bench) -> None:
    ran: list[int] = []
    requests: list[Request] = []

    def act(number: int) -> Callable[[Progress], object]:
        return lambda _progress: ran.append(number)

    def submit(start: int) -> None:
        requests.extend(
            bench.lane.submit("push", act(number), merge=False)
            for number in range(start, start + 50)
        )

    threads = [threading.Thread(target=submit, args=(start,)) for start in range(0, 200, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for request in requests:
        ended(request)

    assert sorted(ran) == list(range(200))
