"""What putting a checkpoint in place takes, whatever the layout."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from ckptsync.model import File
from ckptsync.sources import disk
from ckptsync.sources.base import Layout, Staged
from ckptsync.sources.faults import creating, explained
from ckptsync.sources.quarantine import Quarantine
from ckptsync.sources.staged_files import ASSEMBLING


def set_aside(layout: Layout, root: Path, work: Path) -> Path | None:
    """Empty a storage root into the quarantine of a work directory.

    Gives where its contents are now, None if there were none; after a crash, calling it again
    moves the rest. Raises EngineRunning, SourceError, PermissionRefused.
    """
    if not root.exists():
        return None
    disk.require_same_filesystem(work, root)
    quarantine = Quarantine(work, layout.name)
    layout.vacate(root, quarantine)
    return quarantine.path


def install(staged: Staged, name: str, root: Path, quarantine: Quarantine) -> None:
    """Make `root/name` hold exactly what the checkpoint has under it, in one step.

    Does nothing if it does already. What was there before goes to quarantine. Raises SourceError.
    """
    target = root / name
    if _identical(staged, name, target):
        return
    assembled = _assemble(staged, name)
    with explained(target, "replaced"):
        if target.is_symlink() or target.exists():
            quarantine.swap(assembled, target)
        else:
            assembled.rename(target)
        disk.sync_directory(root)


def under(name: str, files: Iterable[File]) -> Iterable[File]:
    """The files whose first directory this is."""
    return (file for file in files if file.path.startswith(f"{name}/"))


def _assemble(staged: Staged, name: str) -> Path:
    """Build the directory in the work directory, complete and durable."""
    home = staged.work / ASSEMBLING
    with creating(home):
        if home.exists():
            shutil.rmtree(home)
        home.mkdir(mode=0o700)
    target = home / name
    made = {target}
    with explained(target, "assembled"):
        target.mkdir(mode=disk.DIRECTORY)
        for path in staged.directories:
            _make(home / path, made)
        newest_ns = 0
        for file in under(name, staged.files()):
            _make((home / file.path).parent, made)
            staged.place(file, home / file.path)
            newest_ns = max(newest_ns, file.mtime_ns)
        for directory in sorted(made, reverse=True):
            if newest_ns:  # as old as its files: nothing is being written here
                os.utime(directory, ns=(newest_ns, newest_ns))
            disk.sync_directory(directory)
        disk.sync_directory(home)
    return target


def _make(directory: Path, made: set[Path]) -> None:
    if directory in made:
        return
    _make(directory.parent, made)
    directory.mkdir(mode=disk.DIRECTORY)
    made.add(directory)


def _identical(staged: Staged, name: str, target: Path) -> bool:
    if target.is_symlink() or not target.is_dir():
        return False
    with explained(target, "listed"):
        found = _paths_under(target)
    expected = {f"{directory}/" for directory in staged.directories}
    expected.update(file.path for file in under(name, staged.files()))
    return found == expected and all(
        staged.holds(file, target.parent / file.path) for file in under(name, staged.files())
    )


def _paths_under(target: Path) -> set[str]:
    """What is not a directory and, with a `/` at the end, the empty directories."""
    found: set[str] = set()
    pending = [target.name]
    while pending:
        directory = pending.pop()
        empty = True
        with os.scandir(target.parent / directory) as entries:
            for entry in entries:
                empty = False
                path = f"{directory}/{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)
                else:
                    found.add(path)
        if empty:
            found.add(f"{directory}/")
    return found
