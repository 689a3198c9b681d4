"""What a pipeline needs of its host."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ckptsync.errors import ConfigError, PermissionRefused, SourceError
from ckptsync.operations.doctor_finding import Finding, failed, ok, warning
from ckptsync.operations.pipeline import Pipeline
from ckptsync.sources.faults import explained
from ckptsync.units import format_age, format_size

_ENOUGH_FILES: Final = 16_384


def storage(pipeline: Pipeline) -> Iterator[Finding]:
    root, layout = pipeline.storage_path, pipeline.layout
    if _existing(root) != root:
        yield warning(
            "storage",
            f"{root} does not exist: there is nothing to push; a pull would create it",
            hint="check storage_path, and that its disk is mounted",
        )
        return
    checkpoints = layout.checkpoints()
    if not checkpoints:
        yield warning(
            "storage",
            f"{root} holds no complete checkpoint of layout '{layout.name}'",
            hint="wait for the engine's first checkpoint, or check storage_path and layout",
        )
        return
    newest = checkpoints[-1]
    yield ok(
        "storage",
        f"{root}: complete checkpoints: {len(checkpoints)}; the newest is {newest.engine.id} "
        f"at step {newest.engine.step}, written {format_age(pipeline.now() - newest.at)}",
    )


def work(pipeline: Pipeline) -> Iterator[Finding]:
    """Whether a pull could stage beside the storage and then rename. Tries by asking only."""
    places = [_existing(path) for path in (pipeline.work_path, pipeline.storage_path)]
    for place in places:
        if not place.is_dir():
            yield failed(
                "work directory",
                SourceError(
                    f"{place} is not a directory, so nothing can be pulled",
                    hint="set storage_path and work_path to directories, or move the file away",
                ),
            )
            return
        if not os.access(place, os.W_OK | os.X_OK, effective_ids=True):
            yield failed(
                "work directory",
                PermissionRefused(
                    f"{place} cannot be written, so nothing can be pulled",
                    hint="run ckptsync as the user of the pipeline, or grant it access",
                ),
            )
            return
    with explained(pipeline.work_path, "examined"):
        devices = {place.stat().st_dev for place in places}
    if len(devices) > 1:
        yield failed(
            "work directory",
            ConfigError(
                f"{pipeline.work_path} is on another filesystem than {pipeline.storage_path}, "
                "so a checkpoint cannot be put in place in one step",
                hint="set work_path to a directory on the filesystem of storage_path",
            ),
        )
        return
    yield ok("work directory", f"{pipeline.work_path} is beside the storage, and can be written")


def space(pipeline: Pipeline, needed: int) -> Iterator[Finding]:
    """Whether a checkpoint of so many bytes would fit beside what is there."""
    place = _existing(pipeline.work_path)
    with explained(place, "examined"):
        facts = os.statvfs(place)
    free = facts.f_bavail * facts.f_frsize
    detail = f"{format_size(free)} are free for the latest checkpoint's {format_size(needed)}"
    if free < needed:
        yield warning(
            "disk space",
            detail,
            hint="free some space; a pull fetches only what differs from the storage",
        )
    else:
        yield ok("disk space", detail)


def open_files(_pipeline: Pipeline) -> Iterator[Finding]:
    yield held_open(resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def held_open(limit: int) -> Finding:
    """Whether a push can open all files of a checkpoint before the engine deletes any."""
    if limit == resource.RLIM_INFINITY or limit >= _ENOUGH_FILES:
        return ok("open files", "enough for the files of a large checkpoint at once")
    return warning(
        "open files",
        f"only {limit:,} at once: if a checkpoint has more, an engine that deletes quickly may "
        "take some away while it is pushed, and the push starts over",
        hint="raise the limit (LimitNOFILE in the unit, ulimit -Hn)",
    )


def state(pipeline: Pipeline) -> Iterator[Finding]:
    if pipeline.state.missing is not None:
        yield failed("state", pipeline.state.missing)
        return
    database = pipeline.state.database
    database.require_sound()
    where = database.query("PRAGMA database_list")[0][2]
    with database.transaction():  # takes the lock of a writer, and writes nothing
        yield ok("state", f"{where} is sound, and can be written")


def _existing(path: Path) -> Path:
    """The path itself, or what would hold it. Raises PermissionRefused."""
    with explained(path, "examined"):
        return next(each for each in (path, *path.absolute().parents) if each.exists())
