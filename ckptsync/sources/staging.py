"""Where a checkpoint is put together before it is published.

In the work directory, beside the storage root: `files/<xx>/<digest>` is a complete, verified file,
`….part` one that is being written. A crash leaves files that the next run verifies and uses.
"""

import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import Final

from ckptsync.errors import SourceError
from ckptsync.hashing import Digest
from ckptsync.model import Engine, File, Progress, ignore
from ckptsync.sources import disk
from ckptsync.sources.digests import Digests
from ckptsync.sources.faults import creating, explain, explained
from ckptsync.sources.opening import READ
from ckptsync.sources.staged_file import StagedFile

FILES: Final = "files"
ASSEMBLING: Final = "assembling"

_PART: Final = ".part"
_COPY: Final = ".copy"


def nothing() -> None:
    """For whoever need not know when publishing begins."""


class Staging:
    """A Staged that is still being filled. Reserve a work directory for each storage root."""

    def __init__(
        self,
        work: Path,
        root: Path,
        digests: Digests,
        *,
        engine: Engine,
        files: Callable[[], Iterator[File]],
        directories: Sequence[str] = (),
        on_begin: Callable[[], None] = nothing,
    ) -> None:
        """`files` gives every file of the checkpoint, as often as it is called.

        Creates the work directory. Raises SourceError if it is not on the filesystem of the
        root, not this user's alone, or if what should hold them is not there.
        """
        self._work = work
        self._root = root
        self._digests = digests
        self._engine = engine
        self._list = files
        self._directories = directories
        self._complete: set[Digest] = set()
        self._seen: dict[Path, tuple[object, ...]] = {}  # what a file was like when it was read
        self._on_begin = on_begin
        self._copies_due = _repeated(files())
        self._settled = True
        # A missing root is made when the checkpoint is published, its parent never is: that may be
        # the mount point of a disk that is not mounted.
        disk.require_same_filesystem(work, root)
        self._made = disk.make_private(work)
        disk.make_private(work / FILES)
        with explained(work, "examined"):
            if (work / ASSEMBLING).is_symlink():
                raise SourceError(f"{work / ASSEMBLING} is a symbolic link; move it away")

    @property
    def engine(self) -> Engine:
        return self._engine

    @property
    def work(self) -> Path:
        return self._work

    @property
    def directories(self) -> Sequence[str]:
        return self._directories

    def files(self) -> Iterator[File]:
        return self._list()

    def begin(self) -> None:
        self._on_begin()
        with creating(self._root):
            self._root.mkdir(mode=disk.DIRECTORY, exist_ok=True)

    def recover(self, *, progress: Progress = ignore) -> None:
        """Verify, by reading, what a run that was interrupted left, and delete the rest."""
        wanted = {file.digest for file in self._list()}
        with explained(self._work, "recovered"):
            for path in _files_under(self._work / FILES):
                if path.suffix:  # a part or a copy
                    path.unlink()
                else:
                    self._recover(path, wanted, progress)
            for path in _files_under(self._work / ASSEMBLING):
                self._recover(path, wanted, progress)
            _remove(self._work / ASSEMBLING)
        self._settled = False

    def has(self, file: File) -> bool:
        """Whether the file's bytes are here: staged, or right where they belong in the root."""
        return file.digest in self._complete or self.holds(file, self._root / file.path)

    def read(self, file: File) -> bytes:
        path = self._found(file)
        with explained(path, "read"):
            return path.read_bytes()

    def holds(self, file: File, at: Path) -> bool:
        try:
            facts = at.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise explain(error, at, "examined") from error
        if not stat.S_ISREG(facts.st_mode) or facts.st_size != file.size:
            return False
        seen = (facts.st_dev, facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns, file.digest)
        if self._seen.get(at) != seen:
            if self._digests.of_path(at).digest != file.digest:
                return False
            self._seen[at] = seen
        return True

    def create(self, file: File) -> StagedFile:
        """Begin to write a file, not twice at once for one digest. Raises LocalDiskFull.

        It counts as staged from its `commit` on.
        """
        target = self._path(file.digest)
        with creating(target):
            target.parent.mkdir(mode=0o700, exist_ok=True)
        return StagedFile(file, target.with_suffix(_PART), target, self._committed)

    def place(self, file: File, at: Path) -> None:
        with explained(at, "put in place"):
            if not self._settled:
                disk.sync_filesystem(self._work)
                self._settled = True
            source = self._source(file)
            _dress(source, file)
            source.rename(at)
        due = self._copies_due.get(file.digest, 1)
        if due > 1:
            self._copies_due[file.digest] = due - 1
        else:
            self._complete.discard(file.digest)

    def discard(self) -> None:
        """Delete everything staged; what is in quarantine stays.

        The work directory goes too, if it was made for this and holds nothing any more.
        """
        self._complete.clear()
        with explained(self._work, "emptied"):
            _remove(self._work / ASSEMBLING)
            _remove(self._work / FILES)
            if self._made and not any(self._work.iterdir()):
                self._work.rmdir()

    def _recover(self, path: Path, wanted: Set[Digest], progress: Progress) -> None:
        digest = self._digests.of_path(path, progress=progress).digest
        target = self._path(digest)
        if digest not in wanted or digest in self._complete:
            path.unlink()
            return
        if path != target:
            target.parent.mkdir(mode=0o700, exist_ok=True)
            path.rename(target)
        self._complete.add(digest)

    def _committed(self, file: File) -> None:
        self._settled = False
        self._complete.add(file.digest)

    def _source(self, file: File) -> Path:
        """A file in the staging area that may be renamed away, synced to disk."""
        found, staged = self._found(file), self._path(file.digest)
        if found == staged and self._copies_due.get(file.digest, 1) == 1:
            return staged
        copy = staged.with_suffix(_COPY)
        copy.parent.mkdir(mode=0o700, exist_ok=True)
        copy.unlink(missing_ok=True)
        disk.copy_file(found, copy)
        return copy

    def _found(self, file: File) -> Path:
        """Where its bytes are: staged, or right where they belong in the root."""
        if file.digest in self._complete:
            return self._path(file.digest)
        path = self._root / file.path
        if not self.holds(file, path):
            raise SourceError(
                f"{file.path} is neither staged in {self._work} nor in {self._root}",
                hint="pull again",
            )
        return path

    def _path(self, digest: Digest) -> Path:
        name = digest.hex()
        return self._work / FILES / name[:2] / name


def _repeated(files: Iterable[File]) -> dict[Digest, int]:
    """How often each digest occurs that occurs more than once."""
    seen: set[Digest] = set()
    repeated: dict[Digest, int] = {}
    for file in files:
        if file.digest in seen:
            repeated[file.digest] = repeated.get(file.digest, 1) + 1
        seen.add(file.digest)
    return repeated


def _dress(path: Path, file: File) -> None:
    """Give the file its mode and time, durably, if it does not have them yet."""
    mode, facts = file.mode & 0o777, path.lstat()
    if (stat.S_IMODE(facts.st_mode), facts.st_mtime_ns) == (mode, file.mtime_ns):
        return
    descriptor = os.open(path, READ)
    try:
        os.fchmod(descriptor, mode)
        os.utime(descriptor, ns=(file.mtime_ns, file.mtime_ns))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _files_under(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_symlink() or not path.is_dir()]


def _remove(directory: Path) -> None:
    if directory.exists():
        shutil.rmtree(directory)
