"""What was run on this pipeline and how it ended."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NewType

from ckptsync.state.database import Database
from ckptsync.state.process import lives, this_process

RunId = NewType("RunId", int)

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS run (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, process TEXT NOT NULL,
    started_at TEXT NOT NULL, finished_at TEXT, outcome TEXT, details TEXT
) STRICT
"""

_KEPT: Final = 1_000
_COLUMNS: Final = "id, kind, process, started_at, finished_at, outcome, details"


class Outcome(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """Its process ended without a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    id: RunId
    kind: str
    """The operator's word: push, pull."""
    started_at: datetime
    finished_at: datetime | None
    outcome: Outcome
    details: str | None
    """JSON, as the operation wrote it."""


class History:
    """The newest 1,000 runs, and of each kind the last that was done. Times are in UTC."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.transaction() as transaction:
            transaction.execute(SCHEMA)

    def start(self, kind: str, *, now: datetime) -> RunId:
        """Record that this process begins a run."""
        with self._database.transaction() as transaction:
            cursor = transaction.execute(
                "INSERT INTO run (kind, process, started_at) VALUES (?, ?, ?)",
                (kind, this_process(), now.isoformat()),
            )
            run = RunId(cursor.lastrowid or 0)
            transaction.execute(
                "DELETE FROM run WHERE id <= ? AND id NOT IN"
                " (SELECT max(id) FROM run WHERE outcome = ? GROUP BY kind)",
                (run - _KEPT, Outcome.DONE),
            )
        return run

    def finish(self, run: RunId, *, done: bool, now: datetime, details: str | None = None) -> None:
        """Record how it ended. `details` is JSON without secrets."""
        outcome = Outcome.DONE if done else Outcome.FAILED
        with self._database.transaction() as transaction:
            transaction.execute(
                "UPDATE run SET finished_at = ?, outcome = ?, details = ? WHERE id = ?",
                (now.isoformat(), outcome, details, run),
            )

    def drop(self, run: RunId) -> None:
        """As if it had never begun."""
        with self._database.transaction() as transaction:
            transaction.execute("DELETE FROM run WHERE id = ?", (run,))

    def last(self, kind: str) -> Run | None:
        """The newest run, still running or interrupted ones too."""
        rows = self._database.query(
            f"SELECT {_COLUMNS} FROM run WHERE kind = ? ORDER BY id DESC LIMIT 1",  # noqa: S608 - a constant
            (kind,),
        )
        return _run(rows[0]) if rows else None

    def last_success(self, kind: str) -> Run | None:
        rows = self._database.query(
            f"SELECT {_COLUMNS} FROM run WHERE kind = ? AND outcome = ?"  # noqa: S608 - a constant
            " ORDER BY id DESC LIMIT 1",
            (kind, Outcome.DONE),
        )
        return _run(rows[0]) if rows else None

    def runs(self, limit: int = _KEPT) -> tuple[Run, ...]:
        """Of every kind, the newest first."""
        rows = self._database.query(
            f"SELECT {_COLUMNS} FROM run ORDER BY id DESC LIMIT ?",  # noqa: S608 - a constant
            (limit,),
        )
        return tuple(map(_run, rows))


def _run(row: tuple[Any, ...]) -> Run:
    number, kind, process, started_at, finished_at, outcome, details = row
    if outcome is None:
        outcome = Outcome.RUNNING if lives(process) else Outcome.INTERRUPTED
    return Run(
        id=RunId(number),
        kind=kind,
        started_at=datetime.fromisoformat(started_at),
        finished_at=None if finished_at is None else datetime.fromisoformat(finished_at),
        outcome=Outcome(outcome),
        details=details,
    )
