"""One checkpoint that is put together before it is published."""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ckptsync.errors import SourceError
from ckptsync.hashing import Digest
from ckptsync.model import Engine, File, Progress, ignore
from ckptsync.sources import disk
from ckptsync.sources.faults import creating, explained
from ckptsync.sources.opening import READ
from ckptsync.sources.staged_file import StagedFile
from ckptsync.sources.staged_files import StagedFiles


def nothing() -> None:
    """For whoever need not know when publishing begins."""


class Staging:
    """A Staged that is still being filled. What it needs may be staged, or right in the root."""

    def __init__(
        self,
        staged: StagedFiles,
        *,
        engine: Engine,
        files: Callable[[], Iterator[File]],
        directories: Sequence[str] = (),
        on_begin: Callable[[], None] = nothing,
    ) -> None:
        """`files` gives every file of the checkpoint, as often as it is called."""
        self._staged = staged
        self._engine = engine
        self._list = files
        self._directories = directories
        self._on_begin = on_begin
        self._due: dict[Digest, int] = {}
        """How often each content is still to be placed that is to be placed more than once."""
        self.copied_bytes = 0
        """What the further copies take of contents that occur more than once."""
        self._count(files())
        self._settled = False

    @property
    def engine(self) -> Engine:
        return self._engine

    @property
    def work(self) -> Path:
        return self._staged.work

    @property
    def directories(self) -> Sequence[str]:
        return self._directories

    def files(self) -> Iterator[File]:
        return self._list()

    def begin(self) -> None:
        self._on_begin()
        with creating(self._staged.root):
            self._staged.root.mkdir(mode=disk.DIRECTORY, exist_ok=True)

    def has(self, file: File) -> bool:
        """Whether the file's bytes are here: staged, or right where they belong in the root."""
        return file.digest in self._staged or self.holds(file, self._home_of(file))

    def has_staged(self, file: File) -> bool:
        """Whether the file's bytes are staged, so that the root does not matter."""
        return file.digest in self._staged

    def read(self, file: File) -> bytes:
        path = self._found(file)
        with explained(path, "read"):
            return path.read_bytes()

    def holds(self, file: File, at: Path) -> bool:
        return self._staged.holds(file, at)

    def create(self, file: File) -> StagedFile:
        """As `StagedFiles.create`."""
        self._settled = False
        return self._staged.create(file)

    def adopt(self, *, progress: Progress = ignore) -> None:
        """Stage copies of what lies right where it belongs in the root."""
        self._settled = False
        root = self._staged.root
        with explained(root, "listed"):
            there = {path.name for path in root.iterdir()} if root.is_dir() else set[str]()
        for file in self._list():
            if file.digest not in self._staged and file.path.partition("/")[0] in there:
                self._staged.adopt(file, self._home_of(file), progress=progress)

    def settle(self) -> None:
        """Leave nothing to `place` but renames: make the copies, set modes and times, sync."""
        due = dict(self._due)
        for file in self._list():
            if file.digest not in self._staged:
                continue
            left = due.get(file.digest, 1)
            with explained(self.work, "settled"):
                _dress(self._staged.instance(file.digest, left - 1), file)
            if left > 1:
                due[file.digest] = left - 1
        self._staged.sync()
        self._settled = True

    def place(self, file: File, at: Path) -> None:
        if not self._settled:
            self.settle()
        due = self._due.get(file.digest, 1)
        with explained(at, "put in place"):
            if file.digest in self._staged:
                source = self._staged.instance(file.digest, due - 1)
            else:
                source = self._staged.copy_of(self._found(file), file.digest)
            if _dress(source, file):
                disk.sync_file(source)
            source.rename(at)
        if due > 1:
            self._due[file.digest] = due - 1
        else:
            self._staged.gone(file.digest)

    def _count(self, files: Iterator[File]) -> None:
        seen: set[Digest] = set()
        for file in files:
            if file.digest in seen:
                self._due[file.digest] = self._due.get(file.digest, 1) + 1
                self.copied_bytes += file.size
            seen.add(file.digest)

    def _found(self, file: File) -> Path:
        """Where its bytes are: staged, or right where they belong in the root."""
        if file.digest in self._staged:
            return self._staged.instance(file.digest, 0)
        path = self._home_of(file)
        if not self.holds(file, path):
            raise SourceError(
                f"{file.path} is neither staged in {self.work} nor in {self._staged.root}",
                hint="pull again",
            )
        return path

    def _home_of(self, file: File) -> Path:
        return self._staged.root / file.path


def _dress(path: Path, file: File) -> bool:
    """Give the file its mode and time; False if it had them already."""
    mode, facts = file.mode & 0o777, path.lstat()
    if (stat.S_IMODE(facts.st_mode), facts.st_mtime_ns) == (mode, file.mtime_ns):
        return False
    descriptor = os.open(path, READ)
    try:
        os.fchmod(descriptor, mode)
        os.utime(descriptor, ns=(file.mtime_ns, file.mtime_ns))
    finally:
        os.close(descriptor)
    return True
