"""The local SQLite database, one for each pipeline and bucket."""

import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

from ckptsync.errors import (
    Busy,
    CkptsyncError,
    IntegrityError,
    LocalDiskFull,
    PermissionRefused,
    UnsupportedFormat,
)
from ckptsync.state.directories import give_to_owner_above, make_private, refusal

_VERSION: Final = 1
_BUSY_SECONDS: Final = 10.0
_IN_MEMORY: Final = Path(":memory:")  # SQLite's own name for it

_MOVE_ASIDE: Final = (
    "put it back from a backup; without it this node can pull, but only push to another prefix"
)


def state_path(state_dir: Path, pipeline: str, bucket: str) -> Path:
    """Where the database lies. `bucket` is the canonical spelling of the location."""
    digest = hashlib.sha256(bucket.encode()).hexdigest()
    return state_dir / pipeline / f"{digest[:16]}.sqlite"


class Database:
    """Safe to share between threads; other processes may have it open too.

    A committed transaction survives a power cut. Every call may raise Busy, IntegrityError,
    LocalDiskFull, PermissionRefused or, for a disk that fails, CkptsyncError.
    """

    def __init__(self, path: Path) -> None:
        """Open the database, creating it and its directories, private to this user.

        Raises UnsupportedFormat if a newer ckptsync wrote it.
        """
        self._path = path
        self._lock = threading.RLock()
        if path != _IN_MEMORY:
            _create_private(path)
        with self._translating():
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    @classmethod
    def in_memory(cls) -> Self:
        """An empty one that is gone once it is closed."""
        return cls(_IN_MEMORY)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit what the block did, or none of it if it raises.

        A transaction within one of the same thread is part of it.
        """
        with self._lock, self._translating():
            connection = self._connection
            if connection.in_transaction:
                yield connection
                return
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise

    def query(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Every row of a SELECT."""
        with self._lock, self._translating():
            return self._connection.execute(sql, params).fetchall()

    def require_sound(self) -> None:
        """Look at every page. Raises IntegrityError."""
        faults = [row[0] for row in self.query("PRAGMA quick_check(1)") if row[0] != "ok"]
        if faults:
            raise IntegrityError(f"{self._path} is damaged: {faults[0]}", hint=_MOVE_ASIDE)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _prepare(self) -> None:
        execute = self._connection.execute
        version: int = execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise UnsupportedFormat(
                f"{self._path} has format {version}, this ckptsync knows formats up to {_VERSION}",
                hint="install the version that wrote it, or a newer one",
            )
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")  # in WAL mode NORMAL can lose the last commits
        execute("PRAGMA foreign_keys = ON")
        if version == 0:
            execute(f"PRAGMA user_version = {_VERSION}")

    def _roll_back(self) -> None:
        if self._connection.in_transaction:  # SQLite has done it itself after a full disk
            self._connection.execute("ROLLBACK")

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", None)  # absent on misuse of the module
            translated = None if code is None else _explain(self._path, code & 0xFF, error)
            if translated is None:
                raise
            raise translated from error


def _explain(path: Path, code: int, error: sqlite3.Error) -> CkptsyncError | None:
    """What the primary result code means to the operator; None for a bug of ours."""
    match code:
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return IntegrityError(
                f"{path} is damaged or not a database of ckptsync: {error}", hint=_MOVE_ASIDE
            )
        case sqlite3.SQLITE_FULL:
            return LocalDiskFull(f"{path}: no space left on the disk", hint="free some space")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return PermissionRefused(
                f"cannot write {path}: {error}",
                hint="run ckptsync as the user who owns it, or set daemon.state_dir",
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return Busy(f"{path}: another process has kept it locked for {_BUSY_SECONDS:.0f} s")
        case sqlite3.SQLITE_IOERR:
            return CkptsyncError(f"cannot read or write {path}: {error}")
        case _:
            return None


def _create_private(path: Path) -> None:
    make_private(path.parent)
    try:
        # Never opened if it exists: closing it again would drop the locks that another
        # connection of this process holds on it.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        give_to_owner_above(path)  # of its journals SQLite sees to that itself
    except FileExistsError:
        return
    except OSError as error:
        raise refusal(f"cannot create {path}", error) from error
