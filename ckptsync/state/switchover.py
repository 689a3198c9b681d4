"""The switchover that this node is giving its pipeline away in: remembered before each step."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ckptsync.state.database import Database

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS switchover (
    only INTEGER PRIMARY KEY CHECK (only = 1), node TEXT NOT NULL, deadline TEXT NOT NULL,
    released INTEGER NOT NULL
) STRICT
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    node: str
    """That is to take over."""
    deadline: datetime
    """By the local clock: after it this node takes its pipeline back."""
    released: bool
    """False while the engine here is being stopped; then the swap that releases is intended."""


class Handovers:
    """At most one is under way. Each call is durable when it returns."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.transaction() as transaction:
            transaction.execute(SCHEMA)

    def current(self) -> Handover | None:
        rows = self._database.query("SELECT node, deadline, released FROM switchover")
        if not rows:
            return None
        node, deadline, released = rows[0]
        return Handover(
            node=node, deadline=datetime.fromisoformat(deadline), released=bool(released)
        )

    def save(self, handover: Handover) -> None:
        with self._database.transaction() as transaction:
            transaction.execute(
                "INSERT OR REPLACE INTO switchover VALUES (1, ?, ?, ?)",
                (handover.node, handover.deadline.isoformat(), int(handover.released)),
            )

    def end(self) -> None:
        with self._database.transaction() as transaction:
            transaction.execute("DELETE FROM switchover")
