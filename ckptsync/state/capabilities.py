"""What a probe found out about the store, so that not every run has to probe again."""

from datetime import datetime, timedelta
from typing import Final

from ckptsync.state.database import Database

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS capabilities (
    only INTEGER PRIMARY KEY CHECK (only = 1), place TEXT NOT NULL, probed_at TEXT NOT NULL,
    result TEXT NOT NULL
) STRICT
"""


class Capabilities:
    """The last result, as JSON that only the prober understands.

    `place` says which server it holds for: a bucket's name may lead to another one tomorrow.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.transaction() as transaction:
            transaction.execute(SCHEMA)

    def remember(self, result: str, *, place: str, now: datetime) -> None:
        with self._database.transaction() as transaction:
            transaction.execute(
                "INSERT OR REPLACE INTO capabilities VALUES (1, ?, ?, ?)",
                (place, now.isoformat(), result),
            )

    def recall(self, *, place: str, max_age: timedelta, now: datetime) -> str | None:
        """None if there is none, or it is older; or from the future, so its age is unknown."""
        rows = self._database.query(
            "SELECT probed_at, result FROM capabilities WHERE place = ?", (place,)
        )
        if not rows:
            return None
        age = now - datetime.fromisoformat(rows[0][0])
        return rows[0][1] if timedelta(0) <= age <= max_age else None
