"""What the daemon tells of a pipeline at one moment. All of it has a form in JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ckptsync.daemon.request import Phase, RequestState
from ckptsync.failure import Failure
from ckptsync.model import CheckpointId, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request, and how it stands."""

    id: str
    kind: str
    """The operator's word: push, pull."""
    state: Phase
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    """None until it is done or failed."""
    moved: int
    """Bytes, so far or in all; it goes down when an attempt starts over."""
    result: Mapping[str, Any] | None
    """What it came to, as the command tells it; only of what is done."""
    failure: Failure | None
    """Only of what failed."""

    @classmethod
    def of(cls, request: RequestState) -> "Asked":
        return cls(
            id=request.id,
            kind=request.kind,
            state=request.state,
            created_at=request.created_at,
            started_at=request.started_at,
            finished_at=request.finished_at,
            moved=request.moved,
            result=request.result if isinstance(request.result, Mapping) else None,
            failure=None if request.error is None else Failure.of(request.error),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """What the daemon last heard of the bucket."""

    answered_at: datetime | None
    """None: it has not answered since the daemon started."""
    failure: Failure | None
    """Why it did not answer when it was last asked; None if it did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Warm:
    """The newest checkpoint that a standby could go on from at once."""

    checkpoint: CheckpointId
    engine_id: str
    step: str
    committed_at: datetime
    complete_at: datetime
    """When the last of it was verified here, by the local clock."""
    source: str
    """The bucket that it came from."""
    lag_seconds: float
    """From its commit to that of the bucket's latest, as of the last contact; 0 if it is that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Switching:
    """A planned switchover that this node drives, or waits in for the other one to take over."""

    to: str
    deadline: datetime
    """By the local clock: after it this node goes on."""
    released: bool
    """Whether the other node may take over already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    pipeline: str
    node: str
    version: str
    """Of the daemon's ckptsync, which may differ from that of who asks."""
    pid: int
    started_at: datetime
    role: Role
    since: datetime | None
    """None where the node never had a role, so that the configuration says it."""
    reason: str | None
    problem: str | None
    epoch: int
    """The highest that this node has seen."""
    paused_since: datetime | None
    contact: Contact
    running: Asked | None
    queued: tuple[Asked, ...]
    """In the order in which they will run."""
    last_start_failure: Failure | None
    """Why this node could not find out yet what it is; None once it has."""
    last_push_failure: Failure | None
    """None once a push has succeeded again."""
    last_pull_failure: Failure | None
    next_push_at: datetime | None
    """None where none is due: it is paused, or no primary, or pushes on request only."""
    next_pull_at: datetime | None
    warm: Warm | None
    pulling: CheckpointId | None
    """What a standby is fetching."""
    switching: Switching | None
