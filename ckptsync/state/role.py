"""What this node is to its pipeline, kept across restarts, and what it was before."""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ckptsync.model import Role
from ckptsync.state.database import Database

CHANGE_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS role_change (
    number INTEGER PRIMARY KEY AUTOINCREMENT, role TEXT NOT NULL, at TEXT NOT NULL,
    epoch TEXT NOT NULL, reason TEXT, problem TEXT
) STRICT
"""
PAUSE_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS pause (
    only INTEGER PRIMARY KEY CHECK (only = 1), since TEXT NOT NULL
) STRICT
"""

_KEPT: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleChange:
    role: Role
    at: datetime
    """By the local clock, in UTC."""
    epoch: int
    """The highest that this node had seen then."""
    reason: str | None
    """Why, in a few words for people."""
    problem: str | None
    """What is wrong, where the role says that something is."""


class Roles:
    """The newest 1,000 changes; the last of them is what holds. Each call is durable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.transaction() as transaction:
            transaction.execute(CHANGE_SCHEMA)
            transaction.execute(PAUSE_SCHEMA)

    def current(self) -> RoleChange | None:
        """None on a node that never had a role: the configuration says what it begins as."""
        changes = self.changes(1)
        return changes[0] if changes else None

    def changes(self, limit: int = _KEPT) -> tuple[RoleChange, ...]:
        """The newest first."""
        rows = self._database.query(
            "SELECT role, at, epoch, reason, problem FROM role_change ORDER BY number DESC LIMIT ?",
            (limit,),
        )
        return tuple(
            RoleChange(
                role=Role(role),
                at=datetime.fromisoformat(at),
                epoch=int(epoch),
                reason=reason,
                problem=problem,
            )
            for role, at, epoch, reason, problem in rows
        )

    def change(self, to: RoleChange) -> bool:
        """Remember a change; False if that is what holds already, whenever it began."""
        with self._database.transaction() as transaction:
            last = transaction.execute(
                "SELECT role, epoch, problem FROM role_change ORDER BY number DESC LIMIT 1"
            ).fetchone()
            if last == (to.role, str(to.epoch), to.problem):
                return False
            number = _insert(transaction, to)
            transaction.execute("DELETE FROM role_change WHERE number <= ?", (number - _KEPT,))
        return True

    def paused_since(self) -> datetime | None:
        rows = self._database.query("SELECT since FROM pause")
        return datetime.fromisoformat(rows[0][0]) if rows else None

    def pause(self, now: datetime) -> None:
        """Does nothing where it is paused already."""
        with self._database.transaction() as transaction:
            transaction.execute("INSERT OR IGNORE INTO pause VALUES (1, ?)", (now.isoformat(),))

    def resume(self) -> None:
        with self._database.transaction() as transaction:
            transaction.execute("DELETE FROM pause")


def _insert(connection: sqlite3.Connection, change: RoleChange) -> int:
    cursor = connection.execute(
        "INSERT INTO role_change (role, at, epoch, reason, problem) VALUES (?, ?, ?, ?, ?)",
        (change.role, change.at.isoformat(), str(change.epoch), change.reason, change.problem),
    )
    return cursor.lastrowid or 0
