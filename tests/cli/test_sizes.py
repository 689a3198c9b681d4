"""What the last pushes tell of the size of checkpoints."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from ckptsync.cli.sizes import Remembered, remembered, told
from ckptsync.config.forecast import Sizes
from ckptsync.config.load import parse
from ckptsync.config.model import Config
from ckptsync.state.database import Database, state_path
from ckptsync.state.history import History, Outcome, Run, RunId

NOON: Final = datetime(2026, 11, 3, 12, tzinfo=UTC)


def a_push(id: str, whole: int, new: int, **others: Any) -> Run:
    details = {"checkpoint": {"id": id, "bytes": whole, "new_bytes": new}}
    run = {
        "id": RunId(1),
        "kind": "push",
        "started_at": NOON,
        "finished_at": NOON,
        "outcome": Outcome.DONE,
        "details": json.dumps(details),
    }
    return Run(**{**run, **others})


def a_config(home: Path) -> Config:
    text = f"""
        [daemon]
        state_dir = "{home}/state"
        [pipelines.orders]
        storage_path = "/srv/orders"
        sync = {{ bucket = "s3://dr/orders" }}
    """
    return parse(text, home / "config.toml")


def database_of(config: Config) -> Path:
    return state_path(config.daemon.state_dir, "orders", "s3://dr/orders")


def test_the_last_size_counts_and_the_median_of_what_was_new() -> None:
    pushes = [a_push("d", 130, 10), a_push("c", 120, 90), a_push("b", 110, 20)]

    assert told(pushes) == Remembered(sizes=Sizes(whole=130, new=20), pushes=3)


def test_the_first_checkpoint_being_all_new_says_nothing_of_the_second() -> None:
    pushes = [a_push("b", 110, 5), a_push("a", 100, 100)]

    assert told(pushes) == Remembered(sizes=Sizes(whole=110, new=5), pushes=2)


def test_only_the_last_twenty_count() -> None:
    recent = [a_push(f"new-{number}", 100, 7) for number in range(20)]
    before = [a_push(f"old-{number}", 100, 99) for number in range(50)]

    assert told(recent + before) == Remembered(sizes=Sizes(whole=100, new=7), pushes=20)


def test_what_was_pushed_already_counts_once_and_what_failed_not_at_all() -> None:
    runs = [
        a_push("b", 0, 0, outcome=Outcome.FAILED),
        a_push("b", 0, 0, outcome=Outcome.RUNNING, details=None),
        a_push("b", 0, 0, details='{"error": {"message": "away"}}'),
        a_push("x", 9_999, 9_999, kind="pull"),
        a_push("b", 110, 10),
        a_push("b", 110, 10),
        a_push("a", 100, 100),
    ]

    assert told(runs) == Remembered(sizes=Sizes(whole=110, new=10), pushes=2)
    assert told(runs[:4]) is None


def test_what_is_new_is_at_most_the_last_checkpoint() -> None:
    pushes = [a_push("c", 10, 10), a_push("b", 900, 900), a_push("a", 900, 900)]

    assert told(pushes) == Remembered(sizes=Sizes(whole=10, new=10), pushes=3)


def test_it_is_read_from_the_database_of_the_pipeline(tmp_path: Path) -> None:
    config = a_config(tmp_path)
    database = Database(database_of(config))
    history = History(database)
    run = history.start("push", now=NOON)
    history.finish(run, done=True, now=NOON, details=a_push("a", 100, 100).details)
    database.close()

    assert remembered(config, "orders") == Remembered(sizes=Sizes(whole=100, new=100), pushes=1)


def test_without_a_database_nothing_is_told_and_none_is_made(tmp_path: Path) -> None:
    assert remembered(a_config(tmp_path), "orders") is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"no database", b""])
def test_a_damaged_database_is_no_reason_to_fail(tmp_path: Path, content: bytes) -> None:
    config = a_config(tmp_path)
    path = database_of(config)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)

    assert remembered(config, "orders") is None
