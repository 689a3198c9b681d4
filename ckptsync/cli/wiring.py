"""From the configuration to objects. Nothing beyond this module knows a Config."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import structlog
from structlog.contextvars import bound_contextvars

from ckptsync.cli.offered import location_fault
from ckptsync.config.credentials import credentials
from ckptsync.config.location import Location
from ckptsync.config.model import Config, Sync
from ckptsync.config.providers import Scheme
from ckptsync.errors import CkptsyncError, ConfigError
from ckptsync.hooks import Hook, Hooks
from ckptsync.operations.pipeline import Creation, LocalState, Pipeline, StandbySettings, Takeover
from ckptsync.operations.roles import announce
from ckptsync.repository.epochs import Node
from ckptsync.repository.retention import Policy
from ckptsync.sources.base import Layout
from ckptsync.sources.layouts import Options, layout
from ckptsync.state.activation import Activations
from ckptsync.state.capabilities import Capabilities
from ckptsync.state.database import Database, state_path
from ckptsync.state.history import History
from ckptsync.state.identity import Identity
from ckptsync.state.lock import PipelineLock, lock_path
from ckptsync.state.machine import machine
from ckptsync.state.manifests import ManifestCache
from ckptsync.state.role import RoleChange, Roles
from ckptsync.state.statcache import StatCache
from ckptsync.state.switchover import Handovers
from ckptsync.state.warm import WarmTable
from ckptsync.stores.base import ObjectStore
from ckptsync.stores.local import LocalStore
from ckptsync.stores.retry import Backoff, Retrying
from ckptsync.stores.s3 import S3Options, S3Store
from ckptsync.units import parse_duration

log = structlog.get_logger()

PATIENT: Final = Backoff()
HASTY: Final = Backoff(attempts=2)
"""For somebody who waits to be told that a store is away; time-outs are short then, too."""
_PATIENCE: Final = {
    "connect_timeout": parse_duration("3s"),
    "read_timeout": parse_duration("10s"),
}


@contextmanager
def wire(
    config: Config,
    name: str,
    stop: threading.Event,
    *,
    backoff: Backoff = PATIENT,
    reading: bool = False,
    create: bool = True,
) -> Iterator[Pipeline]:
    """A pipeline for one command: what is logged names it, and hooks are told of roles at once.

    Raises what `opened` raises.
    """
    hooks = _hooks(config, name)
    on_role = partial(announce, hooks, stop=stop)
    with (
        bound_contextvars(pipeline=name),
        opened(
            config, name, stop, backoff=backoff, reading=reading, create=create, on_role=on_role
        ) as pipeline,
    ):
        yield pipeline


@contextmanager
def opened(
    config: Config,
    name: str,
    stop: threading.Event,
    *,
    backoff: Backoff = PATIENT,
    reading: bool = False,
    create: bool = True,
    on_role: Callable[[RoleChange], None],
) -> Iterator[Pipeline]:
    """A pipeline of the configuration; its stores and its database are closed at the end.

    No store is asked anything. Who is only `reading` goes on, with a warning, where the database
    cannot be opened or is damaged. Where there is none, and it is not to be created, nothing is
    remembered.

    Raises ConfigError; PermissionRefused; unless reading, what else opening a Database can raise.
    """
    settings = config.pipelines[name]
    sync = hurried(settings.sync) if backoff is HASTY else settings.sync
    with ExitStack() as open_ones:

        def store(location: Location) -> ObjectStore:
            made = Retrying(_store(location, sync), backoff, stop.wait)
            return open_ones.enter_context(closing(made))

        bucket = store(sync.bucket)
        read_bucket = None if sync.read_bucket is None else store(sync.read_bucket)
        path = state_path(config.daemon.state_dir, name, str(sync.bucket))
        state = _state(open_ones, path, reading=reading, create=create)
        yield Pipeline(
            node=Node(name=config.daemon.node, pipeline=name),
            machine=machine(path),
            store=bucket,
            read_store=read_bucket,
            layout=local_layout(config, name, stop),
            storage_path=settings.storage_path,
            work_path=settings.work_path or settings.storage_path.parent / f".ckptsync-{name}",
            state=state,
            creation=Creation(
                hash=settings.repository.hash,
                chunk_size=settings.repository.chunk_size,
                pack_below=settings.repository.pack_below,
            ),
            hooks=_hooks(config, name),
            takeover=Takeover(
                guard=settings.activation.guard == "refuse",
                on_pull_failure=settings.activation.on_pull_failure,
                max_staleness=settings.activation.max_staleness,
                start_unverified=settings.activation.start_unverified,
            ),
            standby=StandbySettings(
                initially=sync.standby,
                start_from=sync.start_from_checkpoint,
                required=sync.fail_if_no_checkpoint,
                warm_keep=sync.warm_keep,
            ),
            retention=Policy(
                min_count=sync.retention_min_count,
                min_age=sync.retention_min_age,
                hourly=sync.retention.hourly,
                daily=sync.retention.daily,
                weekly=sync.retention.weekly,
                monthly=sync.retention.monthly,
            ),
            on_role=on_role,
            place=f"{sync.bucket} at {sync.endpoint or 'the default endpoint'}",
            fencing=sync.fencing == "on",
            parallel=sync.transfers,
            memory=sync.memory,
            now=lambda: datetime.now(UTC),
            stop=stop,
        )


def hurried(sync: Sync) -> Sync:
    """With time-outs of seconds: below what systemd gives a unit to start."""
    shorter = {key: min(getattr(sync, key), most) for key, most in _PATIENCE.items()}
    return sync.model_copy(update=shorter)


def lock(config: Config, name: str) -> PipelineLock:
    return PipelineLock(lock_path(config.daemon.state_dir, name))


def local_layout(config: Config, name: str, stop: threading.Event | None = None) -> Layout:
    """Raises ConfigError if there is no such layout."""
    settings = config.pipelines[name]
    hooks = _hooks(config, name)
    asked = partial(hooks.engine_running, stop=stop)
    return layout(
        settings.layout,
        Options(
            root=settings.storage_path,
            marker=settings.directory.marker,
            quiet=settings.directory.quiet,
            engine_running=asked if hooks.has(Hook.ENGINE_RUNNING) else None,
        ),
    )


def _hooks(config: Config, name: str) -> Hooks:
    pipeline = config.pipelines[name]
    said = {hook: getattr(pipeline.hooks, hook) for hook in Hook}
    return Hooks(
        commands={hook: command for hook, command in said.items() if command is not None},
        timeout=pipeline.hooks.timeout,
        environment={
            "CKPTSYNC_PIPELINE": name,
            "CKPTSYNC_NODE": config.daemon.node,
            "CKPTSYNC_STORAGE_PATH": str(pipeline.storage_path),
            "CKPTSYNC_CONFIG": str(config.path.absolute()),
        },
    )


def _state(opened: ExitStack, path: Path, *, reading: bool, create: bool) -> LocalState:
    try:
        in_memory = not create and _is_absent(path)
        opening = Database.in_memory() if in_memory else Database(path)
        database = opened.enter_context(closing(opening))
        if reading:
            database.require_sound()
        return _tables(database)
    except CkptsyncError as error:
        if not reading:
            raise
        log.warning("state.unavailable", error=str(error))
        return _tables(opened.enter_context(closing(Database.in_memory())), missing=error)


def _is_absent(path: Path) -> bool:
    try:
        path.stat()
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return False


def _tables(database: Database, *, missing: CkptsyncError | None = None) -> LocalState:
    return LocalState(
        database=database,
        identity=Identity(database),
        stat_cache=StatCache(database),
        manifests=ManifestCache(database),
        warm=WarmTable(database),
        capabilities=Capabilities(database),
        roles=Roles(database),
        activations=Activations(database),
        handovers=Handovers(database),
        history=History(database),
        missing=missing,
    )


def _store(location: Location, sync: Sync) -> ObjectStore:
    if (fault := location_fault(location)) is not None:
        raise ConfigError(f"{location} {fault}")
    if location.scheme is Scheme.FILE:
        return LocalStore(location.path)
    keys = credentials(sync)
    return S3Store(
        S3Options(
            bucket=location.bucket,
            prefix=location.prefix,
            region=sync.region,
            endpoint=sync.endpoint,
            path_style=sync.path_style,
            access_key=None if keys is None else keys.access_key.get_secret_value(),
            secret_key=None if keys is None else keys.secret_key.get_secret_value(),
            server_side_encryption=sync.server_side_encryption,
            kms_key_id=sync.kms_key_id,
            storage_class=sync.storage_class,
            max_connections=sync.transfers + 1,  # the transfers', and the one of who awaits them
            connect_timeout=sync.connect_timeout,
            read_timeout=sync.read_timeout,
        )
    )
