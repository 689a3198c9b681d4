"""The tables of the index, and what is done to them within a transaction.

Rows of `entry` are tuples here, in the order of COLUMNS; a place is a timeline and a seq on it.
"""

import sqlite3
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ckptsync.moments import utc

SCHEMA: Final = (
    """
CREATE TABLE IF NOT EXISTS indexed_repository (
    only INTEGER PRIMARY KEY CHECK (only = 1), id TEXT NOT NULL
) STRICT
""",
    """
CREATE TABLE IF NOT EXISTS entry (
    id TEXT PRIMARY KEY, seq INTEGER NOT NULL, timeline INTEGER NOT NULL, at INTEGER NOT NULL,
    state TEXT NOT NULL, retired_at INTEGER, engine_id TEXT NOT NULL, bytes INTEGER NOT NULL,
    new_bytes INTEGER NOT NULL, digest TEXT NOT NULL, manifest_size INTEGER NOT NULL, page TEXT,
    read INTEGER NOT NULL DEFAULT 0
) STRICT
""",
    "CREATE INDEX IF NOT EXISTS entry_place ON entry (timeline, seq)",
    "CREATE INDEX IF NOT EXISTS entry_page ON entry (page)",
    "CREATE INDEX IF NOT EXISTS entry_unread ON entry (seq) WHERE NOT read",
    "CREATE INDEX IF NOT EXISTS entry_manifest ON entry ('manifests/' || id || '.json.zst')",
    """
CREATE TABLE IF NOT EXISTS use (
    key TEXT NOT NULL, timeline INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    size INTEGER NOT NULL, PRIMARY KEY (key, timeline)
) STRICT, WITHOUT ROWID
""",
    # Without `last`: each new checkpoint raises that of every object it shares with its parent.
    "CREATE INDEX IF NOT EXISTS use_first ON use (timeline, first)",
    "CREATE TABLE IF NOT EXISTS page (key TEXT PRIMARY KEY) STRICT, WITHOUT ROWID",
    """
CREATE TABLE IF NOT EXISTS unreferenced (
    key TEXT PRIMARY KEY, size INTEGER NOT NULL, due INTEGER NOT NULL
) STRICT, WITHOUT ROWID
""",
    "CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT",
)
_TABLES: Final = ("entry", "use", "page", "unreferenced", "fact")

COLUMNS: Final = (
    "id, seq, timeline, at, state, retired_at, engine_id, bytes, new_bytes, digest,"
    " manifest_size, page"
)
PUT_ROW: Final = f"""
INSERT INTO entry ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
    read = read AND digest = excluded.digest AND seq = excluded.seq
        AND timeline = excluded.timeline,
    seq = excluded.seq, timeline = excluded.timeline, at = excluded.at, state = excluded.state,
    retired_at = excluded.retired_at, engine_id = excluded.engine_id, bytes = excluded.bytes,
    new_bytes = excluded.new_bytes, digest = excluded.digest,
    manifest_size = excluded.manifest_size, page = excluded.page
"""  # noqa: S608 - constants
WIDEN: Final = """
INSERT INTO use (key, timeline, first, last, size) VALUES (?1, ?2, ?3, ?3, ?4)
ON CONFLICT (key, timeline) DO UPDATE SET
    first = min(first, excluded.first), last = max(last, excluded.last)
WHERE excluded.first < first OR excluded.last > last
"""
_IN_USE: Final = """(
    EXISTS (SELECT 1 FROM use WHERE use.key = {key})
    OR EXISTS (SELECT 1 FROM entry WHERE 'manifests/' || id || '.json.zst' = {key})
    OR EXISTS (SELECT 1 FROM page WHERE page.key = {key})
)"""
_NOTE_UNREFERENCED: Final = f"""
INSERT INTO unreferenced (key, size, due) SELECT ?1, ?2, ?3 WHERE NOT {_IN_USE.format(key="?1")}
ON CONFLICT (key) DO UPDATE SET size = max(size, excluded.size), due = max(due, excluded.due)
"""
# What a listing names may be no text that SQLite could give back, hence the number.
UNUSED: Final = f"""
SELECT each.key FROM json_each(?) AS each WHERE NOT {_IN_USE.format(key="each.value")}
ORDER BY each.key
"""  # noqa: S608 - constants
# The range is that of the keys that begin with manifests/.
_DUE: Final = """
SELECT key, size FROM unreferenced WHERE {condition} (key >= 'manifests/' AND key < 'manifests0')
    AND (due <= ? OR due > ?) ORDER BY key LIMIT ?
"""
WAITING: Final = """
SELECT each.key FROM json_each(?) AS each WHERE each.value IN (SELECT key FROM unreferenced)
"""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def released(
    transaction: sqlite3.Connection,
    gone: Iterable[tuple[Any, ...]],
    doubted: Iterable[tuple[Any, ...]],
) -> list[tuple[str, int]]:
    """End the intervals in which no row remains; gives what they held and no doubted row did."""
    doubted_places = sorted((row[2], row[1]) for row in doubted)
    released: dict[str, int] = {}
    kept: set[str] = set()
    for timeline, after, before in _gaps(transaction, sorted((row[2], row[1]) for row in gone)):
        ended = transaction.execute(
            "DELETE FROM use WHERE timeline = ? AND first > ? AND first < ? AND last < ?"
            " RETURNING key, size, first, last",
            (timeline, after, before, before),
        )
        for key, size, first, last in ended.fetchall():
            at = bisect_left(doubted_places, (timeline, first))
            if at < len(doubted_places) and doubted_places[at] <= (timeline, last):
                kept.add(key)
            released[key] = size
    return [(key, size) for key, size in released.items() if key not in kept]


