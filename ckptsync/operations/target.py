"""Where a pull puts its checkpoint: the pipeline's own storage, or a directory of its own."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ckptsync.errors import Refused
from ckptsync.sources import disk
from ckptsync.sources.faults import explained
from ckptsync.state.lock import PipelineLock


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    root: Path
    """The storage root that a layout publishes into."""
    work: Path
    """On the same filesystem, outside the root."""
    home: Path | None = None
    """Of a directory that is still to appear: what holds root and work until then."""
    directory: Path | None = None

    @classmethod
    def storage(cls, root: Path, work: Path) -> Self:
        return cls(root=root, work=work)

    @classmethod
    def elsewhere(cls, directory: Path, *, outside: Iterable[Path]) -> Self:
        """Raises Refused unless the directory is absent, or empty, and may be put there."""
        with explained(directory, "examined"):
            directory = directory.absolute()
            home = directory.parent / f".ckptsync-{directory.name}"
            if fault := _fault(directory, home, outside):
                raise Refused(f"{directory} {fault}", hint="restore into a new directory elsewhere")
        return cls(root=home / "root", work=home / "work", home=home, directory=directory)

    @contextmanager
    def held(self) -> Iterator[Self]:
        """Keep others from the same directory. Raises Busy, or Refused if one has finished it.

        The pipeline's own storage is guarded by the lock of the pipeline.
        """
        if self.home is None or self.directory is None:
            yield self
            return
        disk.make_private(self.home)
        lock = self.home / "lock"
        with PipelineLock(lock):
            try:
                _require_free(self.directory)
                yield self
            finally:
                with suppress(OSError):  # holds what the next try goes on with, or is gone
                    if [path.name for path in self.home.iterdir()] == [lock.name]:
                        shutil.rmtree(self.home)

    def appear(self, manifest: bytes, descriptor: bytes) -> None:
        """Give the finished directory its name; beside it what it can be verified with later."""
        if self.home is None or self.directory is None:
            return
        with explained(self.directory, "given its name"):
            aside = self.home / "aside"
            disk.replace_file(descriptor_beside(self.directory), descriptor, aside=aside)
            disk.replace_file(manifest_beside(self.directory), manifest, aside=aside)
            self.root.rename(self.directory)
            disk.sync_directory(self.directory.parent)
            shutil.rmtree(self.home)

    def vanish(self) -> None:
        """Leave nothing behind of a directory that will not appear."""
        if self.home is not None:
            shutil.rmtree(self.home, ignore_errors=True)


def _require_free(directory: Path) -> None:
    with explained(directory, "examined"):
        taken = _is_taken(directory)
    if taken:
        raise Refused(
            f"{directory} was restored by another process meanwhile",
            hint="use it, or restore into a new directory elsewhere",
        )


def _fault(directory: Path, home: Path, outside: Iterable[Path]) -> str | None:
    """Why nothing can be restored there."""
    if _is_taken(directory):
        return "is there already and not empty"
    if directory.is_mount():
        return "is a mount point, which cannot appear in one step; a directory below it can"
    for place in outside:
        if directory.resolve().is_relative_to(place.resolve()):
            return f"lies within {place}, where only the engine and ckptsync itself write"
    for beside in (manifest_beside(directory), descriptor_beside(directory)):
        if beside.exists() and not home.exists():
            return f"has a companion of an earlier pull already, {beside}"
    return None


def manifest_beside(directory: Path) -> Path:
    """Where the manifest of a restored directory lies, for verifying it offline."""
    return directory.with_name(f"{directory.name}.manifest.json.zst")


def descriptor_beside(directory: Path) -> Path:
    """Where its repository's descriptor lies, without which no manifest can be read."""
    return directory.with_name(f"{directory.name}.ckptsync.json")


def _is_taken(directory: Path) -> bool:
    """Whether anything is there but an empty directory."""
    empty = directory.is_dir() and next(directory.iterdir(), None) is None
    return directory.is_symlink() or (directory.exists() and not empty)
