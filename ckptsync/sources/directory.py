"""The layout of trainers and embedded databases: one directory for each checkpoint.

PyTorch, Orbax, Hugging Face trainers, RocksDB checkpoints.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from ckptsync.errors import EngineRunning, SourceError, Vanished
from ckptsync.hashing import Hash
from ckptsync.model import Engine, File, LocalCheckpoint
from ckptsync.sources.base import Derived, Staged
from ckptsync.sources.candidates import (
    AT_ONCE,
    MARKERS,
    Candidate,
    complete,
    is_hidden,
    is_temporary,
    rivals,
)
from ckptsync.sources.disk import sync_directory
from ckptsync.sources.faults import explained
from ckptsync.sources.listing import require_root
from ckptsync.sources.pin import OpenFiles
from ckptsync.sources.publish import install
from ckptsync.sources.quarantine import Quarantine
from ckptsync.sources.restorable import require_tree, unfit

NAME: Final = "directory"
QUIET: Final = timedelta(seconds=30)

_YOUNGEST: Final = (1 << 64, 0)  # the rank of a file, which may name the newest checkpoint


def utc_now() -> datetime:
    return datetime.now(UTC)


class Directory:
    """`root` holds one directory for each checkpoint; names that begin with a dot are not ours."""

    name = NAME

    def __init__(
        self,
        root: Path,
        *,
        marker: str | None = None,
        quiet: timedelta = QUIET,
        engine_running: Callable[[], bool] | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        """`marker` is the file that the engine writes last; without it, see `complete`."""
        self._root = root
        self._markers = MARKERS if marker is None else (marker,)
        self._marker_required = marker is not None
        self._quiet = quiet
        self._engine_running = engine_running
        self._now = now

    def checkpoints(self, *, engine_stopped: bool = False) -> Sequence[LocalCheckpoint]:
        found = complete(
            self._candidates(self._root),
            marker_required=self._marker_required,
            quiet=AT_ONCE if engine_stopped else self._quiet,
            now=self._now(),
        )
        return [_checkpoint(candidate) for candidate in found]

    def pin(self, checkpoint: LocalCheckpoint) -> OpenFiles:
        name = checkpoint.engine.id
        pinned = OpenFiles(self._root, checkpoint, tree=name, immutable=False)
        try:
            self._require_unchanged(checkpoint)
        except BaseException:
            pinned.close()
            raise
        return pinned

    def require_restorable(
        self, engine: Engine, files: Iterable[File], directories: Sequence[str]
    ) -> None:
        require_tree(engine.id, files, directories)
        if is_hidden(engine.id) or is_temporary(engine.id):
            raise unfit(f"the checkpoint's name {engine.id!r} is one that no trainer resumes from")

    def publish(self, staged: Staged, root: Path) -> None:
        name = staged.engine.id
        self.require_restorable(staged.engine, staged.files(), staged.directories)
        self._require_stopped(root)
        with explained(root, "published"):
            staged.begin()
            quarantine = Quarantine(staged.work, staged.engine.id)
            install(staged, name, root, quarantine)
            for rival in self._rivals(root, name):
                quarantine.take(root / rival.name)
            sync_directory(root)
            quarantine.sync()

    def vacate(self, root: Path, quarantine: Quarantine) -> None:
        """The oldest goes first: until the last one is moved, the newest is still there."""
        self._require_stopped(root)
        with explained(root, "vacated"):
            ours = [path for path in root.iterdir() if not is_hidden(path.name)]
            for path in sorted(ours, key=self._rank):
                quarantine.take(path)
            sync_directory(root)
            quarantine.sync()

    def derived(self, engine: Engine, files: Sequence[File], hash_: Hash) -> Derived:
        return {}

    def engine_running(self) -> bool | None:
        return None if self._engine_running is None else self._engine_running()

    def _rank(self, path: Path) -> tuple[int, int]:
        is_directory = path.is_dir() and not path.is_symlink()
        return self._examine(path).rank if is_directory else _YOUNGEST

    def _require_stopped(self, root: Path) -> None:
        if self.engine_running():
            raise EngineRunning(
                f"an engine is running in {root}, says the hook engine_running",
                hint="stop the engine first",
            )

    def _rivals(self, root: Path, name: str) -> list[Candidate]:
        others = [each for each in self._candidates(root) if each.name != name]
        return rivals(self._examine(root / name), others, marker_required=self._marker_required)

    def _require_unchanged(self, checkpoint: LocalCheckpoint) -> None:
        """Raise Vanished if anything was deleted or added since the checkpoint was listed."""
        name = checkpoint.engine.id
        if _checkpoint(self._examine(self._root / name)) != checkpoint:
            raise Vanished(
                f"{self._root / name} changed before all its files were open; "
                "the next try takes the newest"
            )

    def _candidates(self, root: Path) -> list[Candidate]:
        require_root(root)
        found = []
        for name in _directories(root):
            try:
                found.append(self._examine(root / name))
            except Vanished:  # deleted since it was listed
                continue
        return found

    def _examine(self, top: Path) -> Candidate:
        """Raises Vanished."""
        changed, written, marked = 0, 0, None
        pending = [top]
        while pending:
            directory = pending.pop()
            with explained(directory, "listed"), os.scandir(directory) as entries:
                changed = max(changed, directory.stat().st_mtime_ns)
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(directory / entry.name)
                        continue
                    modified = entry.stat(follow_symlinks=False).st_mtime_ns
                    written = max(written, modified)
                    if entry.name in self._markers and directory == top:
                        marked = modified
        return Candidate(
            name=top.name,
            changed_ns=max(changed, written),
            written_ns=written,
            marked_ns=marked,
        )


def _checkpoint(candidate: Candidate) -> LocalCheckpoint:
    # A trainer may write another checkpoint under a name that it has used before.
    engine = Engine(
        layout=NAME, id=candidate.name, step=candidate.step, fingerprint=candidate.written_ns
    )
    return LocalCheckpoint(engine=engine, at=candidate.at)


def _directories(root: Path) -> list[str]:
    directories: list[str] = []
    others: list[str] = []
    with explained(root, "listed"), os.scandir(root) as entries:
        for entry in entries:
            if not is_hidden(entry.name):
                kind = directories if entry.is_dir(follow_symlinks=False) else others
                kind.append(entry.name)
    if others and not directories:
        raise SourceError(
            f"{root} holds files, such as {min(others)}, but no directory",
            hint="storage_path is the directory in which each checkpoint has a directory",
        )
    return directories
