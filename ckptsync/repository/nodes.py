"""Heartbeats: what each node says of itself in the bucket. A courtesy; nothing safe rests on it."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from pydantic import AwareDatetime

from ckptsync.errors import IntegrityError, NotFound, UnsupportedFormat
from ckptsync.model import CheckpointId, Role
from ckptsync.repository.head import Count, Id
from ckptsync.repository.untrusted import One, Record, parse
from ckptsync.stores.base import ObjectInfo, ObjectStore

PREFIX: Final = "nodes/"
LIMIT: Final = 64 << 10
FRESH: Final = timedelta(seconds=30)
"""How long a heartbeat speaks for a living node, by the store's clock."""
IN_USE_FOR: Final = timedelta(hours=2)
"""How long what a heartbeat names is left alone: a node may be cut off, and still go on from it."""


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


def in_use(seen: Iterable[SeenNode]) -> Mapping[CheckpointId, str]:
    """Checkpoints that nodes hold ready or are fetching, each with the name of one such node.

    Those that a heartbeat younger than IN_USE_FOR names; one from the future counts. Raises
    IntegrityError if such a heartbeat cannot be read: nobody knows what it names.
    """
    held: dict[CheckpointId, str] = {}
    for each in seen:
        if each.age >= IN_USE_FOR:
            continue
        if each.heartbeat is None:
            raise IntegrityError(
                f"{key(each.node)} cannot be read, so which checkpoints node '{each.node}' uses "
                "is not known",
                hint=f"if no node of that name is at work any more, delete {key(each.node)}; "
                "else upgrade this node, or wait until that one has written it anew",
            )
        for checkpoint in (each.heartbeat.warm, each.heartbeat.pulling):
            if checkpoint is not None:
                held.setdefault(checkpoint, each.node)
    return held


def _seen(store: ObjectStore, info: ObjectInfo, now: datetime) -> SeenNode:
    try:
        data = store.get(info.key, limit=LIMIT).data
        heartbeat = parse(Heartbeat, data, f"{store.name}/{info.key}")
    except (IntegrityError, UnsupportedFormat):
        heartbeat = None
    node = info.key.removeprefix(PREFIX).removesuffix(".json")
    return SeenNode(node=node, heartbeat=heartbeat, modified=info.modified, age=now - info.modified)
