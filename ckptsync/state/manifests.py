"""The newest manifests, so that a push need not fetch that of its parent again."""

from typing import Final

from ckptsync.state.database import Database

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS manifest (
    number INTEGER PRIMARY KEY AUTOINCREMENT, digest BLOB NOT NULL UNIQUE, data BLOB NOT NULL
) STRICT
"""

_KEPT: Final = 4


class ManifestCache:
    """Manifests by the digest of their stored bytes, which the caller checks after reading."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.transaction() as transaction:
            transaction.execute(SCHEMA)

    def get(self, digest: bytes) -> bytes | None:
        rows = self._database.query("SELECT data FROM manifest WHERE digest = ?", (digest,))
        return rows[0][0] if rows else None

    def put(self, digest: bytes, data: bytes) -> None:
        """Keep it, in place of the one that was put longest ago."""
        with self._database.transaction() as transaction:
            transaction.execute(
                "INSERT OR REPLACE INTO manifest (digest, data) VALUES (?, ?)", (digest, data)
            )
            transaction.execute(
                "DELETE FROM manifest WHERE number NOT IN"
                " (SELECT number FROM manifest ORDER BY number DESC LIMIT ?)",
                (_KEPT,),
            )

    def clear(self) -> None:
        with self._database.transaction() as transaction:
            transaction.execute("DELETE FROM manifest")
