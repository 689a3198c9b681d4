"""What was read of local files, so that unchanged gigabytes are not read again.

Deleting the table costs time, never data.
"""

import time
from collections.abc import Callable, Collection, Mapping
from typing import Final

from ckptsync.hashing import DIGEST_SIZE, Digest, Hash
from ckptsync.state.database import Database

UNUSED_DAYS: Final = 30

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS stat_cache (
    file       BLOB NOT NULL,     -- device and inode
    hash       TEXT NOT NULL,
    chunk_size INTEGER NOT NULL,
    facts      BLOB NOT NULL,     -- size and times
    chunks     BLOB NOT NULL,     -- the digests of the chunks, one after the other
    used       INTEGER NOT NULL,  -- a day since 1970
    PRIMARY KEY (file, hash, chunk_size)
) WITHOUT ROWID
"""

_FILE_SIZE: Final = 16
_SECONDS_A_DAY: Final = 86_400


class StatCache:
    """From the stat key of a file to the digests of its chunks, one entry a device and inode."""

    def __init__(self, database: Database, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._now = now
        with database.transaction() as connection:
            connection.execute(SCHEMA)
            connection.execute(
                "DELETE FROM stat_cache WHERE used < ?", (self._today() - UNUSED_DAYS,)
            )

    def find(
        self, key: bytes, hash: Hash, chunk_size: int
    ) -> tuple[tuple[Digest, ...], bool] | None:
        """The chunks of the file with exactly this stat key, and whether it was used today."""
        rows = self._database.query(
            "SELECT facts, chunks, used FROM stat_cache"
            " WHERE file = ? AND hash = ? AND chunk_size = ?",
            (key[:_FILE_SIZE], hash, chunk_size),
        )
        if not rows or rows[0][0] != key[_FILE_SIZE:]:
            return None
        return _unpack(rows[0][1]), rows[0][2] == self._today()

    def store(
        self, entries: Mapping[bytes, Collection[Digest]], hash: Hash, chunk_size: int
    ) -> None:
        """Remember these, in one transaction; an older entry of the same file is replaced."""
        today = self._today()
        with self._database.transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO stat_cache VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (key[:_FILE_SIZE], hash, chunk_size, key[_FILE_SIZE:], b"".join(chunks), today)
                    for key, chunks in entries.items()
                ),
            )

    def touch(self, keys: Collection[bytes], hash: Hash, chunk_size: int) -> None:
        """Say that these were used today."""
        today = self._today()
        with self._database.transaction() as connection:
            connection.executemany(
                "UPDATE stat_cache SET used = ? WHERE file = ? AND hash = ? AND chunk_size = ?",
                ((today, key[:_FILE_SIZE], hash, chunk_size) for key in keys),
            )

    def clear(self) -> None:
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM stat_cache")

    def _today(self) -> int:
        return int(self._now()) // _SECONDS_A_DAY


def _unpack(chunks: bytes) -> tuple[Digest, ...]:
    return tuple(Digest(chunks[at : at + DIGEST_SIZE]) for at in range(0, len(chunks), DIGEST_SIZE))
