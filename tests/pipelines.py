"""Hosts to test with: a disk, a state directory, and a pipeline put together anew for each process.

What a host wrote to its disk and its state outlives every run, as it would outlive a process.
"""

import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

from ckptsync.hashing import Hash
from ckptsync.hooks import Hook, Hooks
from ckptsync.model import Progress, ignore
from ckptsync.operations.keep import KeptAs, LetGo, keep, unkeep
from ckptsync.operations.orders import Keep, Prune, Unkeep
from ckptsync.operations.pipeline import (
    Creation,
    LocalState,
    Pipeline,
    StandbySettings,
    Takeover,
)
from ckptsync.operations.prune import PruneReport, prune
from ckptsync.operations.pull import PullReport, Restored, Wish, pull
from ckptsync.operations.push import PushReport, push
from ckptsync.operations.resolve import LATEST
from ckptsync.repository.epochs import Node
from ckptsync.repository.head import Entry
from ckptsync.repository.retention import Policy
from ckptsync.sources.base import Layout
from ckptsync.sources.directory import Directory
from ckptsync.sources.feldera import Feldera
from ckptsync.state.activation import Activations
from ckptsync.state.capabilities import Capabilities
from ckptsync.state.database import Database
from ckptsync.state.history import History
from ckptsync.state.identity import Identity
from ckptsync.state.manifests import ManifestCache
from ckptsync.state.role import RoleChange, Roles
from ckptsync.state.statcache import StatCache
from ckptsync.state.switchover import Handovers
from ckptsync.state.warm import WarmTable
from ckptsync.stores.base import ObjectStore
from ckptsync.stores.memory import MemoryStore

KIB: Final = 1 << 10
MIB: Final = 1 << 20
CHUNK: Final = 4 * MIB
"""The least that a repository allows."""
PACK_BELOW: Final = 4 * KIB
"""Small, so that a small checkpoint has chunks too."""
_LONG_AGO_NS: Final = 1_700_000_000_123_456_789  # settled, so the stat cache may keep it


class Impatient(threading.Event):
    """A stop that nobody waits for: every pause is over at once."""

    def wait(self, timeout: float | None = None) -> bool:
        del timeout
        return self.is_set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A machine that has one pipeline. Nothing is made on its disk before it is used."""

    home: Path
    layout: str = "directory"
    node: str = "host-a"
    pipeline: str = "orders"
    parallel: int = 2
    chunk_size: int = CHUNK
    pack_below: int = PACK_BELOW
    fencing: bool = True
    hash: Hash = Hash.BLAKE3
    place: str | None = None
    """Where the bucket is, if its name does not tell."""
    hooks: Mapping[Hook, tuple[str, ...]] = field(default_factory=dict)
    takeover: Takeover = field(default_factory=Takeover)
    standby: StandbySettings = field(default_factory=StandbySettings)
    retention: Policy = field(
        default_factory=lambda: Policy(min_count=10, min_age=timedelta(days=30))
    )
    machine: str | None = None
    """What tells it from a copy of it; by default where its disk is."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    roles: list[RoleChange] = field(default_factory=list)
    """Those that any process of this host was told of."""

    @property
    def root(self) -> Path:
        """The storage root of its engine."""
        return self.home / "data"

    @property
    def work(self) -> Path:
        return self.home / ".ckptsync-data"

    @contextmanager
    def running(
        self, store: ObjectStore, read_store: ObjectStore | None = None
    ) -> Iterator[Pipeline]:
        """The life of one process: everything is opened anew and closed at the end."""
        database = Database(self.home / "state.sqlite")
        try:
            yield Pipeline(
                node=Node(name=self.node, pipeline=self.pipeline),
                machine=self.machine or f"machine of {self.home}",
                store=store,
                read_store=read_store,
                layout=_layout(self.layout, self.root),
                storage_path=self.root,
                work_path=self.work,
                state=LocalState(
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
                ),
                creation=Creation(
                    hash=self.hash, chunk_size=self.chunk_size, pack_below=self.pack_below
                ),
                hooks=Hooks(commands=self.hooks, timeout=timedelta(seconds=30), environment={}),
                takeover=self.takeover,
                standby=self.standby,
                retention=self.retention,
                on_role=self.roles.append,
                place=self.place or store.name,
                fencing=self.fencing,
                parallel=self.parallel,
                memory=self.parallel * self.chunk_size,
                now=self.now,
                stop=Impatient(),
            )
        finally:
            database.close()

    def push(
        self,
        store: ObjectStore,
        *,
        engine_id: str | None = None,
        new_timeline: bool = False,
        progress: Progress = ignore,
    ) -> PushReport:
        with self.running(store) as pipeline:
            return push(pipeline, engine_id=engine_id, new_timeline=new_timeline, progress=progress)

    def pull(
        self,
        store: ObjectStore,
        wish: Wish | None = None,
        *,
        read_store: ObjectStore | None = None,
        progress: Progress = ignore,
    ) -> PullReport:
        """The latest checkpoint into the storage, unless another is wished for."""
        with self.running(store, read_store) as pipeline:
            return pull(pipeline, wish or wanted(), progress=progress)

    def restore(
        self, store: ObjectStore, wish: Wish | None = None, *, read_store: ObjectStore | None = None
    ) -> Restored:
        """A pull that must end with a checkpoint from a bucket."""
        report = self.pull(store, wish, read_store=read_store)
        assert isinstance(report, Restored), report
        return report

    def prune(
        self,
        store: ObjectStore,
        *,
        orphans: bool = False,
        bad: bool = False,
        insist: bool = False,
        scheduled: bool = False,
        progress: Progress = ignore,
    ) -> PruneReport:
        order = Prune(orphans=orphans, bad=bad, insist=insist, scheduled=scheduled)
        with self.running(store) as pipeline:
            return prune(pipeline, order, progress=progress)

    def keep(
        self,
        store: ObjectStore,
        checkpoint: str,
        *,
        name: str | None = None,
        until: datetime | None = None,
    ) -> KeptAs:
        with self.running(store) as pipeline:
            return keep(pipeline, Keep(checkpoint=checkpoint, name=name, until=until, by="a test"))

    def unkeep(self, store: ObjectStore, name: str) -> LetGo:
        with self.running(store) as pipeline:
            return unkeep(pipeline, Unkeep(name=name))

    def checkpoint(
        self, name: str, files: Mapping[str, bytes], *, directories: tuple[str, ...] = ()
    ) -> Path:
        """Write a checkpoint of the layout `directory`, settled long ago."""
        return write_tree(self.root / name, files, directories=directories)

    def push_new(self, name: str, store: ObjectStore) -> Entry:
        """Write a small checkpoint, seeded with its name, and push it."""
        self.checkpoint(name, a_small_checkpoint(name))
        return self.push(store).entry

    def go_back_to(self, name: str, store: ObjectStore) -> None:
        """Lose the disk and pull an older checkpoint."""
        shutil.rmtree(self.root)
        self.restore(store, wanted(name))

    def copied_to(self, home: Path) -> Self:
        """The same machine once more, with everything on its disk."""
        shutil.copytree(self.home, home, copy_function=shutil.copy2)
        return replace(self, home=home, roles=list(self.roles))


