"""Files that were fetched and verified, until a checkpoint that needs them is published.

In the work directory, beside the storage root: `files/<xx>/<digest>` is a complete file, `….1` a
further copy of it, `….part` or `….copy` one that is being written. A crash leaves what `recover`
verifies and uses.
"""

import os
import shutil
import stat
from collections.abc import Set
from pathlib import Path
from typing import Final

from ckptsync.errors import SourceError, Vanished
from ckptsync.hashing import Digest
from ckptsync.model import File, Progress, ignore
from ckptsync.sources import disk
from ckptsync.sources.digests import Digests
from ckptsync.sources.faults import creating, explain, explained
from ckptsync.sources.staged_file import StagedFile

FILES: Final = "files"
ASSEMBLING: Final = "assembling"

_PART: Final = ".part"
_COPY: Final = ".copy"
_UNFINISHED: Final = frozenset({_PART, _COPY})


class StagedFiles:
    """Each content once, whatever the checkpoints it belongs to. One for a work directory."""

    def __init__(self, work: Path, root: Path, digests: Digests) -> None:
        """Reserve a work directory for each storage root. Creates it.

        What lies there already does not count before `recover`. Raises SourceError if it is not
        on the filesystem of the root, not this user's alone, or if what should hold them is not
        there.
        """
        self.work: Final = work
        self.root: Final = root
        self._digests = digests
        self._home = str(work / FILES)
        self._complete: set[Digest] = set()
        self._seen: dict[Path, tuple[object, ...]] = {}  # what a file was like when it was read
        # A missing root is made when the checkpoint is published, its parent never is: that may be
        # the mount point of a disk that is not mounted.
        disk.require_same_filesystem(work, root)
        self._made = disk.make_private(work)
        disk.make_private(work / FILES)
        with explained(work, "examined"):
            if (work / ASSEMBLING).is_symlink():
                raise SourceError(f"{work / ASSEMBLING} is a symbolic link; move it away")

    def __contains__(self, digest: Digest) -> bool:
        return digest in self._complete

    def recover(self, *, progress: Progress = ignore) -> None:
        """Verify, by reading, what earlier runs left; delete what is not what it should be."""
        with explained(self.work, "recovered"):
            # In order of name, so that a file comes before the further copies of it.
            for path in sorted(_files_under(self.work / FILES)):
                self._recover(path, progress)
            for path in _files_under(self.work / ASSEMBLING):  # by a publish that was interrupted
                self._take(path, self._digests.of_path(path, progress=progress).digest)
            _remove(self.work / ASSEMBLING)

    def keep_only(self, wanted: Set[Digest]) -> None:
        """Delete every other file, whether it was recovered or not."""
        self._complete &= wanted
        names = {digest.hex() for digest in wanted}
        with explained(self.work, "tidied up"):
            for path in _files_under(self.work / FILES):
                if path.stem not in names or path.suffix in _UNFINISHED:
                    path.unlink()

    def holds(self, file: File, at: Path, *, progress: Progress = ignore) -> bool:
        """Whether a regular file with these very bytes lies at a path. Reads it, if it changed."""
        try:
            facts = at.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise explain(error, at, "examined") from error
        if not stat.S_ISREG(facts.st_mode) or facts.st_size != file.size:
            return False
        seen = (facts.st_dev, facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns, file.digest)
        if self._seen.get(at) == seen:
            return True
        try:
            found = self._digests.of_path(at, progress=progress).digest
        except Vanished:
            return False
        if found == file.digest:
            self._seen[at] = seen
        return found == file.digest

    def create(self, file: File) -> StagedFile:
        """Begin to write a file, not twice at once for one digest. Raises LocalDiskFull.

        It is complete from its `commit` on.
        """
        target = self._path(file.digest)
        with creating(target):
            target.parent.mkdir(mode=0o700, exist_ok=True)
        part = target.with_suffix(_PART)
        return StagedFile(file, part, target, lambda file: self._complete.add(file.digest))

    def adopt(self, file: File, at: Path, *, progress: Progress = ignore) -> bool:
        """Take a copy of the file from a path, if that `holds` it and goes on to meanwhile."""
        if not self.holds(file, at, progress=progress):
            return False
        with explained(at, "copied"):
            aside = self._copied(at, file.digest, durable=False, progress=progress)
            unchanged = self.holds(file, at, progress=progress)
            if unchanged:
                aside.rename(self._path(file.digest))
                self._complete.add(file.digest)
            else:
                aside.unlink()
        return unchanged

    def instance(self, digest: Digest, number: int) -> Path:
        """Where a complete file lies, or a further copy of it, counted from 1: made if need be."""
        path = self._path(digest, number)
        if number and not path.exists():
            self._copied(self._path(digest), digest, durable=False).rename(path)
        return path

    def copy_of(self, path: Path, digest: Digest) -> Path:
        """A durable copy of a file from elsewhere, to be renamed away at once."""
        return self._copied(path, digest, durable=True)

    def gone(self, digest: Digest) -> None:
        """Note that the complete file was renamed away."""
        self._complete.discard(digest)

    def sync(self) -> None:
        """Make all that is here survive a power cut."""
        with explained(self.work, "synced"):
            disk.sync_filesystem(self.work)

    def discard(self) -> None:
        """Delete everything staged; what is in quarantine stays.

        The work directory goes too, if it was made for this and holds nothing any more.
        """
        self._complete.clear()
        discard(self.work)
        with explained(self.work, "emptied"):
            if self._made and not any(self.work.iterdir()):
                self.work.rmdir()

    def _recover(self, path: Path, progress: Progress) -> None:
        if path.suffix in _UNFINISHED:
            path.unlink()
            return
        digest = self._digests.of_path(path, progress=progress).digest
        if digest.hex() == path.stem:
            self._take(path, digest)
        else:
            path.unlink()

    def _take(self, path: Path, digest: Digest) -> None:
        """Count a file with this content, if there is none yet."""
        if digest in self._complete:
            return
        target = self._path(digest)
        if path != target:
            target.parent.mkdir(mode=0o700, exist_ok=True)
            path.rename(target)
        self._complete.add(digest)

    def _copied(
        self, source: Path, digest: Digest, *, durable: bool, progress: Progress = ignore
    ) -> Path:
        copy = self._path(digest).with_suffix(_COPY)
        copy.parent.mkdir(mode=0o700, exist_ok=True)
        copy.unlink(missing_ok=True)
        disk.copy_file(source, copy, durable=durable, progress=progress)
        return copy

    def _path(self, digest: Digest, number: int = 0) -> Path:
        name = digest.hex()
        copy = f".{number}" if number else ""
        return Path(f"{self._home}/{name[:2]}/{name}{copy}")  # joined at once: that is done often


def discard(work: Path) -> None:
    """Delete what any run has staged in a work directory; there need be none."""
    with explained(work, "emptied"):
        _remove(work / ASSEMBLING)
        _remove(work / FILES)


def _files_under(top: Path) -> list[Path]:
    found: list[Path] = []
    for directory, inner, names in os.walk(top):
        paths = [Path(f"{directory}/{name}") for name in (*inner, *names)]
        found += [path for path in paths[: len(inner)] if path.is_symlink()]
        found += paths[len(inner) :]
    return found


def _remove(directory: Path) -> None:
    if directory.exists():
        shutil.rmtree(directory)
