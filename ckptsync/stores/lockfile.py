"""One writer at a time among threads, processes and, where the file system locks, hosts."""

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

from ckptsync.stores.anchored import held

_OPEN: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_POLL: Final = 0.005  # seconds


class LockHeld(Exception):
    """Another holder did not let go in time."""


class LockFile:
    """A lock on a file of this name, made where it is missing.

    A holder that is stopped keeps its lock for as long as it is: hence `patience`.
    """

    def __init__(self, name: str, *, patience: timedelta) -> None:
        self._name = name
        self._patience = patience.total_seconds()
        self._threads = threading.Lock()

    @contextmanager
    def hold(self, directory: int) -> Iterator[None]:
        """Raises LockHeld."""
        deadline = time.monotonic() + self._patience
        if not self._threads.acquire(timeout=self._patience):
            raise LockHeld
        try:
            with held(self._lock(directory, deadline)):
                yield
        finally:
            self._threads.release()

    def _lock(self, directory: int, deadline: float) -> int:
        while True:
            file = os.open(self._name, _OPEN, 0o666, dir_fd=directory)
            try:
                _wait_for(file, deadline)
                if _is_at(self._name, directory, file):
                    return file
            except BaseException:
                os.close(file)
                raise
            # Someone removed the "stale" lock file: the lock we hold excludes nobody.
            os.close(file)


def _wait_for(file: int, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise LockHeld from None
            time.sleep(_POLL)  # flock itself knows no time-out
        else:
            return


def _is_at(name: str, directory: int, file: int) -> bool:
    try:
        there = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(file))
