"""Whether a Feldera engine could resume from what a manifest describes."""

from collections.abc import Iterable, Sequence

from ckptsync.errors import SourceError
from ckptsync.model import Engine, File
from ckptsync.sources.base import Staged
from ckptsync.sources.feldera_files import (
    CHECKPOINT,
    STATE,
    catalog_of,
    dependency_lists,
    is_batch,
    is_uuid,
    parse_catalog,
    parse_dependencies,
)
from ckptsync.sources.restorable import require_directories_below, require_inside, unfit


def require_restorable(engine: Engine, files: Iterable[File], directories: Sequence[str]) -> None:
    """Raises IntegrityError; see `Layout`."""
    id = engine.id
    catalog_entry(engine)
    require_directories_below(id, directories)
    folder, batches = set[str](), 0
    for file in files:
        require_inside(file.path)
        if file.path.startswith(f"{id}/"):
            folder.add(file.path.removeprefix(f"{id}/"))
        elif is_batch(file.path):
            batches += 1
        else:
            raise unfit(f"the manifest of {id} names {file.path!r}, which is no batch")
    for name in (CHECKPOINT, STATE):
        if name not in folder:
            raise unfit(f"the manifest of {id} lacks {name}, without which no engine resumes")
    if batches and not dependency_lists(folder):
        raise unfit(f"the manifest of {id} has batches, but no file that says which are needed")


def catalog_entry(engine: Engine) -> str:
    """As the engine wrote it. Raises IntegrityError if it is not this checkpoint's."""
    if not is_uuid(engine.id):
        raise unfit(f"checkpoint {engine.id!r} is not named as a Feldera engine names one")
    if engine.metadata is None:
        raise unfit(f"the manifest of {engine.id} lacks the engine's catalog entry")
    try:
        described = parse_catalog(catalog_of([engine.metadata]), f"the manifest of {engine.id}")
    except SourceError as error:
        raise unfit(str(error)) from error
    if [entry.id for entry in described] != [engine.id]:
        raise unfit(f"the manifest of {engine.id} holds another checkpoint's catalog entry")
    return engine.metadata


def require_dependencies(staged: Staged) -> None:
    """Raises IntegrityError unless all is staged that the checkpoint itself says it needs."""
    id = staged.engine.id
    files = {file.path: file for file in staged.files()}
    folder = {path.removeprefix(f"{id}/") for path in files if path.startswith(f"{id}/")}
    documents = {name: staged.read(files[f"{id}/{name}"]) for name in dependency_lists(folder)}
    try:
        needs = parse_dependencies(documents, f"checkpoint {id}")
    except SourceError as error:
        raise unfit(str(error)) from error
    needed = {*needs.batches, *(f"{id}/{name}" for name in needs.state_files)}
    if missing := needed.difference(files):
        raise unfit(f"checkpoint {id} needs {min(missing)}, which its manifest does not name")
