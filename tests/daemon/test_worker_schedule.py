"""What a worker does by itself, and when; what comes of failures and pauses."""

from dataclasses import replace
from datetime import timedelta

from structlog.testing import capture_logs

from ckptsync.daemon.request import Phase
from ckptsync.errors import (
    Busy,
    Cancelled,
)
from ckptsync.hooks import Hook
from ckptsync.model import Role
from ckptsync.operations.orders import Push
from ckptsync.state.role import RoleChange
from tests.daemon.bench import AWAY, PACE, PATIENCE, Bench, eventually, pushed, write
from tests.fakes.stores import Call

MINUTE = timedelta(minutes=1)


# Pushing on schedule


def test_a_primary_creates_its_repository_and_looks_for_something_to_push(primary: Bench) -> None:
    primary.host.root.mkdir(parents=True)
    worker = primary.start()

    assert worker.snapshot().role is Role.PRIMARY
    assert primary.bucket.head.epoch == 1
    assert primary.left() == 0.0
    primary.ring()
    assert primary.left() == 5.0, "one may be written at any moment"


def test_a_checkpoint_that_was_written_before_the_start_is_pushed(primary: Bench) -> None:
    write(primary, "1")
    primary.start()
    primary.ring()

    assert pushed(primary) == ["1"]


def test_the_interval_counts_from_the_end_of_the_last_push(primary: Bench) -> None:
    write(primary, "1")
    primary.start()
    primary.ring()
    assert primary.left() == 300.0

    primary.clock.advance(2 * MINUTE)
    write(primary, "2")
    primary.done(Push())
    assert primary.left() == 300.0, "a push by hand counts, too"
    primary.clock.advance(5 * MINUTE)
    assert primary.left() == 0.0


def test_the_interval_counts_across_a_restart(primary: Bench) -> None:
    write(primary, "1")
    primary.start()
    primary.ring()
    write(primary, "2")
    primary.clock.advance(2 * MINUTE)
    primary.again()

    assert primary.left() == 180.0
    primary.clock.advance(3 * MINUTE)
    primary.ring()
    assert pushed(primary) == ["1", "2"]


def test_a_checkpoint_that_appears_after_the_interval_is_pushed_at_the_next_look(
    primary: Bench,
) -> None:
    write(primary, "1")
    primary.start()
    primary.ring()
    primary.clock.advance(10 * MINUTE)
    primary.ring()
    assert primary.left() == 5.0

    write(primary, "2")
    primary.ring()
    assert pushed(primary) == ["1", "2"]
    assert primary.left() == 300.0


def test_a_look_that_finds_nothing_asks_the_bucket_nothing(primary: Bench) -> None:
    write(primary, "1")
    primary.start()
    primary.ring()

    assert primary.asked(primary.ring) == []
    assert primary.asked(primary.again) != [], "the start does"
    assert primary.asked(primary.ring) == []


def test_without_an_interval_pushes_are_made_by_hand_only(primary: Bench) -> None:
    primary.pace = replace(PACE, push_interval=None)
    write(primary, "1")
    worker = primary.start()

    assert primary.left() is None
    assert worker.snapshot().next_push_at is None
    assert primary.done(Push()).state is Phase.DONE
    assert primary.left() is None


def test_the_engine_is_asked_for_a_checkpoint_before_each_push(primary: Bench) -> None:
    root = primary.host.root
    script = f"cd {root}; n=$(ls | wc -l); mkdir $n; echo $n > $n/x"
    primary.host = replace(primary.host, hooks={Hook.PRE_PUSH: ("sh", "-c", script)})
    root.mkdir(parents=True)
    primary.start()

    primary.ring()
    assert pushed(primary) == ["0"]
    assert primary.left() == 300.0
    primary.ring()
    assert pushed(primary) == ["0", "1"]


# Failures


def test_failed_pushes_back_off_and_are_seen_until_one_succeeds(primary: Bench) -> None:
    write(primary, "1")
    worker = primary.start()
    with primary.bucket.away():
        for most in (1.0, 2.0, 4.0, 8.0):
            primary.ring()
            left = primary.left()
            assert left is not None
            assert most / 2 <= left <= most
            failure = worker.snapshot().last_push_failure
            assert failure is not None
            assert failure.message == str(AWAY)
            assert worker.snapshot().contact.failure == failure

    primary.ring()
    told = worker.snapshot()
    assert (told.last_push_failure, told.contact.failure) == (None, None)
    assert pushed(primary) == ["1"]
    assert primary.left() == 300.0


def test_a_failure_is_logged_once_and_so_is_the_end_of_it(standby: Bench) -> None:
    standby.start()
    with capture_logs() as logged:
        with standby.bucket.away():
            for _ in range(3):
                standby.ring()
        standby.ring()

    events = [each["event"] for each in logged if each["event"].startswith("duty.")]
    assert events == ["duty.failed", "duty.recovered"]


