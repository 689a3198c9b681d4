"""The lock of a pipeline on this host: whoever holds it may write to the bucket as this node."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from ckptsync.errors import Busy, CkptsyncError
from ckptsync.state.directories import give_to_owner_above, make_private, refusal


def lock_path(state_dir: Path, pipeline: str) -> Path:
    return state_dir / f"{pipeline}.lock"


class PipelineLock:
    """Held within the `with` block; the kernel drops it when the process ends, however it ends.

    Entering raises Busy at once if another process holds it, or this one a second time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def __enter__(self) -> None:
        make_private(self._path.parent)
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            give_to_owner_above(self._path)
        except OSError as error:
            raise refusal(f"cannot open the lock {self._path}", error) from error
        try:
            self._acquire(descriptor)
            with suppress(OSError):  # on a full disk the next one is told of an unknown process
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # The file stays: if it were deleted, two processes could lock two files of this name.
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _acquire(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            raise Busy(
                f"process {holder or 'unknown'} is already at work on this pipeline, and holds "
                f"{self._path}",
                hint="wait until it has finished, then run the command again",
            ) from None
        except OSError as error:
            raise CkptsyncError(
                f"cannot lock {self._path}: {error.strerror}",
                hint="set daemon.state_dir to a directory on a local disk",
            ) from error
