"""Descriptors seen before. They never change, so one read of each is enough."""

from typing import Final

from ckptsync.state.database import Database

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS descriptor (repository_id TEXT PRIMARY KEY, data BLOB NOT NULL) STRICT
"""


class DescriptorCache:
    def __init__(self, database: Database) -> None:
        self._database = database
        with database.transaction() as transaction:
            transaction.execute(SCHEMA)

    def get(self, repository_id: str) -> bytes | None:
        rows = self._database.query(
            "SELECT data FROM descriptor WHERE repository_id = ?", (repository_id,)
        )
        return bytes(rows[0][0]) if rows else None

    def put(self, repository_id: str, data: bytes) -> None:
        with self._database.transaction() as transaction:
            transaction.execute(
                "INSERT OR REPLACE INTO descriptor VALUES (?, ?)", (repository_id, data)
            )
