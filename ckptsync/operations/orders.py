"""What can be asked of a pipeline. A command carries it out itself, or the daemon does for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

LONGEST_REASON: Final = 500  # characters: it lies in head, which every push writes anew


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    engine_id: str | None = None
    """None: the newest."""
    new_timeline: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """Into the pipeline's own storage."""

    checkpoint: str | None = None
    """LATEST, an engine's id or a checkpoint id; None: what the configuration says, and a local
    one will do."""
    force: bool = False
    engine_stopped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Activate:
    request: str
    """Chosen by who asks, so that asking again does not activate again."""
    reason: str | None = None
    force: bool = False
    detach_replica: bool = False
    engine_stopped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Switchover:
    to: str
    """The node that is to take over."""
    timeout: timedelta
    """For that node to take over; then this one goes on."""
    reason: str | None = None
    engine_stopped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejoin:
    engine_stopped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptRollback:
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildHead:
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleDivergence:
    keep: Literal["local", "bucket"]
    engine_stopped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune:
    """Let the rules of retention hold in the bucket, and delete what nothing refers to any more."""

    orphans: bool = False
    """Look through the whole bucket for that, even if it was done less than a day ago."""
    bad: bool = False
    """Forget the checkpoints that were found damaged, too."""
    insist: bool = False
    """Although much more would go than before, or than can be explained."""
    scheduled: bool = False
    """It follows a push: nobody asked for it, and only the primary does it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Protect a checkpoint from retention under a name."""

    checkpoint: str
    """LATEST, an engine's id or a checkpoint id; a retired one comes back to life."""
    name: str | None = None
    """None: the checkpoint's id."""
    until: datetime | None = None
    by: str
    """Who asked for it; for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unkeep:
    name: str


Order = (
    Push
    | Pull
    | Activate
    | Switchover
    | Rejoin
    | AcceptRollback
    | RebuildHead
    | SettleDivergence
    | Prune
    | Keep
    | Unkeep
)

KINDS: Final[Mapping[str, type[Order]]] = {
    "push": Push,
    "pull": Pull,
    "activate": Activate,
    "switchover": Switchover,
    "rejoin": Rejoin,
    "accept-rollback": AcceptRollback,
    "rebuild-head": RebuildHead,
    "settle-divergence": SettleDivergence,
    "prune": Prune,
    "keep": Keep,
    "unkeep": Unkeep,
}
"""By the operator's word for each."""
_NAMES: Final = {order: name for name, order in KINDS.items()}


def kind(order: Order) -> str:
    return _NAMES[type(order)]
