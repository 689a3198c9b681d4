"""`head.json`: the one mutable object, and the only thing that says what exists.

Every change of a repository is "read head, write the new head only if it has not moved".
"""

from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from ckptsync.model import CheckpointId, Engine
from ckptsync.repository import keys
from ckptsync.repository.untrusted import Record, parse

LIMIT: Final = 8 << 20
"""Bytes of a stored head."""

Hex256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Decimal = Annotated[str, StringConstraints(pattern=r"^-?[0-9]{1,20}$")]
"""An integer that may pass 2^53, which not every JSON reader survives."""
Id = Annotated[CheckpointId, StringConstraints(pattern=f"^{keys.CHECKPOINT_PATTERN.pattern}$")]


class Writer(Record):
    """Who may commit. `instance` is the fencing identity; the rest is for people."""

    node: str
    node_id: str
    instance: str
    request: str | None = None
    write_id: str
    """Of the last swap that the writer itself made."""
    state: Literal["active", "activating", "released"] = "active"
    released_to: str | None = None
    since: AwareDatetime


class Fork(Record):
    timeline: int
    checkpoint: Id | None


class Timeline(Record):
    id: int
    parent: Fork | None = None
    epoch: int
    reason: str
    at: AwareDatetime


class ManifestRef(Record):
    digest: Hex256
    size: Annotated[int, Field(ge=0)]


class Entry(Record):
    """A committed checkpoint."""

    id: Id
    seq: int
    timeline: int
    epoch: int
    engine_id: str
    step: Decimal
    records: Decimal | None = None
    lineage: str | None = None
    fingerprint: Decimal | None = None
    at: AwareDatetime
    """When it was committed, by the store's clock."""
    manifest: ManifestRef
    bytes: int
    new_bytes: int
    state: Literal["live", "retired", "bad"] = "live"
    damaged: tuple[str, ...] = ()

    def is_of(self, engine: Engine) -> bool:
        """Whether this is that very checkpoint: names may be used again, fingerprints tell."""
        fingerprint = None if engine.fingerprint is None else str(engine.fingerprint)
        return (self.engine_id, self.fingerprint) == (engine.id, fingerprint)


class Page(Record):
    """A catalog object that holds older entries."""

    key: Annotated[str, StringConstraints(pattern=r"^catalog/[0-9a-f]{32}\.json\.zst$")]
    digest: Hex256
    seq: tuple[int, int]
    count: int


class CondemnedList(Record):
    """Keys that a sweep may delete at any moment."""

    generation: int
    key: str
    digest: Hex256
    done: bool = False


class Sweep(Record):
    generation: int = 0
    lists: tuple[CondemnedList, ...] = ()


class Keep(Record):
    checkpoint: Id
    by: str
    until: AwareDatetime | None = None


class Head(Record):
    format: Literal["ckptsync/head"] = "ckptsync/head"
    version: Literal[1] = 1
    repository_id: str
    revision: Annotated[int, Field(ge=1)]
    """Strictly increases, so that no two heads are ever the same bytes."""
    write_id: str
    epoch: Annotated[int, Field(ge=1)]
    writer: Writer
    timeline: int
    latest: Id | None
    next_seq: Annotated[int, Field(ge=1)]
    timelines: tuple[Timeline, ...]
    checkpoints: tuple[Entry, ...] = ()
    """The newer ones, in order of seq; older ones lie in `pages`."""
    pages: tuple[Page, ...] = ()
    keeps: dict[str, Keep] = Field(default_factory=dict)
    policy: dict[str, Any] | None = None
    sweep: Sweep = Sweep()

    def entry(self, checkpoint: CheckpointId) -> Entry | None:
        """One of `checkpoints`; those in pages are not looked at."""
        return next((entry for entry in self.checkpoints if entry.id == checkpoint), None)


def encode(head: Head) -> bytes:
    return head.model_dump_json().encode()


def decode(data: bytes, what: str) -> Head:
    """Raises IntegrityError, UnsupportedFormat."""
    return parse(Head, data, what)
