"""The calls to the filesystem that make a change atomic and durable."""

import ctypes
import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from fcntl import ioctl
from pathlib import Path
from typing import Final

from ckptsync.errors import LocalDiskFull, SourceError
from ckptsync.model import Progress, ignore
from ckptsync.sources.faults import creating, explained

DIRECTORY: Final = 0o755
"""The mode of what an engine shall find, less the umask. No manifest holds modes of directories."""

CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_COPY_PIECE: Final = 8 << 20

_FICLONE: Final = 0x40049409
_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
_UNSUPPORTED: Final = frozenset(
    {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV, errno.ENOTTY, errno.EPERM}
)

_libc: Final = ctypes.CDLL(None, use_errno=True)


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a power cut."""
    _with_descriptor(path, os.fsync)


def sync_file(path: Path) -> None:
    """Make a file's content, mode and times survive a power cut."""
    _with_descriptor(path, os.fsync)


def sync_filesystem(path: Path) -> None:
    """Write out everything of the filesystem that holds path.

    One call where thousands of small files would each need their own fsync.
    """

    def sync(descriptor: int) -> None:
        if _libc.syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(path))

    _with_descriptor(path, sync)


def exchange(one: Path, other: Path) -> bool:
    """Swap two paths in one step; False, and nothing done, where the filesystem cannot."""
    if not hasattr(_libc, "renameat2"):
        return False
    names = os.fsencode(one), os.fsencode(other)
    if _libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(one))


def replace_file(target: Path, data: bytes, *, aside: Path, mode: int = 0o644) -> None:
    """Give target this content in one step, durably. `aside` is on the same filesystem."""
    write_file(aside, data, mode=mode)
    rename_over(aside, target)


def write_file(path: Path, data: bytes, *, mode: int) -> None:
    """A synced file; its name is synced with the directory. What was there is deleted first."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, CREATE, 0o600)
    try:
        write_all(descriptor, data, 0)
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename_over(aside: Path, target: Path) -> None:
    """Put a synced file in the place of target, in one step and durably."""
    aside.replace(target)
    sync_directory(target.parent)


def write_all(descriptor: int, data: bytes | memoryview, position: int) -> None:
    """Positioned write of all of data, from any thread."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, position)
        rest, position = rest[written:], position + written


def copy(source: int, target: int, *, progress: Progress = ignore) -> None:
    """Copy one open file into an empty one: shares its blocks where the filesystem can."""
    with suppress(OSError):  # another filesystem, or one that cannot share blocks
        ioctl(target, _FICLONE, source)
        return
    position = 0
    while moved := _copy_piece(source, target, position):
        position += moved
        progress(moved)
    if position != os.fstat(source).st_size:  # some network filesystems end a copy early
        raise OSError(errno.EIO, f"the copy ended after {position:,} bytes")


def copy_file(
    source: Path, target: Path, *, durable: bool = True, progress: Progress = ignore
) -> None:
    """A copy at a path that does not exist. Its name is the caller's to sync."""
    from_descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        to_descriptor = os.open(target, CREATE, 0o600)
        try:
            copy(from_descriptor, to_descriptor, progress=progress)
            if durable:
                os.fsync(to_descriptor)
        finally:
            os.close(to_descriptor)
    finally:
        os.close(from_descriptor)


def make_private(path: Path) -> bool:
    """Make a directory that is this user's alone, or make sure that it is one; True if made.

    Whoever else could write there could exchange a file after it was verified, or lead us
    elsewhere by a link. Never makes a parent. Raises SourceError, PermissionRefused, LocalDiskFull.
    """
    with creating(path):
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            _require_private(path)
            return False
    return True


def require_same_filesystem(work: Path, root: Path) -> None:
    """Raises SourceError if a rename from one into the other is, or will be, impossible.

    What is still to be made counts as being where its parent is; that must be there.
    """
    if _device(work) != _device(root):
        raise SourceError(
            f"{work} is on another filesystem than the storage root {root}, so a checkpoint "
            "cannot be put in place in one step",
            hint="set work_path to a directory on the filesystem of storage_path",
        )


def require_space(path: Path, needed: int) -> None:
    """Raises LocalDiskFull unless `needed` bytes fit on the filesystem that holds path."""
    with explained(path, "examined"):
        facts = os.statvfs(path)
    free = facts.f_bavail * facts.f_frsize
    if free < needed:
        raise LocalDiskFull(
            f"the filesystem of {path} has {free:,} bytes free, {needed:,} are needed",
            hint="free some space, or set work_path and storage_path to a larger filesystem",
        )


def _device(path: Path) -> int:
    with creating(path):
        return (path if path.exists() else path.parent).stat().st_dev


def _require_private(path: Path) -> None:
    facts = path.lstat()
    if not stat.S_ISDIR(facts.st_mode):
        raise SourceError(f"{path} is not a directory", hint="move it away")
    if facts.st_uid != os.geteuid() or facts.st_mode & 0o022:
        raise SourceError(
            f"{path} can be written by others than this user",
            hint="move it away, or give it to this user with mode 0700",
        )


def _copy_piece(source: int, target: int, position: int) -> int:
    try:
        return os.copy_file_range(source, target, _COPY_PIECE, position, position)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    piece = os.pread(source, 1 << 20, position)
    write_all(target, piece, position)
    return len(piece)


def _with_descriptor(path: Path, call: Callable[[int], None]) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        call(descriptor)
    finally:
        os.close(descriptor)
