"""What a layout knows: how one kind of engine writes checkpoints, and how to put one back."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ckptsync.hashing import Digest, Hash
from ckptsync.model import Engine, File, LocalCheckpoint
from ckptsync.sources.quarantine import Quarantine


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedFile:
    """A file of a pinned checkpoint. `number` is its place in `Pinned.files`."""

    number: int
    path: str
    size: int
    mode: int
    mtime_ns: int
    shared: bool
    """Other checkpoints may hold it too; False for files that die with this checkpoint."""


class Pinned(AbstractContextManager["Pinned"], Protocol):
    """A checkpoint whose bytes can be read whatever the engine deletes meanwhile."""

    @property
    def checkpoint(self) -> LocalCheckpoint: ...

    @property
    def files(self) -> Sequence[PinnedFile]:
        """Every file, sorted by path."""
        ...

    @property
    def directories(self) -> Sequence[str]:
        """The directories that no file's path implies: the empty ones, sorted."""
        ...

    def stat_key(self, file: PinnedFile) -> bytes | None:
        """What the stat cache knows the file by; None if it must not be cached."""
        ...

    def read_into(self, file: PinnedFile, start: int, into: memoryview) -> None:
        """Positioned read, from any thread. Raises Vanished if the file is shorter by now."""
        ...

    def confirm(self) -> None:
        """Raise Vanished unless every file is still what it was when pinned."""
        ...


class Staged(Protocol):
    """A checkpoint that was downloaded and verified, not yet in its place."""

    @property
    def engine(self) -> Engine: ...

    @property
    def work(self) -> Path:
        """A private directory outside the storage root, on the same filesystem.

        Here `publish` puts together what it then renames into place, and keeps in `quarantine`
        what it moves out of the way.
        """
        ...

    @property
    def directories(self) -> Sequence[str]:
        """The empty ones."""
        ...

    def files(self) -> Iterator[File]:
        """Every file, in the same order each time."""
        ...

    def begin(self) -> None:
        """`publish` calls this when it refuses nothing any more, before its first change.

        Makes the storage root, where there is none.
        """
        ...

    def read(self, file: File) -> bytes:
        """A small file's bytes, wherever they are by now."""
        ...

    def holds(self, file: File, at: Path) -> bool:
        """Whether a regular file with these very bytes lies at a path. Reads it."""
        ...

    def place(self, file: File, at: Path) -> None:
        """Put the file at a path that does not exist, with its mode and times, synced to disk.

        It appears whole or not at all. The directory that holds it is the caller's to sync.
        """
        ...


Derived = Mapping[str, Digest | None]
"""Paths, each with the digest that its content follows from; None where any content will do."""


class Layout(Protocol):
    """One pipeline's storage root, read as one kind of engine writes it."""

    @property
    def name(self) -> str: ...

    def checkpoints(self, *, engine_stopped: bool = False) -> Sequence[LocalCheckpoint]:
        """The complete ones, oldest first. Never raises for what vanishes meanwhile.

        With `engine_stopped` nothing is written any more, so nothing has to have been quiet first.
        Raises SourceError or PermissionRefused if the storage root cannot be read.
        """
        ...

    def pin(self, checkpoint: LocalCheckpoint) -> Pinned:
        """Open every file before a byte is read. Raises Vanished if any is gone."""
        ...

    def require_restorable(
        self, engine: Engine, files: Iterable[File], directories: Sequence[str]
    ) -> None:
        """Raises IntegrityError unless a checkpoint of this layout looks like that.

        Decided from names alone, before a byte is fetched; whatever `pin` gives must pass.
        """
        ...

    def publish(self, staged: Staged, root: Path) -> None:
        """Put a checkpoint in place so that the engine resumes from it.

        A crash at any step leaves the old checkpoint or the new one; calling it again finishes.
        Raises, before it changes anything, IntegrityError if the engine could not resume from it,
        EngineRunning, and SourceError if something else lies in the way.
        """
        ...

    def vacate(self, root: Path, quarantine: Quarantine) -> None:
        """Move out of a storage root that is there all that the engine would resume from.

        What is not the engine's stays. No crash leaves a root from which the engine would resume
        something that was never there; calling it again moves the rest. Raises EngineRunning,
        before it changes anything.
        """
        ...

    def derived(self, engine: Engine, files: Sequence[File], hash_: Hash) -> Derived:
        """What `publish` puts beside a checkpoint's own files."""
        ...

    def engine_running(self) -> bool | None:
        """None where the layout cannot tell."""
        ...
