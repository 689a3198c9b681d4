"""Where what is moved out of the way is kept: nothing that an engine wrote is ever deleted."""

from datetime import UTC, datetime
from pathlib import Path

from ckptsync.sources import disk
from ckptsync.sources.faults import explained


class Quarantine:
    """A directory below `quarantine` in the work directory, made when first needed."""

    def __init__(self, work: Path, label: str) -> None:
        """The directory's name is the time and the label."""
        self._work = work
        self._label = label
        self._made: Path | None = None

    @property
    def path(self) -> Path | None:
        """None while there is nothing in it."""
        return self._made

    def take(self, path: Path) -> None:
        """Move a file or directory here. The directory it was in is the caller's to sync."""
        with explained(path, "moved to quarantine"):
            path.rename(self._directory() / path.name)

    def keep_copy(self, path: Path) -> None:
        """For a file that is about to be replaced; the first copy of a name counts."""
        with explained(path, "copied to quarantine"):
            copy = self._directory() / path.name
            if not copy.exists():
                disk.copy_file(path, copy)

    def swap(self, new: Path, old: Path) -> None:
        """Put `new` where `old` is, in one step where the filesystem can."""
        with explained(old, "replaced"):
            slot = self._directory() / old.name
            # Not swapped where it was assembled: a crash would leave the old one among scratch.
            new.rename(slot)
            if not disk.exchange(slot, old):
                slot.rename(new)
                old.rename(slot)
                new.rename(old)

    def sync(self) -> None:
        """Make the moves survive a power cut."""
        if self._made is not None:
            with explained(self._made, "synced"):
                disk.sync_directory(self._made)

    def _directory(self) -> Path:
        if self._made is None:
            home = self._work / "quarantine"
            disk.make_private(self._work)
            disk.make_private(home)
            now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
            made = home / f"{now}-{self._label}"
            made.mkdir(mode=0o700)
            disk.sync_directory(home)
            self._made = made
        return self._made
