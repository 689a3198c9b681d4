"""Heartbeats: what each node says of itself in the bucket. A courtesy; nothing safe rests on it."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from pydantic import AwareDatetime

from ckptsync.errors import IntegrityError, NotFound, UnsupportedFormat
from ckptsync.model import Role
from ckptsync.repository.head import Count, Id
from ckptsync.repository.untrusted import One, Record, parse
from ckptsync.stores.base import ObjectInfo, ObjectStore

PREFIX: Final = "nodes/"
LIMIT: Final = 64 << 10
FRESH: Final = timedelta(seconds=30)
"""How long a heartbeat speaks for a living node, by the store's clock."""


class Heartbeat(Record):
    format: Literal["ckptsync/node"] = "ckptsync/node"
    version: One = 1
    node: str
    node_id: str
    machine: str
    """Differs between a host and a copy of it."""
    role: Role
    epoch: Count
    """The highest it has seen."""
    warm: Id | None
    """The newest checkpoint that it could go on from without the bucket."""
    pulling: Id | None
    paused: bool = False
    """Whether an operator has told it to push and pull nothing by itself."""
    at: AwareDatetime
    """By its own clock; how old it is, the store tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenNode:
    node: str
    heartbeat: Heartbeat | None
    """None where what lies there cannot be read: something wrote it, nobody knows what."""
    modified: datetime
    """When it was written, by the store's clock."""
    age: timedelta
    """By the store's clock. Negative where that was set back."""

    @property
    def fresh(self) -> bool:
        return self.age < FRESH


def key(node: str) -> str:
    return f"{PREFIX}{node}.json"


def write(store: ObjectStore, heartbeat: Heartbeat) -> None:
    store.put(key(heartbeat.node), heartbeat.model_dump_json().encode())


def read(store: ObjectStore, node: str) -> SeenNode | None:
    """None where there is none."""
    try:
        info, now = store.stat(key(node)), store.now()
        return _seen(store, info, now)
    except NotFound:
        return None


def read_all(store: ObjectStore) -> tuple[SeenNode, ...]:
    """In order of their names."""
    found = {info.key: info for info in store.walk(PREFIX)}
    now = store.now()
    nodes = []
    for each in sorted(found):
        with suppress(NotFound):  # gone since it was listed
            nodes.append(_seen(store, found[each], now))
    return tuple(nodes)


def _seen(store: ObjectStore, info: ObjectInfo, now: datetime) -> SeenNode:
    try:
        data = store.get(info.key, limit=LIMIT).data
        heartbeat = parse(Heartbeat, data, f"{store.name}/{info.key}")
    except (IntegrityError, UnsupportedFormat):
        heartbeat = None
    node = info.key.removeprefix(PREFIX).removesuffix(".json")
    return SeenNode(node=node, heartbeat=heartbeat, modified=info.modified, age=now - info.modified)
