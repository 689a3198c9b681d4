"""Who this node is to a repository, and what it did there: remembered before it is done.

What is stored here before a swap of head lets the node recognise its own writes after a crash
or a lost reply, and notice when a copy of it writes in its name.
"""

import sqlite3
import uuid
from collections.abc import Container, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from ckptsync.state.database import Database

# Numbers come from a bucket and may be of any length, SQLite's have 64 bits: hence text.
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS identity (
    only INTEGER PRIMARY KEY CHECK (only = 1), node_id TEXT NOT NULL, repository_id TEXT,
    revision TEXT NOT NULL DEFAULT '0', epoch TEXT NOT NULL DEFAULT '0',
    held_epoch TEXT NOT NULL DEFAULT '0'
) STRICT
"""
INSTANCE_SCHEMA: Final = "CREATE TABLE IF NOT EXISTS instance (id TEXT PRIMARY KEY) STRICT"
WRITE_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS intended_write (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE
) STRICT
"""
SUPERSEDED_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS superseded_write (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE
) STRICT
"""
SUPERSEDED_KEPT: Final = 10_000
"""A week of one write each minute. They cost a few bytes each, and are only asked for by id."""
POINT_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS point (
    kind TEXT PRIMARY KEY CHECK (kind IN ('publishing', 'restored', 'pushing', 'pushed')),
    checkpoint_id TEXT NOT NULL,
    engine_id TEXT NOT NULL, step TEXT NOT NULL, lineage TEXT, fingerprint TEXT, at TEXT
) STRICT
"""
REPAIR_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS repair (
    only INTEGER PRIMARY KEY CHECK (only = 1), instance TEXT NOT NULL,
    next_seq INTEGER NOT NULL, unrelated INTEGER NOT NULL
) STRICT
"""

_SCHEMAS: Final = (
    SCHEMA,
    INSTANCE_SCHEMA,
    WRITE_SCHEMA,
    SUPERSEDED_SCHEMA,
    POINT_SCHEMA,
    REPAIR_SCHEMA,
)

P = TypeVar("P", "Publishing", "Restored", "Pushing", "Pushed")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    checkpoint_id: str
    engine_id: str
    step: int
    lineage: str | None
    fingerprint: int | None = None
    at: datetime | None = None
    """When it became complete, by the local clock; None where only a pull has put it in place."""


class Publishing(_Point):
    """The checkpoint that our own pull began to put in place; whether it ended is not known."""

    __slots__ = ()


class Restored(_Point):
    """The checkpoint that our own pull put in place."""

    __slots__ = ()


class Pushing(_Point):
    """The first checkpoint that was to be committed since the restore."""

    __slots__ = ()


class Pushed(_Point):
    """The checkpoint that this node committed last, unless a pull replaced the storage since."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """How this node took a repository anew whose head was lost, or went back in time."""

    instance: str
    next_seq: int
    """The number of the first checkpoint from then on."""
    unrelated: bool
    """Whether the local storage held a checkpoint then that did not follow from head's latest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    node_id: str
    """A UUID made with the database, so a copy of the host without it is another node."""
    repository_id: str | None
    """None before the first contact that was remembered."""
    instances: frozenset[str]
    write_ids: frozenset[str]
    """The newest that head was seen to carry, and all that were intended since."""
    revision: int
    """The highest seen; 0 before the first."""
    epoch: int
    """The highest seen; 0 before the first."""
    held_epoch: int
    """The newest at which this node was the writer; 0 if it never was."""
    publishing: Publishing | None
    """None once it is in place."""
    restored: Restored | None
    """None once something was pushed since."""
    pushing: Pushing | None
    """If it was committed, that was not noted any more: head tells."""
    pushed: Pushed | None
    repair: Repair | None = None
    """The newest, whether it came to its end or not; None once something was pushed since."""
    superseded: Container[str] = frozenset()
    """Ids of own writes that later own ones had replaced when this was recalled: of the newest
    SUPERSEDED_KEPT. A head that still carries one is older than what this node made of it."""


@dataclass(frozen=True, slots=True)
class _Superseded(Container[str]):
    """Asks the database for each id. What was superseded later than `last` is none of them."""

    database: Database
    last: int

    def __contains__(self, write_id: object) -> bool:
        sql = "SELECT 1 FROM superseded_write WHERE id = ? AND number <= ?"
        return bool(self.database.query(sql, (write_id, self.last)))


