"""Putting a checkpoint back so that a Feldera engine resumes from it.

The engine resumes from `state.json` at the root and, as it starts, deletes what its catalog does
not list. So the catalog lists the old checkpoints and the new one until that file is replaced.
"""

import stat
from pathlib import Path
from typing import Final

from ckptsync.errors import SourceError
from ckptsync.model import File
from ckptsync.sources import disk, pidlock
from ckptsync.sources.base import Staged
from ckptsync.sources.faults import creating, explained
from ckptsync.sources.feldera_files import (
    ACTIVATED,
    CATALOG,
    STATE,
    catalog_of,
    is_batch,
    is_uuid,
    parse_catalog,
)
from ckptsync.sources.feldera_manifest import (
    catalog_entry,
    require_dependencies,
    require_restorable,
)
from ckptsync.sources.publish import install
from ckptsync.sources.quarantine import Quarantine

JOURNAL: Final = "steps.bin"  # a directory, despite its name

_STATUS: Final = "status.json"  # what its engine was last asked to be
_SCRATCH: Final = "datafusion-tmp"
_MUTABLE: Final = ".mut"  # the end of the name of what is being written

_NOTHING: Final = catalog_of([])


def publish(staged: Staged, root: Path) -> None:
    """Make this the one checkpoint of the storage root.

    A crash at any step leaves a root from which the engine resumes either the old checkpoint or
    this one, never this one with a journal; calling it again finishes. What the root held
    beside it goes to quarantine. Before anything changed raises EngineRunning; IntegrityError
    if an engine could not resume from it; SourceError if a batch of the same name and other
    content is in the way.
    """
    id = staged.engine.id
    require_restorable(staged.engine, staged.files(), staged.directories)
    require_dependencies(staged)
    entry = catalog_entry(staged.engine)
    with creating(root):
        root.mkdir(mode=disk.DIRECTORY, exist_ok=True)  # the lock lies in it
    with pidlock.held(root), explained(root, "published"):
        batches, missing = _batches(staged, root)
        staged.begin()
        quarantine = Quarantine(staged.work, staged.engine.id)
        for file in missing:
            staged.place(file, root / file.path)
        disk.sync_directory(root)
        if _is_fresh(root):
            # With a checkpoint but no catalog neither the engine nor the next pull would start.
            _replace(root / CATALOG, _NOTHING, staged, quarantine)
        install(staged, id, root, quarantine)
        state = (root / id / STATE).read_bytes()
        if _content(root / STATE) != state:
            _replace(root / CATALOG, catalog_of([*_others(root, id), entry]), staged, quarantine)
            # First all that takes space: on a full disk the old checkpoint keeps its journal.
            aside = _write_aside(root / STATE, state, staged, quarantine)
            _set_journal_aside(root, quarantine)
            disk.rename_over(aside, root / STATE)
        else:
            _set_journal_aside(root, quarantine)
        _replace(root / CATALOG, catalog_of([entry]), staged, quarantine)
        for path in sorted(root.iterdir()):
            if path.name not in batches and (is_batch(path.name) or _is_other(path.name, id)):
                quarantine.take(path)
        disk.sync_directory(root)
        quarantine.sync()


def _set_journal_aside(root: Path, quarantine: Quarantine) -> None:
    """Even one of this very checkpoint: it tells what one of its lives went on to do."""
    if (root / JOURNAL).exists():
        quarantine.take(root / JOURNAL)
        disk.sync_directory(root)


def vacate(root: Path, quarantine: Quarantine) -> None:
    """Leave a storage root as one in which no engine ever ran, but for its lock.

    The catalog goes first and the checkpoints last: an engine refuses to start in between.
    """
    with pidlock.held(root), explained(root, "vacated"):
        found = [path for path in sorted(root.iterdir()) if _is_engines(path.name)]
        for path in sorted(found, key=lambda path: (path.name != CATALOG, is_uuid(path.name))):
            quarantine.take(path)
            if path.name == CATALOG:
                disk.sync_directory(root)
        disk.sync_directory(root)
        quarantine.sync()


def _is_engines(name: str) -> bool:
    known = (CATALOG, STATE, JOURNAL, ACTIVATED, _STATUS, _SCRATCH)
    return name in known or name.endswith(_MUTABLE) or is_batch(name) or is_uuid(name)


def _is_fresh(root: Path) -> bool:
    """Whether an engine would begin with nothing here."""
    names = {path.name for path in root.iterdir()}
    return CATALOG not in names and not any(map(is_uuid, names))


def _batches(staged: Staged, root: Path) -> tuple[frozenset[str], list[File]]:
    """The names of all, and those that are not in place yet. Raises SourceError."""
    folder = f"{staged.engine.id}/"
    names, missing = set(), list[File]()
    for file in staged.files():
        if file.path.startswith(folder):
            continue
        names.add(file.path)
        target = root / file.path
        if staged.holds(file, target):
            continue
        if target.is_symlink() or target.exists():
            raise SourceError(
                f"{target} is in the way: a batch of that name, with other content than in the "
                "checkpoint. Nothing was changed.",
                hint="move it away if the disk damaged it; else this is another pipeline's data",
            )
        missing.append(file)
    return frozenset(names), missing


def _others(root: Path, id: str) -> list[str]:
    """The catalog entries of other checkpoints, as far as the engine could read them."""
    data = _content(root / CATALOG)
    if data is None:
        return []
    try:
        return [entry.text for entry in parse_catalog(data, root / CATALOG) if entry.id != id]
    except SourceError:
        return []


def _replace(target: Path, data: bytes, staged: Staged, quarantine: Quarantine) -> None:
    if _content(target) != data:
        disk.rename_over(_write_aside(target, data, staged, quarantine), target)


def _write_aside(target: Path, data: bytes, staged: Staged, quarantine: Quarantine) -> Path:
    """A synced file to take target's place, with its mode; what target holds is kept."""
    old, mode = _content(target), 0o644
    if old is not None:
        mode = stat.S_IMODE(target.stat().st_mode)
    if old not in (None, _NOTHING):
        quarantine.keep_copy(target)
    aside = staged.work / "aside"
    disk.write_file(aside, data, mode=mode)
    return aside


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _is_other(name: str, id: str) -> bool:
    return is_uuid(name) and name != id
