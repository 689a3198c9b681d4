"""Two hosts on one machine that share a bucket, and what can be seen of them from outside."""

import os
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

from ckptsync.api.client import Client
from ckptsync.daemon.snapshot import Snapshot
from ckptsync.repository import descriptor as descriptors
from ckptsync.repository import nodes
from ckptsync.repository.head import Entry, Head
from ckptsync.repository.repository import Repository, read_head
from ckptsync.repository.timelines import on_path, path
from ckptsync.stores.base import ObjectStore
from ckptsync.stores.local import LocalStore
from ckptsync.stores.s3 import S3Store
from tests.e2e.daemons import Daemon, eventually
from tests.e2e.site import Done, Site
from tests.fakes.feldera_engine import Engine
from tests.servers import S3Server

_PACE: Final = {"push_interval": "100ms", "pull_interval": "100ms", "fence_check_interval": "1s"}
"""Nobody wants to wait."""
HOLD: Final = "touch held; while ! test -e go && kill -0 $PPID; do sleep 0.02; done"
"""For a hook: it waits until it may go on, or until the daemon that runs it is gone."""
_LIMIT: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Host a, which is to be the primary, and host b, a standby."""

    a: Site
    b: Site
    store: ObjectStore
    """Their bucket."""

    @classmethod
    def on_disk(cls, home: Path) -> Self:
        bucket = home / "bucket"
        a, b = (Site.on_disk(home / name, bucket=bucket) for name in ("host-a", "host-b"))
        return cls(a=_primary(a), b=_standby(b), store=LocalStore(bucket))

    @classmethod
    def on_s3(cls, home: Path, server: S3Server, prefix: str) -> Self:
        a, b = (Site.on_s3(home / name, server, prefix) for name in ("host-a", "host-b"))
        return cls(a=_primary(a), b=_standby(b), store=S3Store(server.options(prefix)))

    def other(self, name: str) -> Site:
        """One more standby."""
        return _made(replace(self.b, home=self.b.home.with_name(name)))

    @property
    def head(self) -> Head:
        return read_head(self.store).head

    @property
    def entries(self) -> Sequence[Entry]:
        """What was ever committed; the newest first."""
        repository = Repository(store=self.store, descriptor=descriptors.read(self.store))
        return tuple(repository.entries(self.head))

    @property
    def latest(self) -> str | None:
        """The engine's id of it."""
        head = self.head
        return next((each.engine_id for each in head.checkpoints if each.id == head.latest), None)

    def everything(self) -> Mapping[str, bytes]:
        """Every object."""
        keys = [info.key for info in self.store.walk("")]
        return {key: self.store.get(key, limit=_LIMIT).data for key in keys}

    def contents(self) -> Mapping[str, bytes]:
        """Every object but the signs of life."""
        found = self.everything()
        return {key: found[key] for key in found if not key.startswith(nodes.PREFIX)}

    def await_life(self, site: Site) -> None:
        """Until a host has said in the bucket that it lives."""
        eventually(lambda: nodes.read(self.store, site.home.name))

    def silence(self, site: Site, *, seconds: float) -> None:
        """Let the heartbeat of a host in a directory be so old; the host may beat again."""
        then = datetime.now(UTC).timestamp() - seconds
        bucket = Path(self.store.name.removeprefix("file://"))
        os.utime(bucket / nodes.key(site.home.name), (then, then))

    def require_kept(self, committed: Sequence[str]) -> None:
        """Each of these checkpoints lies behind the latest one."""
        way = path(self.head)
        behind = {each.id for each in self.entries if on_path(each, way)}
        assert set(committed) <= behind, "what was reported as committed is lost"


def _primary(site: Site) -> Site:
    return _made(replace(site, sync={**site.sync, **_PACE}))


def _standby(site: Site) -> Site:
    return _made(replace(site, sync={**site.sync, **_PACE, "standby": True}))


def _made(site: Site) -> Site:
    for name in site.buckets:
        site.storage(name).parent.mkdir(parents=True, exist_ok=True)
    return site


def with_sync(site: Site, **changes: Any) -> Site:
    """The same host with other settings; None takes one away."""
    sync = {key: each for key, each in {**site.sync, **changes}.items() if each is not None}
    return configured(replace(site, sync=sync))


def with_hooks(site: Site, **commands: str) -> Site:
    """The same host with these hooks, for a shell in its home."""
    hooks = {name: ("sh", "-c", f"cd {site.home} && {each}") for name, each in commands.items()}
    return configured(replace(site, hooks={**site.hooks, **hooks}))


def configured(site: Site) -> Site:
    """With this configuration from its next start on."""
    site.write_config()
    return _made(site)


def write_checkpoint(site: Site) -> str:
    """By an engine that starts on a host, goes on from what is there, and ends."""
    with Engine(site.storage(), record=site.home / "record") as engine:
        return engine.checkpoint()


def push(site: Site) -> str:
    """One checkpoint more in the bucket; the engine's id of it."""
    id = write_checkpoint(site)
    pushed = site.run("push", "--json")
    assert pushed.code == 0, pushed.err
    return id


def ask(site: Site) -> Snapshot:
    """What the host's daemon says of its pipeline, for those who did not start it."""
    with Client(site.state, "orders") as client:
        return client.snapshot()


def warm(standby: Daemon) -> str | None:
    """The engine's id of what it could go on from."""
    held = standby.snapshot().warm
    return None if held is None else held.engine_id


def await_warm(standby: Daemon, id: str) -> None:
    """Until it could go on from this checkpoint."""
    eventually(lambda: warm(standby) == id)


def events(of: Daemon, name: str) -> Sequence[Mapping[str, Any]]:
    return [each for each in of.events if each["event"] == name]


def kind(done: Done) -> str:
    name: str = done.document["error"]["kind"]
    return name


def tree(root: Path, *, leave_out: Container[str] = ()) -> Mapping[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.name not in leave_out
    }
