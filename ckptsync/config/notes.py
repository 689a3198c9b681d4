"""What a valid configuration does not do, said before the operator relies on it."""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from ckptsync.config.credentials import secret_path
from ckptsync.config.forecast import PERIODS
from ckptsync.config.model import Config, Pipeline, Retention, Sync
from ckptsync.config.providers import Scheme
from ckptsync.errors import ConfigError
from ckptsync.units import format_duration

_NONE = Retention()
_UNSET_HOOKS = {
    "on_activate": "an activation leaves the engine for somebody else to start",
    "on_fenced": "if another node takes over, only the bucket is protected; the engine here "
    "goes on running",
    "on_release": "before a switchover the engine has to be stopped by hand",
}
"""What follows where the operator gives no command."""


def notes(config: Config, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Sentences for 'config check', each with the place that it speaks of."""
    found = []
    inline = [name for name, pipeline in config.pipelines.items() if pipeline.sync.secret_key]
    if inline and _readable_by_others(config.path):
        found.append(f"{config.path} holds a secret and can be read by other users: chmod 600")
    for name, pipeline in config.pipelines.items():
        at = f"pipelines.{name}"
        found += [f"{at}.sync.{note}" for note in _sync(pipeline.sync, environment)]
        found += [f"{at}.{note}" for note in _pipeline(pipeline)]
        found += [
            f"{at}.storage_path is that of pipeline {other!r}, too: a pull of one replaces both"
            for other in config.pipelines
            if other < name and config.pipelines[other].storage_path == pipeline.storage_path
        ]
    return found


def _sync(sync: Sync, environment: Mapping[str, str]) -> Iterator[str]:
    if sync.push_interval is None and not sync.standby:
        yield "push_interval is not set: nothing is pushed but on request"
    if sync.retention_min_count < 1:
        yield "retention_min_count acts as 1: the newest checkpoint is never deleted"
    if sync.retention_min_count <= 1 and not sync.retention_min_age and sync.retention == _NONE:
        yield "retention_min_age is 0: only the newest checkpoint is kept"
    yield from _retention(sync)
    if sync.fencing == "off":
        yield "fencing is off: two primaries would not be told apart, and could lose checkpoints"
    if sync.bucket.scheme is Scheme.FILE:
        yield (
            f"bucket is a directory: {sync.bucket.path} protects from the loss of this host only "
            "if it lies on another, and network file systems may not keep its locks"
        )
    if sync.endpoint and sync.endpoint.startswith("http://"):
        yield "endpoint is not encrypted: checkpoints can be read on the way"
    for key in ("access_key_file", "secret_key_file"):
        name = getattr(sync, key)
        if name is not None:
            yield from _secret(key, name, environment)


def _retention(sync: Sync) -> Iterator[str]:
    age = sync.retention_min_age
    for name, longest in PERIODS.items():
        kept = getattr(sync.retention, name)
        if kept and kept * longest <= age:
            yield (
                f"retention.{name} = {kept} adds nothing: everything younger than "
                f"retention_min_age = {format_duration(age)} is kept anyway; "
                "lower that to keep less"
            )


def _secret(key: str, name: str, environment: Mapping[str, str]) -> Iterator[str]:
    try:
        path = secret_path(name, environment)
    except ConfigError:
        yield f"{key} is a credential of systemd: it cannot be checked from here"
        return
    if _readable_by_others(path):
        yield f"{key}: {path} can be read by other users: chmod 600"


def _pipeline(pipeline: Pipeline) -> Iterator[str]:
    if pipeline.layout != "directory" and "directory" in pipeline.model_fields_set:
        yield f"directory has no effect: the layout is {pipeline.layout!r}"
    if pipeline.layout == "directory" and pipeline.hooks.engine_running is None:
        yield (
            "hooks.engine_running is not set: whether the engine runs cannot be told, "
            "so a pull in place, an activation and a switchover want --engine-stopped"
        )
    for key, note in _UNSET_HOOKS.items():
        if getattr(pipeline.hooks, key) is None:
            yield f"hooks.{key} is not set: {note}"
    if pipeline.activation.guard == "off":
        yield "activation.guard is off: a node is activated even if the primary seems alive"


def _readable_by_others(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False  # whether it can be read at all is found out where it is used