def test_a_back_off_goes_on_where_somebody_else_asks_for_something_meanwhile(
    standby: Bench,
) -> None:
    worker = standby.start()
    with standby.bucket.away():
        for _ in range(9):
            standby.ring()
    left = standby.left()
    assert left is not None
    assert left >= 128.0

    standby.clock.advance(timedelta(seconds=300))
    worker.pause()
    worker.resume()
    standby.settle()
    assert standby.left() == 0.0


def test_a_failing_poll_keeps_what_is_warm_and_recovers(primary: Bench, standby: Bench) -> None:
    write(primary, "1")
    primary.start()
    primary.ring()
    worker = standby.start()
    standby.ring()
    warm = worker.snapshot().warm
    assert warm is not None
    assert warm.engine_id == "1"

    write(primary, "2")
    primary.ring()
    with standby.bucket.away():
        standby.ring()
    told = worker.snapshot()
    assert told.last_pull_failure is not None
    assert told.contact.failure is not None
    assert told.contact.answered_at is not None
    assert told.warm == warm

    standby.ring()
    told = worker.snapshot()
    assert (told.last_pull_failure, told.contact.failure) == (None, None)
    assert told.warm is not None
    assert told.warm.engine_id == "2"
    assert standby.left() == 10.0


def test_what_failed_is_tried_soon_once_the_bucket_answers_again(primary: Bench) -> None:
    write(primary, "1")
    worker = primary.start()
    with primary.bucket.away():
        for _ in range(9):
            primary.ring()
        primary.ring("check")
        left = primary.left()
        assert left is not None
        assert left >= 128.0

    primary.ring("check")
    assert primary.left() == 5.0
    assert worker.snapshot().last_push_failure is not None, "until one has succeeded"
    primary.ring()
    assert pushed(primary) == ["1"]


def test_a_poll_with_nothing_new_is_one_request(primary: Bench, standby: Bench) -> None:
    write(primary, "1")
    primary.start()
    primary.ring()
    standby.start()
    standby.ring()

    assert standby.asked(standby.ring) == [Call("get", "head.json")]


def test_what_a_bug_raises_is_handed_on_and_nothing_is_done_any_more(primary: Bench) -> None:
    class Broken(Exception):
        pass

    worker = primary.start()
    primary.bucket.error = Broken()  # type: ignore[assignment]  # a bug raises what nobody expects
    write(primary, "1")
    primary.alarm.ring("orders:duty")

    eventually(lambda: primary.bugs)
    primary.bucket.error = None
    assert [type(bug) for bug in primary.bugs] == [Broken]
    primary.bugs.clear()
    asked = worker.submit(Push())
    assert isinstance(asked.error, Cancelled)
    assert pushed(primary) == []


def test_a_database_that_cannot_be_read_for_a_moment_delays_what_is_due(primary: Bench) -> None:
    primary.start()
    roles = primary.pipeline.state.roles
    current = roles.current
    refusals = [Busy("the database is locked")]

    def refuse() -> RoleChange | None:
        if refusals:
            raise refusals.pop()
        return current()

    roles.current = refuse  # type: ignore[method-assign]  # a database fails as it likes
    primary.worker._work._plan()
    assert primary.left() == 5.0

    primary.ring()
    assert primary.left() == 0.0, "it was planned anew, and is due"
    write(primary, "1")
    primary.ring()
    assert pushed(primary) == ["1"]


# Pauses


def test_a_pause_ends_pushing_until_it_is_over_also_after_a_restart(primary: Bench) -> None:
    worker = primary.start()
    worker.pause()
    primary.settle()
    assert primary.left() is None
    assert worker.snapshot().paused_since == primary.clock.at
    write(primary, "1")
    worker = primary.again()
    assert primary.left() is None

    assert primary.done(Push()).state is Phase.DONE, "by hand it is pushed all the same"
    assert primary.left() is None
    worker.resume()
    primary.settle()
    assert primary.left() == 300.0


def test_a_pause_lets_a_push_that_is_under_way_come_to_its_end(primary: Bench) -> None:
    write(primary, "1")
    worker = primary.start()
    primary.bucket.hold("put", "head.json")
    primary.alarm.ring("orders:duty")
    assert primary.bucket.reached.wait(PATIENCE)
    worker.pause()
    primary.bucket.let_go()
    primary.settle()
    assert pushed(primary) == ["1"]
    assert primary.left() is None


def test_the_end_of_a_pause_does_not_hurry_the_push_after_one_that_is_under_way(
    primary: Bench,
) -> None:
    write(primary, "1")
    worker = primary.start()
    worker.pause()
    primary.bucket.hold("put", "head.json")
    worker.submit(Push())
    assert primary.bucket.reached.wait(PATIENCE)
    worker.resume()
    assert primary.left() is None, "the end of this push says when the next is due"
    write(primary, "2")
    primary.bucket.let_go()
    primary.settle()
    assert pushed(primary) == ["1"]
    assert primary.left() == 300.0


def test_a_standby_that_is_paused_does_not_poll(standby: Bench) -> None:
    worker = standby.start()
    worker.pause()
    standby.settle()
    assert standby.left() is None
    assert worker.snapshot().next_pull_at is None
