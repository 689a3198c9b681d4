"""Where a pull puts its checkpoint: the pipeline's own storage, or a directory of its own."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ckptsync.errors import Refused
from ckptsync.sources import disk
from ckptsync.sources.faults import explained


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
    def elsewhere(cls, directory: Path) -> Self:
        """Raises Refused unless the directory is absent or empty."""
        with explained(directory, "examined"):
            directory = directory.absolute()
            if directory.is_symlink() or (directory.exists() and not _is_empty(directory)):
                raise Refused(
                    f"{directory} is there already and not empty",
                    hint="restore into a new directory",
                )
        home = directory.parent / f".ckptsync-{directory.name}"
        return cls(root=home / "root", work=home / "work", home=home, directory=directory)

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


def manifest_beside(directory: Path) -> Path:
    """Where the manifest of a restored directory lies, for verifying it offline."""
    return directory.with_name(f"{directory.name}.manifest.json.zst")


def descriptor_beside(directory: Path) -> Path:
    """Where its repository's descriptor lies, without which no manifest can be read."""
    return directory.with_name(f"{directory.name}.ckptsync.json")


def _is_empty(directory: Path) -> bool:
    return directory.is_dir() and next(directory.iterdir(), None) is None
