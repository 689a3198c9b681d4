"""The upload journal: objects a push has stored that no committed checkpoint refers to yet.

A push that failed or was killed uploads nothing twice: the next one finds here what is in the
bucket already. Losing the journal costs uploads, never data.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ckptsync.state.database import Database

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS upload (
    key TEXT PRIMARY KEY, repository_id TEXT NOT NULL, generation INTEGER NOT NULL,
    size INTEGER NOT NULL, digest BLOB NOT NULL, codec TEXT NOT NULL, frames TEXT NOT NULL
) STRICT
"""
CONTENT_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS upload_content (
    key TEXT NOT NULL REFERENCES upload ON DELETE CASCADE, digest BLOB NOT NULL,
    frame INTEGER NOT NULL, start INTEGER NOT NULL, PRIMARY KEY (key, digest)
) STRICT, WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One stored object, as its manifest row will say, and what it holds."""

    key: str
    generation: int
    """The sweep generation that was read before the upload began."""
    size: int
    digest: bytes
    codec: str
    frames: tuple[tuple[int, int], ...]
    """(stored, raw) lengths of a pack's frames; empty for a chunk."""
    contents: tuple[tuple[bytes, int, int], ...]
    """(content digest, frame, offset in the frame) of everything in it."""


class UploadJournal:
    """Rows of one repository. Safe to share between threads."""

    def __init__(self, database: Database, repository_id: str) -> None:
        self._database = database
        self._repository_id = repository_id
        with database.transaction() as transaction:
            transaction.execute(SCHEMA)
            transaction.execute(CONTENT_SCHEMA)

    def add(self, upload: Upload) -> None:
        """Call only after the store has answered that it holds the object."""
        with self._database.transaction() as transaction:
            transaction.execute(
                "INSERT INTO upload VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    upload.key,
                    self._repository_id,
                    upload.generation,
                    upload.size,
                    upload.digest,
                    upload.codec,
                    json.dumps(upload.frames),
                ),
            )
            transaction.executemany(
                "INSERT INTO upload_content VALUES (?, ?, ?, ?)",
                ((upload.key, *content) for content in upload.contents),
            )

    def uploads(self) -> Iterator[Upload]:
        rows = self._database.query(
            "SELECT key, generation, size, digest, codec, frames FROM upload"
            " WHERE repository_id = ? ORDER BY rowid",
            (self._repository_id,),
        )
        for key, generation, size, digest, codec, frames in rows:
            contents = self._database.query(
                "SELECT digest, frame, start FROM upload_content WHERE key = ?", (key,)
            )
            yield Upload(
                key=key,
                generation=generation,
                size=size,
                digest=digest,
                codec=codec,
                frames=tuple((stored, raw) for stored, raw in json.loads(frames)),
                contents=tuple((content, frame, start) for content, frame, start in contents),
            )

    def sizes(self) -> Mapping[str, int]:
        """By the keys of the objects, in bytes as stored."""
        rows = self._database.query(
            "SELECT key, size FROM upload WHERE repository_id = ?", (self._repository_id,)
        )
        return dict(rows)

    def drop(self, keys: Iterable[str]) -> None:
        """Forget objects that a sweep may be deleting."""
        with self._database.transaction() as transaction:
            transaction.executemany("DELETE FROM upload WHERE key = ?", ((key,) for key in keys))

    def clear(self) -> None:
        """Forget every row, of other repositories too: a commit has made them needless."""
        with self._database.transaction() as transaction:
            transaction.execute("DELETE FROM upload")
