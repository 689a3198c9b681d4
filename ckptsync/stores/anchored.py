"""Files below a directory that is held open, reached without following a symbolic link."""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO blocks nobody
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def held(descriptor: int) -> Iterator[int]:
    """Close a descriptor at the end."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_root(root: Path) -> int:
    """The root may be a symbolic link: that is the operator's choice."""
    return os.open(root, _DIRECTORY)


def open_below(root: int, parts: Iterable[str]) -> int:
    """Open a directory."""
    current = os.dup(root)
    for part in parts:
        current = _descend(current, part)
    return current


def make_below(root: int, parts: Iterable[str], lasting: set[str]) -> int:
    """Open a directory, making what is missing of it; all of it is on the disk afterwards.

    `lasting` remembers what was already synced. Directories that another process made count
    as not synced yet, for it may not have come to that.
    """
    current, path = os.dup(root), ""
    for part in parts:
        path = f"{path}{part}/"
        try:
            try:
                os.mkdir(part, dir_fd=current)
            except FileExistsError:
                known = path in lasting
            else:
                known = False
            if not known:
                os.fsync(current)
        except BaseException:
            os.close(current)
            raise
        lasting.add(path)
        current = _descend(current, part)
    return current


def open_file(directory: int, name: str) -> int:
    """Open a regular file for reading; anything else that has the name is an OSError."""
    descriptor = os.open(name, _READ, dir_fd=directory)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
    raise OSError(code, "it is not a regular file")


def read_all(file: int, size: int) -> bytes:
    """The first `size` bytes. Raises OSError if the file has fewer."""
    data = bytearray(size)
    fill(file, 0, memoryview(data))
    return bytes(data)


def fill(file: int, start: int, into: memoryview) -> None:
    """Read from `start` on until `into` is full. Raises OSError if the file ends before."""
    while into:
        count = os.preadv(file, [into], start)
        if not count:
            raise OSError(errno.EIO, f"the file was cut off at byte {start}")
        start, into = start + count, into[count:]


def write_new(directory: int, name: str, body: bytes | bytearray | memoryview) -> None:
    """Write a file that does not exist and sync it; its name is synced with the directory."""
    with held(os.open(name, _CREATE, 0o666, dir_fd=directory)) as file:
        rest = memoryview(body)
        while rest:
            rest = rest[os.write(file, rest) :]
        os.fsync(file)


def _descend(current: int, part: str) -> int:
    with held(current):
        try:
            return os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=current)
        except NotADirectoryError:
            # Linux says the same of a symbolic link: what lies beyond it is not absent, but unseen.
            if stat.S_ISLNK(os.stat(part, dir_fd=current, follow_symlinks=False).st_mode):
                raise OSError(errno.ELOOP, f"'{part}' is a symbolic link") from None
            raise
