"""What ran, how it ended, and what never did."""

import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ckptsync.state.database import Database
from ckptsync.state.history import History, Outcome
from tests.state.processes import process

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)

START_THEN_WAIT = """
import sys, time
from datetime import UTC, datetime
from pathlib import Path
from ckptsync.state.database import Database
from ckptsync.state.history import History
History(Database(Path(sys.argv[1]))).start("push", now=datetime(2026, 11, 20, 12, tzinfo=UTC))
print("started", flush=True)
time.sleep(600)
"""


def test_nothing_has_run_yet(database: Database) -> None:
    assert History(database).last("push") is None
    assert History(database).last_success("push") is None


def test_a_failure_does_not_hide_the_last_success(database: Database) -> None:
    history = History(database)
    first = history.start("push", now=NOON)
    history.finish(first, done=True, now=NOON + timedelta(seconds=1), details='{"bytes": 5}')
    second = history.start("push", now=NOON + timedelta(minutes=1))
    history.finish(second, done=False, now=NOON + timedelta(minutes=2))
    history.start("pull", now=NOON + timedelta(minutes=3))

    last, success = history.last("push"), history.last_success("push")

    assert last is not None
    assert (last.id, last.outcome) == (second, Outcome.FAILED)
    assert success is not None
    assert (success.id, success.outcome, success.details) == (first, Outcome.DONE, '{"bytes": 5}')
    assert success.finished_at == NOON + timedelta(seconds=1)


def test_a_run_is_running_while_its_process_lives_and_interrupted_when_it_was_killed(
    path: Path, database: Database
) -> None:
    history = History(database)
    with process(START_THEN_WAIT, path) as child:
        alive = history.last("push")
        child.send_signal(signal.SIGKILL)
        child.wait()
        dead = history.last("push")

    assert alive is not None
    assert (alive.outcome, alive.started_at) == (Outcome.RUNNING, NOON)
    assert dead is not None
    assert (dead.outcome, dead.finished_at) == (Outcome.INTERRUPTED, None)


def test_a_thousand_runs_are_kept_and_the_last_success_of_each_kind(database: Database) -> None:
    history = History(database)
    with database.transaction():  # one commit for all, or the test takes a thousand syncs
        pull = history.start("pull", now=NOON)
        history.finish(pull, done=True, now=NOON)
        for _ in range(1_050):
            history.finish(history.start("push", now=NOON), done=False, now=NOON)

    success = history.last_success("pull")
    assert success is not None
    assert success.id == pull
    assert database.query("SELECT count(*) FROM run") == [(1_001,)]


def test_runs_of_every_kind_come_newest_first(database: Database) -> None:
    history = History(database)
    push = history.start("push", now=NOON)
    history.finish(push, done=True, now=NOON)
    pull = history.start("pull", now=NOON - timedelta(days=3650))  # a clock that was set back

    assert [(each.id, each.kind) for each in history.runs()] == [(pull, "pull"), (push, "push")]
    assert [each.id for each in history.runs(1)] == [pull]