def _gaps(
    transaction: sqlite3.Connection, places: Iterable[tuple[int, int]]
) -> Iterator[tuple[int, int, int]]:
    """Around each of these ordered places the remaining seqs, each gap once; exclusive."""
    in_gap = (-1, -1)
    for timeline, seq in places:
        if (timeline, seq) < in_gap:
            continue
        ((after, before),) = transaction.execute(
            "SELECT ifnull((SELECT max(seq) FROM entry WHERE timeline = ?1 AND seq <= ?2), -1),"
            " ifnull((SELECT min(seq) FROM entry WHERE timeline = ?1 AND seq >= ?2), ?3)",
            (timeline, seq, 1 << 62),
        )
        if after < before:
            in_gap = (timeline, before)
            yield timeline, after, before


def rows_in(transaction: sqlite3.Connection, pages: Iterable[str]) -> dict[str, tuple[Any, ...]]:
    """By id, those in head itself and those in these pages."""
    sql = f"SELECT {COLUMNS} FROM entry WHERE page"  # noqa: S608 - a constant
    found = transaction.execute(f"{sql} IS NULL").fetchall()
    for page in pages:
        found += transaction.execute(f"{sql} = ?", (page,))
    return {row[0]: row for row in found}


def note_unreferenced(
    transaction: sqlite3.Connection, keys: Iterable[tuple[str, int]], *, due: datetime
) -> None:
    at = micros(due)
    transaction.executemany(_NOTE_UNREFERENCED, ((key, size, at) for key, size in keys))


def due(
    transaction: sqlite3.Connection, by: datetime, longest: timedelta, limit: int
) -> list[tuple[str, int]]:
    """What is due by then, or more than `longest` later, as (key, size): manifests first."""
    at = micros(by)
    far = at + longest // _MICROSECOND
    found: list[tuple[str, int]] = []
    for condition in ("", "NOT"):  # two scans in order of key, rather than a sort of everything
        found += transaction.execute(
            _DUE.format(condition=condition), (at, far, limit - len(found))
        )
    return found


def is_in_other_page(transaction: sqlite3.Connection, id: str, page: str | None) -> bool:
    found = transaction.execute(
        "SELECT 1 FROM entry WHERE id = ? AND page IS NOT NULL AND page IS NOT ?", (id, page)
    )
    return found.fetchone() is not None


def take_out(transaction: sqlite3.Connection, keys: Iterable[str]) -> None:
    transaction.executemany("DELETE FROM unreferenced WHERE key = ?", each(keys))


def require_read(transaction: sqlite3.Connection) -> None:
    if transaction.execute("SELECT 1 FROM entry WHERE NOT read LIMIT 1").fetchone():
        raise ValueError("some manifests have not been read")


def empty(transaction: sqlite3.Connection) -> None:
    for table in _TABLES:
        transaction.execute(f"DELETE FROM {table}")  # noqa: S608 - a constant


def recall(transaction: sqlite3.Connection, name: str) -> datetime | None:
    found = transaction.execute("SELECT at FROM fact WHERE name = ?", (name,)).fetchone()
    return found and instant(found[0])


def note(transaction: sqlite3.Connection, name: str, at: datetime | None) -> None:
    if at is None:
        transaction.execute("DELETE FROM fact WHERE name = ?", (name,))
    else:
        transaction.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, micros(at)))


def texts(transaction: sqlite3.Connection, sql: str) -> frozenset[str]:
    return frozenset(row[0] for row in transaction.execute(sql))


def each(keys: Iterable[str]) -> Iterator[tuple[str]]:
    return ((key,) for key in keys)


def manifest(id: str) -> str:
    return f"manifests/{id}.json.zst"


def micros(at: datetime) -> int:
    return (utc(at) - _EPOCH) // _MICROSECOND  # so that it is one that `instant` can give back


def instant(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)
