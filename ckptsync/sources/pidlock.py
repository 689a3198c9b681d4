"""The lock by which a Feldera engine owns its storage root: fcntl, on `feldera.pidlock`.

Asked and taken as an open-file-description lock. It conflicts with the engine's own kind, and is
not dropped when some other descriptor of this process on the same file is closed.
"""

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ckptsync.errors import EngineRunning
from ckptsync.sources.faults import explain, explained

PIDLOCK: Final = "feldera.pidlock"

_FLOCK: Final = struct.Struct("hhqqi0q")  # type, whence, start, length, pid


def locked(root: Path) -> bool | None:
    """Whether an engine owns the root; None if the lock may not be read. Creates nothing."""
    try:
        descriptor = os.open(root / PIDLOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except PermissionError:
        return None
    except OSError as error:
        raise explain(error, root / PIDLOCK, "opened") from error
    try:
        return _owner(descriptor) is not None
    finally:
        os.close(descriptor)


@contextmanager
def held(root: Path) -> Iterator[None]:
    """Own the root, so that no engine starts meanwhile. Raises EngineRunning at once."""
    path = root / PIDLOCK
    with explained(path, "opened"):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _take(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path) -> None:
    request = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, request)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise explain(error, path, "locked") from error
        owner = _owner(descriptor)
        who = f"process {owner}" if owner is not None and owner > 0 else "another process"
        raise EngineRunning(
            f"{path} is held by {who}: an engine is running in {path.parent}",
            hint="stop the pipeline first",
        ) from error


def _owner(descriptor: int) -> int | None:
    """The process that holds the lock, -1 if it cannot be named, None if nobody does."""
    question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    answer = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, question))
    return None if answer[0] == fcntl.F_UNLCK else int(answer[4])