class Identity:
    """Each call is durable when it returns."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.transaction() as transaction:
            for schema in _SCHEMAS:
                transaction.execute(schema)
            _add_missing_columns(transaction)
            transaction.execute(
                "INSERT OR IGNORE INTO identity (only, node_id) VALUES (1, ?)", (str(uuid.uuid4()),)
            )

    def remembered(self) -> Remembered:
        with self._database.transaction() as transaction:
            node_id, repository_id, revision, epoch, held_epoch = transaction.execute(
                "SELECT node_id, repository_id, revision, epoch, held_epoch FROM identity"
            ).fetchone()
            return Remembered(
                node_id=node_id,
                repository_id=repository_id,
                instances=_ids(transaction, "SELECT id FROM instance"),
                write_ids=_ids(transaction, "SELECT id FROM intended_write"),
                revision=int(revision),
                epoch=int(epoch),
                held_epoch=int(held_epoch),
                publishing=_point(transaction, "publishing", Publishing),
                restored=_point(transaction, "restored", Restored),
                pushing=_point(transaction, "pushing", Pushing),
                pushed=_point(transaction, "pushed", Pushed),
                repair=_repair(transaction),
                superseded=_Superseded(self._database, _last_superseded(transaction)),
            )

    def begin(self, repository_id: str, instance: str) -> None:
        """Call before the swap that creates the repository or takes an epoch of it.

        For a repository other than the remembered one, all that was seen of that is forgotten.
        What a pull restored before any repository was remembered is not.
        """
        with self._database.transaction() as transaction:
            _join(transaction, repository_id)
            transaction.execute("INSERT OR IGNORE INTO instance VALUES (?)", (instance,))

    def joined(self, repository_id: str) -> None:
        """Note the repository that this node reads, so that what it sees of it is remembered.

        For another than the remembered one, as `begin` does.
        """
        with self._database.transaction() as transaction:
            _join(transaction, repository_id)

    def intend(self, write_id: str) -> None:
        """Call before the swap that carries this id."""
        with self._database.transaction() as transaction:
            transaction.execute("INSERT OR IGNORE INTO intended_write (id) VALUES (?)", (write_id,))

    def wrote(self, write_id: str, *, epoch: int) -> None:
        """Note that head carries, as its writer's, a write of this node.

        Intents before it are superseded: they can never be stored any more.
        """
        with self._database.transaction() as transaction:
            earlier = (
                "FROM intended_write"
                " WHERE number < (SELECT number FROM intended_write WHERE id = ?)"
            )
            transaction.execute(
                f"INSERT OR IGNORE INTO superseded_write (id) SELECT id {earlier} ORDER BY number",
                (write_id,),
            )
            transaction.execute(f"DELETE {earlier}", (write_id,))
            transaction.execute(
                "DELETE FROM superseded_write WHERE number <= ?",
                (_last_superseded(transaction) - SUPERSEDED_KEPT,),
            )
            transaction.execute("UPDATE identity SET held_epoch = ?", (str(epoch),))

    def saw(self, *, revision: int, epoch: int) -> None:
        """Note what a head said. What is remembered only goes up."""
        with self._database.transaction() as transaction:
            row = transaction.execute("SELECT revision, epoch FROM identity").fetchone()
            transaction.execute(
                "UPDATE identity SET revision = ?, epoch = ?",
                (str(max(revision, int(row[0]))), str(max(epoch, int(row[1])))),
            )

    def publishing(
        self,
        checkpoint_id: str,
        engine_id: str,
        step: int,
        lineage: str | None,
        *,
        fingerprint: int | None = None,
    ) -> None:
        """Call before the storage is changed to hold what a pull fetched."""
        point = Publishing(
            checkpoint_id=checkpoint_id,
            engine_id=engine_id,
            step=step,
            lineage=lineage,
            fingerprint=fingerprint,
        )
        with self._database.transaction() as transaction:
            _set_point(transaction, "publishing", point)

    def published(self, *, from_bucket: bool) -> None:
        """Note that what was `publishing` is in place.

        The storage goes on from there, unless it came from elsewhere than the bucket: then what
        follows is judged against the bucket's latest. What was pushed before says nothing of it:
        an engine that goes on from an older checkpoint uses its names again.
        """
        with self._database.transaction() as transaction:
            transaction.execute("DELETE FROM point WHERE kind <> 'publishing'")
            if from_bucket:
                transaction.execute("UPDATE point SET kind = 'restored' WHERE kind = 'publishing'")
            else:
                transaction.execute("DELETE FROM point WHERE kind = 'publishing'")

    def vacated(self) -> None:
        """Note that the storage holds nothing any more that a push or a pull has put on record."""
        with self._database.transaction() as transaction:
            transaction.execute("DELETE FROM point")

    def pushing(
        self,
        checkpoint_id: str,
        engine_id: str,
        step: int,
        lineage: str | None,
        *,
        fingerprint: int | None = None,
    ) -> None:
        """Call before the swap that commits a checkpoint; only the first since a restore counts."""
        point = Pushing(
            checkpoint_id=checkpoint_id,
            engine_id=engine_id,
            step=step,
            lineage=lineage,
            fingerprint=fingerprint,
        )
        with self._database.transaction() as transaction:
            if _point(transaction, "pushing", Pushing) is None:
                _set_point(transaction, "pushing", point)

    def pushed(
        self,
        checkpoint_id: str,
        engine_id: str,
        step: int,
        lineage: str | None,
        *,
        fingerprint: int | None = None,
        at: datetime | None = None,
    ) -> None:
        """Note a commit; the local storage goes on from there, not from what was restored."""
        point = Pushed(
            checkpoint_id=checkpoint_id,
            engine_id=engine_id,
            step=step,
            lineage=lineage,
            fingerprint=fingerprint,
            at=at,
        )
        with self._database.transaction() as transaction:
            _set_point(transaction, "pushed", point)
            transaction.execute("DELETE FROM point WHERE kind IN ('restored', 'pushing')")
            transaction.execute("DELETE FROM repair")

    def compared(self, checkpoint_id: str, at: datetime) -> None:
        """Note when what lies in the storage became complete: it is what was pushed or restored."""
        with self._database.transaction() as transaction:
            transaction.execute(
                "UPDATE point SET at = ? WHERE checkpoint_id = ?"
                " AND kind IN ('pushed', 'restored')",
                (at.isoformat(), checkpoint_id),
            )

    def repairing(self, repository_id: str, repair: Repair) -> None:
        """Call before the swap that takes the repository anew."""
        with self._database.transaction() as transaction:
            self.begin(repository_id, repair.instance)
            transaction.execute(
                "INSERT OR REPLACE INTO repair VALUES (1, ?, ?, ?)",
                (repair.instance, repair.next_seq, repair.unrelated),
            )

    def forget(self, checkpoint_ids: Iterable[str]) -> None:
        """Forget that these were restored or pushed: they are in no bucket any more.

        What was begun to be put in place stays noted: the storage may hold half of it.
        """
        with self._database.transaction() as transaction:
            transaction.executemany(
                "DELETE FROM point WHERE checkpoint_id = ? AND kind <> 'publishing'",
                ((each,) for each in checkpoint_ids),
            )

    def went_back(self, *, revision: int, epoch: int, write_id: str) -> None:
        """Note that an older head is the truth: the highest seen go down to it.

        `write_id` is its writer's. If that was a write of this node it is the newest one again.
        """
        with self._database.transaction() as transaction:
            transaction.execute(
                "INSERT INTO intended_write (id) SELECT id FROM superseded_write WHERE id = ?",
                (write_id,),
            )
            transaction.execute("DELETE FROM superseded_write WHERE id = ?", (write_id,))
            transaction.execute(
                "UPDATE identity SET revision = ?, epoch = ?", (str(revision), str(epoch))
            )


def _last_superseded(connection: sqlite3.Connection) -> int:
    found = connection.execute("SELECT max(number) FROM superseded_write").fetchone()
    return found[0] or 0


def _repair(connection: sqlite3.Connection) -> Repair | None:
    row = connection.execute("SELECT instance, next_seq, unrelated FROM repair").fetchone()
    return row and Repair(instance=row[0], next_seq=row[1], unrelated=bool(row[2]))


def _join(connection: sqlite3.Connection, repository_id: str) -> None:
    (known,) = connection.execute("SELECT repository_id FROM identity").fetchone()
    if known == repository_id:
        return
    connection.execute(
        "UPDATE identity SET repository_id = ?, revision = '0', epoch = '0', held_epoch = '0'",
        (repository_id,),
    )
    if known is not None:
        connection.execute("DELETE FROM point")
        connection.execute("DELETE FROM repair")


def _add_missing_columns(connection: sqlite3.Connection) -> None:
    """What a database lacks that was made before these were remembered."""
    there = {row[1] for row in connection.execute("PRAGMA table_info(point)")}
    for column in ("fingerprint", "at"):
        if column not in there:
            connection.execute(f"ALTER TABLE point ADD COLUMN {column} TEXT")


def _ids(connection: sqlite3.Connection, sql: str) -> frozenset[str]:
    return frozenset(row[0] for row in connection.execute(sql))


def _point(connection: sqlite3.Connection, kind: str, point: type[P]) -> P | None:
    row = connection.execute(
        "SELECT checkpoint_id, engine_id, step, lineage, fingerprint, at FROM point WHERE kind = ?",
        (kind,),
    ).fetchone()
    if row is None:
        return None
    return point(
        checkpoint_id=row[0],
        engine_id=row[1],
        step=int(row[2]),
        lineage=row[3],
        fingerprint=None if row[4] is None else int(row[4]),
        at=None if row[5] is None else datetime.fromisoformat(row[5]),
    )


def _set_point(connection: sqlite3.Connection, kind: str, point: _Point) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO point VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            kind,
            point.checkpoint_id,
            point.engine_id,
            str(point.step),
            point.lineage,
            None if point.fingerprint is None else str(point.fingerprint),
            None if point.at is None else point.at.isoformat(),
        ),
    )
