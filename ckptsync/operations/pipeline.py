"""One pipeline on this node, with everything an operation on it needs."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ckptsync.errors import CkptsyncError
from ckptsync.hashing import Hash
from ckptsync.operations.transfers import Transfers
from ckptsync.repository.epochs import Node
from ckptsync.repository.register import Register
from ckptsync.sources.base import Layout
from ckptsync.state.capabilities import Capabilities
from ckptsync.state.database import Database
from ckptsync.state.identity import Identity
from ckptsync.state.manifests import ManifestCache
from ckptsync.state.statcache import StatCache
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
    capabilities: Capabilities
    missing: CkptsyncError | None = None
    """Why these tables are empty ones in memory, where the database could not be opened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    node: Node
    store: ObjectStore
    read_store: ObjectStore | None
    """Of read_bucket: looked at while the bucket is empty, never written."""
    layout: Layout
    storage_path: Path
    work_path: Path
    state: LocalState
    creation: Creation
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