def wanted(
    checkpoint: str = LATEST,
    *,
    explicit: bool = True,
    to: Path | None = None,
    force: bool = False,
    required: bool = False,
) -> Wish:
    """A wish of an operator who has stopped the engine."""
    return Wish(
        checkpoint=checkpoint,
        explicit=explicit,
        to=to,
        force=force,
        engine_stopped=True,
        required=required,
    )


def write_tree(top: Path, files: Mapping[str, bytes], *, directories: tuple[str, ...] = ()) -> Path:
    """Write files below a directory, all of one modification time long ago."""
    top.mkdir(parents=True)
    for path, data in files.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_bytes(data)
        os.utime(top / path, ns=(_LONG_AGO_NS, _LONG_AGO_NS))
    for path in directories:
        (top / path).mkdir(parents=True)
    return top


def noise(size: int, seed: object = 0) -> bytes:
    """Bytes that do not compress, the same for the same seed."""
    return random.Random(f"{seed}").randbytes(size)


def a_small_checkpoint(seed: object = 0) -> dict[str, bytes]:
    """A file of each kind: empty, packed, compressible, in a chunk of its own; two alike."""
    return {
        "empty": b"",
        "one": noise(1, seed),
        "deep/er/é": noise(700, (seed, "é")),
        "deep/twin": noise(700, (seed, "é")),
        "below": noise(PACK_BELOW - 1, (seed, "below")),
        "chunk": noise(PACK_BELOW, (seed, "chunk")),
        "text": b"again and again " * 1000,
    }


def contents(top: Path) -> dict[str, tuple[bytes, int, int]]:
    """Data, mode and time of every file; empty directories end with a `/`."""
    found: dict[str, tuple[bytes, int, int]] = {}
    for path in sorted(top.rglob("*")):
        name = path.relative_to(top).as_posix()
        if path.is_dir():
            if not any(path.iterdir()):
                found[f"{name}/"] = (b"", 0, 0)
            continue
        facts = path.lstat()
        found[name] = (path.read_bytes(), facts.st_mode & 0o777, facts.st_mtime_ns)
    return found


def snapshot(store: ObjectStore) -> dict[str, bytes]:
    """Every object, but for the scratch of the probe."""
    return {
        info.key: store.get(info.key, limit=1 << 30).data
        for info in store.walk("")
        if not info.key.startswith("probe/")
    }


def copy_of(store: MemoryStore) -> MemoryStore:
    """A store with the same objects, versions and clock, which goes its own way from here."""
    copy = MemoryStore(store.name, clock=store._clock)
    copy._objects = dict(store._objects)
    copy._writes = store._writes
    return copy


def _layout(name: str, root: Path) -> Layout:
    return Feldera(root) if name == "feldera" else Directory(root, quiet=timedelta(0))
