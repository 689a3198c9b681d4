"""The layout of a Feldera pipeline's storage directory.

The engine lists a checkpoint in its catalog first and writes `state.json` into it after all outputs
have drained, which may take minutes or never happen: only then can it be resumed from. It keeps
the two newest and deletes the others, from the catalog first.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ckptsync.errors import SourceError, Vanished
from ckptsync.hashing import Hash
from ckptsync.model import Engine, File, LocalCheckpoint
from ckptsync.sources import feldera_manifest, pidlock
from ckptsync.sources.base import Derived, Staged
from ckptsync.sources.faults import explained
from ckptsync.sources.feldera_files import (
    CATALOG,
    CHECKPOINT,
    STATE,
    CatalogEntry,
    Dependencies,
    catalog_of,
    is_uuid,
    parse_catalog,
    read_dependencies,
    read_state,
)
from ckptsync.sources.feldera_publish import publish, vacate
from ckptsync.sources.listing import names, require_root
from ckptsync.sources.pin import OpenFiles
from ckptsync.sources.quarantine import Quarantine

NAME: Final = "feldera"


class Feldera:
    """Reads without writing or locking anything; only `publish` changes the directory."""

    name = NAME

    def __init__(self, root: Path) -> None:
        self._root = root

    def checkpoints(self, *, engine_stopped: bool = False) -> Sequence[LocalCheckpoint]:
        require_root(self._root)
        entries = self._catalog()
        at_root = names(self._root)
        found = []
        for entry in entries:
            try:
                checkpoint = self._complete(entry, at_root)
            except Vanished:  # collected since the catalog was read
                continue
            if checkpoint is not None:
                found.append(checkpoint)
        return found

    def pin(self, checkpoint: LocalCheckpoint) -> OpenFiles:
        id = checkpoint.engine.id
        folder = self._root / id
        needs = read_dependencies(folder, names(folder))
        pinned = OpenFiles(
            self._root,
            checkpoint,
            tree=id,
            loose=dict.fromkeys(needs.batches),
            skip=_is_temporary,
            immutable=True,
        )
        try:
            self._require_whole(id, needs, pinned)
        except BaseException:
            pinned.close()
            raise
        return pinned

    def require_restorable(
        self, engine: Engine, files: Iterable[File], directories: Sequence[str]
    ) -> None:
        feldera_manifest.require_restorable(engine, files, directories)

    def publish(self, staged: Staged, root: Path) -> None:
        publish(staged, root)

    def vacate(self, root: Path, quarantine: Quarantine) -> None:
        vacate(root, quarantine)

    def derived(self, engine: Engine, files: Sequence[File], hash_: Hash) -> Derived:
        state = f"{engine.id}/{STATE}"
        catalog = None if engine.metadata is None else catalog_of([engine.metadata])
        return {
            CATALOG: None if catalog is None else hash_.of(catalog),
            STATE: next((file.digest for file in files if file.path == state), None),
            pidlock.PIDLOCK: None,
        }

    def engine_running(self) -> bool | None:
        return pidlock.locked(self._root)

    def _catalog(self) -> tuple[CatalogEntry, ...]:
        path = self._root / CATALOG
        for _ in range(2):  # an engine that starts may write its first catalog in between
            try:
                with explained(path, "read"):
                    return parse_catalog(path.read_bytes(), path)
            except Vanished:
                orphans = sorted(name for name in names(self._root) if is_uuid(name))
            if not orphans:
                return ()
        raise SourceError(
            f"{path} is missing, but there are checkpoints: {orphans[0]} and {len(orphans) - 1} "
            "more. The engine would refuse to start.",
            hint="restore with 'ckptsync pull', or move them away",
        )

    def _complete(self, entry: CatalogEntry, at_root: frozenset[str]) -> LocalCheckpoint | None:
        """None if the engine could not resume from it. Raises Vanished, SourceError."""
        folder = self._root / entry.id
        present = names(folder)
        if not present.issuperset((CHECKPOINT, STATE)):
            return None
        needs = read_dependencies(folder, present)
        if not present.issuperset(needs.state_files) or not at_root.issuperset(needs.batches):
            return None
        with explained(folder / STATE, "examined"):
            written = (folder / STATE).stat().st_mtime
        state = read_state(folder)
        started = state.initial_start_time
        engine = Engine(
            layout=NAME,
            id=entry.id,
            step=entry.steps if entry.steps is not None else state.step or 0,
            records=entry.records if entry.records is not None else state.processed_records,
            fingerprint=entry.fingerprint,
            lineage=None if started is None else str(started),
            metadata=entry.text,
        )
        return LocalCheckpoint(engine=engine, at=datetime.fromtimestamp(written, UTC))

    def _require_whole(self, id: str, needs: Dependencies, pinned: OpenFiles) -> None:
        """Raise Vanished if the engine began to delete the checkpoint before all was open."""
        expected = {f"{id}/{name}" for name in (CHECKPOINT, STATE, *needs.state_files)}
        missing = expected.difference(pinned.paths)
        if missing:
            raise Vanished(f"{self._root / min(missing)} was deleted before it could be opened")
        if all(entry.id != id for entry in self._catalog()):
            raise Vanished(
                f"the engine dropped checkpoint {id} from {self._root / CATALOG} while its files "
                "were opened; the next try takes the newest"
            )


def _is_temporary(name: str) -> bool:
    return name.endswith(".mut")
