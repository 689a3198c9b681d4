"""The checkpoints that a standby holds complete and verified, in the order they came to be so."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ckptsync.state.database import Database

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS warm (
    number INTEGER PRIMARY KEY AUTOINCREMENT, checkpoint_id TEXT NOT NULL UNIQUE,
    entry TEXT NOT NULL, revision TEXT NOT NULL, descriptor BLOB NOT NULL, manifest BLOB NOT NULL,
    source TEXT NOT NULL, read_only INTEGER NOT NULL, complete_at TEXT NOT NULL
) STRICT
"""

_COLUMNS: Final = (
    "checkpoint_id, entry, revision, descriptor, manifest, source, read_only, complete_at"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Warm:
    """What it takes to publish a checkpoint without its bucket."""

    checkpoint_id: str
    entry: str
    """Of head, as JSON."""
    revision: int
    """Of that head."""
    descriptor: bytes
    """Of the repository, as stored."""
    manifest: bytes
    """As stored."""
    source: str
    """The name of the store it came from."""
    read_only: bool
    """That is not the pipeline's own bucket."""
    complete_at: datetime
    """By the local clock, in UTC."""


class WarmTable:
    """Each call is durable when it returns."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.transaction() as transaction:
            transaction.execute(SCHEMA)

    def ids(self) -> tuple[str, ...]:
        """The one added last comes first."""
        rows = self._database.query("SELECT checkpoint_id FROM warm ORDER BY number DESC")
        return tuple(row[0] for row in rows)

    def find(self, checkpoint_id: str) -> Warm | None:
        rows = self._database.query(
            f"SELECT {_COLUMNS} FROM warm WHERE checkpoint_id = ?",  # noqa: S608 - a constant
            (checkpoint_id,),
        )
        if not rows:
            return None
        id, entry, revision, descriptor, manifest, source, read_only, complete_at = rows[0]
        return Warm(
            checkpoint_id=id,
            entry=entry,
            revision=int(revision),
            descriptor=descriptor,
            manifest=manifest,
            source=source,
            read_only=bool(read_only),
            complete_at=datetime.fromisoformat(complete_at),
        )

    def add(self, warm: Warm, *, keep: int) -> None:
        """Add it, or make it the last one added; of all, forget those but the `keep` newest."""
        row = (
            warm.checkpoint_id,
            warm.entry,
            str(warm.revision),
            warm.descriptor,
            warm.manifest,
            warm.source,
            int(warm.read_only),
            warm.complete_at.isoformat(),
        )
        with self._database.transaction() as transaction:
            transaction.execute(
                f"INSERT OR REPLACE INTO warm ({_COLUMNS})"  # noqa: S608 - a constant
                f" VALUES ({', '.join('?' * len(row))})",
                row,
            )
            transaction.execute(
                "DELETE FROM warm WHERE number NOT IN"
                " (SELECT number FROM warm ORDER BY number DESC LIMIT ?)",
                (keep,),
            )

    def drop(self, checkpoint_id: str) -> None:
        with self._database.transaction() as transaction:
            transaction.execute("DELETE FROM warm WHERE checkpoint_id = ?", (checkpoint_id,))

    def clear(self) -> None:
        with self._database.transaction() as transaction:
            transaction.execute("DELETE FROM warm")
