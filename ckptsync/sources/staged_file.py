"""A file that is being downloaded into the staging area."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ckptsync.errors import LocalDiskFull
from ckptsync.model import File
from ckptsync.sources import disk
from ckptsync.sources.faults import creating, explain, explained

LARGE: Final = 1 << 20
"""From here on a file reserves its space at once and is synced by itself."""


class StagedFile:
    """Deleted at the end of its `with` block unless it was committed."""

    def __init__(
        self, file: File, part: Path, target: Path, on_commit: Callable[[File], None]
    ) -> None:
        """Create `part`, which `commit` renames to `target`. Raises LocalDiskFull."""
        self._file = file
        self._part = part
        self._target = target
        self._on_commit = on_commit
        with creating(part):
            self._descriptor = os.open(part, disk.CREATE, 0o600)
        self._open = True
        try:
            self._reserve()
        except BaseException:
            self._abandon()
            raise

    @property
    def path(self) -> Path:
        """Where it lies until it is committed."""
        return self._part

    def write_at(self, offset: int, data: memoryview) -> None:
        """From any thread. Raises LocalDiskFull."""
        with explained(self._part, "written"):
            disk.write_all(self._descriptor, data, offset)

    def commit(self) -> None:
        """Say that the content is complete and was verified; sets mode and time."""
        with explained(self._part, "committed"):
            os.fchmod(self._descriptor, self._file.mode & 0o777)
            os.utime(self._descriptor, ns=(self._file.mtime_ns, self._file.mtime_ns))
            if self._file.size >= LARGE:
                os.fsync(self._descriptor)
            self._open = False
            os.close(self._descriptor)
            self._part.rename(self._target)
        self._on_commit(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._open:
            self._abandon()

    def _reserve(self) -> None:
        if self._file.size < LARGE:
            return
        try:
            os.posix_fallocate(self._descriptor, 0, self._file.size)
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):
                return  # not on this filesystem: a write will tell
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise LocalDiskFull(
                    f"the filesystem of {self._part.parent} has no room for {self._file.path} "
                    f"({self._file.size:,} bytes): {error.strerror}",
                    hint="free some space, or set work_path and storage_path to a larger one",
                ) from error
            doing = f"given the {self._file.size:,} bytes of {self._file.path}"
            raise explain(error, self._part, doing) from error

    def _abandon(self) -> None:
        self._open = False
        os.close(self._descriptor)
        with explained(self._part, "deleted"):
            self._part.unlink(missing_ok=True)
