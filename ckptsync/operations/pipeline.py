"""One pipeline on this node, with everything an operation on it needs."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from ckptsync.errors import CkptsyncError
from ckptsync.hashing import Hash
from ckptsync.hooks import Hooks
from ckptsync.operations.transfers import Transfers
from ckptsync.repository.epochs import Node
from ckptsync.repository.register import Register
from ckptsync.repository.retention import Policy
from ckptsync.sources.base import Layout
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """What a repository is created with; later its descriptor says."""

    hash: Hash
    chunk_size: int
    pack_below: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalState:
    """The tables of one pipeline and bucket."""

    database: Database
    identity: Identity
    stat_cache: StatCache
    manifests: ManifestCache
    warm: WarmTable
    capabilities: Capabilities
    roles: Roles
    activations: Activations
    handovers: Handovers
    history: History
    missing: CkptsyncError | None = None
    """Why these tables are empty ones in memory, where the database could not be opened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Takeover:
    """What an activation may do, and when an engine may start."""

    guard: bool = True
    """Refuse to displace a primary that seems alive."""
    on_pull_failure: Literal["fail", "local"] = "fail"
    max_staleness: timedelta = timedelta(minutes=15)
    """How old a local checkpoint may be that is activated without the bucket's latest."""
    start_unverified: bool = True
    """Let the engine of a node that was primary start while the bucket does not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandbySettings:
    initially: bool = False
    """Whether a node that never had a role begins as a standby."""
    start_from: str | None = None
    """LATEST or an engine's id; None: the start of a primary pulls nothing."""
    required: bool = False
    """Fail where there is no checkpoint to be had."""
    warm_keep: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    node: Node
    machine: str
    """Differs between this host and a copy of it."""
    store: ObjectStore
    read_store: ObjectStore | None
    """Of read_bucket: looked at while the bucket is empty, never written."""
    layout: Layout
    storage_path: Path
    work_path: Path
    state: LocalState
    creation: Creation
    hooks: Hooks
    takeover: Takeover
    standby: StandbySettings
    retention: Policy
    on_role: Callable[[RoleChange], None]
    """Told of each change of this node's role, after it was remembered."""
    place: str
    """The bucket and the server it is on: what a probe's result holds for."""
    fencing: bool
    """False: work on a store that ignores conditions, at the operator's own risk."""
    parallel: int
    memory: int
    """Bytes of transfer buffers."""
    now: Callable[[], datetime]
    """The local clock: for what only saves work or informs, never for what is safe."""
    stop: threading.Event

    def transfers(self, chunk_size: int) -> Transfers:
        """A pool whose buffers hold a chunk each and take no more than `memory` together."""
        parallel = max(1, min(self.parallel, self.memory // chunk_size))
        return Transfers(parallel=parallel, buffer_size=chunk_size, stop=self.stop)

    def register(self) -> Register:
        return Register(store=self.store, identity=self.state.identity, wait=self.stop.wait)
