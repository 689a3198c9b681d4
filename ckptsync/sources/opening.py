"""Opening every file of a checkpoint, as many as the limit of open files admits."""

import errno
import os
import resource
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from ckptsync.errors import SourceError
from ckptsync.sources.faults import explain
from ckptsync.sources.rows import UNHELD, Row, Rows

RESERVE: Final = 256  # descriptors left for sockets, the database and the log
MAX_PATH: Final = 4096  # bytes; no manifest takes a longer one

READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO must not block
LIST: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC

_SPECIAL: Final = "a special file"
_LINK: Final = "a symbolic link"


class Opening:
    """Fills `rows` with open files; whoever made it closes them, also after an error."""

    def __init__(self, root: Path, descriptor: int) -> None:
        """`descriptor` is that of root, to which all paths are relative."""
        self.rows = Rows()
        self.empty: list[str] = []
        """Directories without an entry."""
        self._root = root
        self._descriptor = descriptor
        self._spare = _spare_descriptors()

    def tree(self, path: str, skip: Callable[[str], bool]) -> None:
        """All that is in a directory, but for the names to skip. Raises Vanished, SourceError."""
        _require_storable(self._root, path)
        pending = [path]
        while pending:
            directory = pending.pop()
            descriptor = self._open(directory, LIST, self._descriptor, directory)
            try:
                self._entries(directory, descriptor, skip, pending)
            finally:
                os.close(descriptor)

    def loose(self, paths: Iterable[str]) -> None:
        """Files that other checkpoints may hold too. Raises Vanished, SourceError."""
        for path in paths:
            self._file(path, path, self._descriptor, loose=True)

    def _entries(
        self, directory: str, descriptor: int, skip: Callable[[str], bool], pending: list[str]
    ) -> None:
        empty = True
        with os.scandir(descriptor) as entries:
            for entry in entries:
                if skip(entry.name):
                    continue
                empty = False
                path = f"{directory}/{entry.name}"
                if entry.is_file(follow_symlinks=False):
                    self._file(path, entry.name, descriptor, loose=False)
                elif entry.is_dir(follow_symlinks=False):
                    _require_storable(self._root, path)
                    pending.append(path)
                else:
                    raise self._irregular(path, _LINK if entry.is_symlink() else _SPECIAL)
        if empty:
            self.empty.append(directory)

    def _file(self, path: str, name: str, directory: int, *, loose: bool) -> None:
        _require_storable(self._root, path)
        descriptor = self._open(name, READ, directory, path)
        held = UNHELD
        try:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise self._irregular(path, "not a regular file")
            if self._spare > 0:
                self._spare -= 1
                held = descriptor
            self.rows.append(path, Row.of(held, facts, loose=loose))
        finally:
            if held == UNHELD:
                os.close(descriptor)

    def _open(self, name: str, flags: int, directory: int, path: str) -> int:
        try:
            return os.open(name, flags, dir_fd=directory)
        except OSError as error:
            if error.errno == errno.ENXIO:
                raise self._irregular(path, _SPECIAL) from error
            if error.errno in (errno.ELOOP, errno.ENOTDIR) and (self._root / path).is_symlink():
                raise self._irregular(path, _LINK) from error
            raise explain(error, self._root / path, "opened") from error

    def _irregular(self, path: str, kind: str) -> SourceError:
        return SourceError(
            f"{self._root / path} is {kind}",
            hint="move it out of the checkpoint: only regular files and directories can be pushed",
        )


def _spare_descriptors() -> int:
    """How many files may be held open, after raising the soft limit to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):  # refused in some sandboxes: the soft limit stays
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    in_use = sum(1 for _ in Path("/proc/self/fd").iterdir())
    return max(0, limit - in_use - RESERVE)


def _require_storable(root: Path, path: str) -> None:
    if path.isascii() and "\\" not in path and len(path) <= MAX_PATH:
        return
    try:
        length = len(path.encode())
    except UnicodeEncodeError as error:
        shown = os.fsencode(path).decode(errors="backslashreplace")
        raise SourceError(
            f"{root}/{shown} has a name that is not UTF-8, so no manifest can hold it",
            hint="rename the file",
        ) from error
    if "\\" in path or length > MAX_PATH:
        raise SourceError(
            f"{root / path} has a name with a backslash or of more than {MAX_PATH} bytes, "
            "so no manifest can hold it",
            hint="rename the file",
        )
