"""What a standby holds is remembered until it is told otherwise."""

from datetime import UTC, datetime
from pathlib import Path

from ckptsync.state.database import Database
from ckptsync.state.warm import Warm, WarmTable

AT = datetime(2026, 11, 20, 9, 55, 0, 123456, tzinfo=UTC)


def a_row(id: str, *, manifest: bytes = b"manifest") -> Warm:
    return Warm(
        checkpoint_id=id,
        entry='{"id":"x"}',
        revision=1 << 62,
        descriptor=b"descriptor",
        manifest=manifest,
        source="s3://dr/orders",
        read_only=True,
        complete_at=AT,
    )


def test_what_was_added_is_there_when_opened_again(path: Path, database: Database) -> None:
    WarmTable(database).add(a_row("1", manifest=bytes(range(256)) * 9999), keep=2)

    again = Database(path)
    assert WarmTable(again).find("1") == a_row("1", manifest=bytes(range(256)) * 9999)
    assert WarmTable(again).find("2") is None
    again.close()


def test_only_the_newest_are_kept(database: Database) -> None:
    table = WarmTable(database)
    for number in range(5):
        table.add(a_row(f"{number}"), keep=3)
    assert table.ids() == ("4", "3", "2")

    table.add(a_row("5"), keep=1)

    assert table.ids() == ("5",)


def test_one_that_is_added_again_counts_as_new(database: Database) -> None:
    table = WarmTable(database)
    for id in ("1", "2", "3", "2"):
        table.add(a_row(id, manifest=id.encode()), keep=3)

    assert table.ids() == ("2", "3", "1")


def test_what_is_dropped_is_gone(database: Database) -> None:
    table = WarmTable(database)
    for id in ("1", "2", "3"):
        table.add(a_row(id), keep=3)

    table.drop("2")
    table.drop("never there")
    assert table.ids() == ("3", "1")

    table.clear()
    assert table.ids() == ()
