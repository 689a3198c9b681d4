"""`head.json`: the one mutable object, and the only thing that says what exists.

Every change of a repository is "read head, write the new head only if it has not moved".
"""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import AwareDatetime, Field, StringConstraints, model_validator

from ckptsync.errors import IntegrityError
from ckptsync.model import CheckpointId, Engine
from ckptsync.repository import keys
from ckptsync.repository.untrusted import One, Record, parse

LIMIT: Final = 8 << 20
"""Bytes of a stored head."""
MAX_PAGE_ENTRIES: Final = 1024

Hex256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Decimal = Annotated[str, StringConstraints(pattern=r"^-?[0-9]{1,20}$")]
"""An integer that may pass 2^53, which not every JSON reader survives."""
Id = Annotated[CheckpointId, StringConstraints(pattern=f"^{keys.CHECKPOINT_PATTERN.pattern}$")]
Seq = Annotated[int, Field(ge=1, lt=1 << 32)]
TimelineId = Annotated[int, Field(ge=1, lt=1 << 16)]
Epoch = Annotated[int, Field(ge=1, lt=1 << 63)]
Count = Annotated[int, Field(ge=0, lt=1 << 63)]
"""Of bytes or things; also a generation of sweeps."""


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
    timeline: TimelineId
    checkpoint: Id | None


class Timeline(Record):
    id: TimelineId
    parent: Fork | None = None
    epoch: Epoch
    node: str | None = None
    """That began it; for people."""
    reason: str
    at: AwareDatetime


class ManifestRef(Record):
    digest: Hex256
    size: Count


class Entry(Record):
    """A committed checkpoint."""

    id: Id
    seq: Seq
    timeline: TimelineId
    epoch: Epoch
    engine_id: str
    step: Decimal
    records: Decimal | None = None
    lineage: str | None = None
    fingerprint: Decimal | None = None
    at: AwareDatetime
    """When it was committed, by the store's clock."""
    manifest: ManifestRef
    bytes: Count
    new_bytes: Count
    state: Literal["live", "retired", "bad"] = "live"
    retired_at: AwareDatetime | None = None
    """When it was retired, by the store's clock; None unless it is."""
    damaged: tuple[str, ...] = ()

    def is_of(self, engine: Engine) -> bool:
        """Whether this is that very checkpoint: names may be used again, fingerprints tell."""
        fingerprint = None if engine.fingerprint is None else str(engine.fingerprint)
        return (self.engine_id, self.fingerprint) == (engine.id, fingerprint)


class Page(Record):
    """A catalog object that holds older entries."""

    key: Annotated[str, StringConstraints(pattern=r"^catalog/[0-9a-f]{32}\.json\.zst$")]
    digest: Hex256
    seq: tuple[Seq, Seq]
    """Of its first entry and its last."""
    count: Annotated[int, Field(ge=1, le=MAX_PAGE_ENTRIES)]


class CondemnedList(Record):
    """Keys that a sweep may delete at any moment."""

    generation: Count
    key: str
    digest: Hex256
    done: bool = False


class Sweep(Record):
    generation: Count = 0
    lists: tuple[CondemnedList, ...] = ()


class Keep(Record):
    checkpoint: Id
    by: str
    until: AwareDatetime | None = None


class Head(Record):
    format: Literal["ckptsync/head"] = "ckptsync/head"
    version: One = 1
    repository_id: str
    revision: Annotated[int, Field(ge=1, lt=1 << 63)]
    """Strictly increases, so that no two heads are ever the same bytes."""
    write_id: str
    epoch: Epoch
    writer: Writer
    timeline: TimelineId
    latest: Id | None
    next_seq: Seq
    timelines: tuple[Timeline, ...]
    checkpoints: tuple[Entry, ...] = ()
    """The newer ones, in order of seq; older ones lie in `pages`."""
    pages: tuple[Page, ...] = ()
    keeps: dict[str, Keep] = Field(default_factory=dict)
    policy: dict[str, Any] | None = None
    sweep: Sweep = Sweep()

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        ids = [timeline.id for timeline in self.timelines]
        if len(set(ids)) < len(ids) or self.timeline not in ids:
            raise ValueError("the active timeline is not one of the timelines, each there once")
        if len({page.key for page in self.pages}) < len(self.pages):
            raise ValueError("a page is named twice")
        last = 0
        for page in self.pages:
            if not last < page.seq[0] <= page.seq[1]:
                raise ValueError("the pages are not in order of seq, each apart from the others")
            last = page.seq[1]
        if max(last, *(entry.seq for entry in self.checkpoints), 0) >= self.next_seq:
            raise ValueError("next_seq is not beyond the seq of every checkpoint")
        return self

    def entry(self, checkpoint: CheckpointId) -> Entry | None:
        """One of `checkpoints`; those in pages are not looked at."""
        return next((entry for entry in self.checkpoints if entry.id == checkpoint), None)


def encode(head: Head) -> bytes:
    """Raises IntegrityError if no reader would take what came of it."""
    data = head.model_dump_json().encode()
    if len(data) > LIMIT:
        raise IntegrityError(
            f"head.json of repository {head.repository_id} would take {len(data)} bytes; "
            f"{LIMIT} are allowed",
            hint="'ckptsync list --remote' shows what it holds; look for ids of unusual length",
        )
    decode(data, f"the head.json to be written for repository {head.repository_id}")
    return data


def decode(data: bytes, what: str) -> Head:
    """Raises IntegrityError, UnsupportedFormat."""
    return parse(Head, data, what)
