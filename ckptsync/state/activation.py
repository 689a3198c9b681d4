"""The activations of this node: how far each has come, remembered before the next step is taken.

The newest one is the activation marker, too: once it is published, this node's disk holds what
the timeline goes on from, and a restart is no reason to pull again.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any, Final

from ckptsync.state.database import Database

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS activation (
    number INTEGER PRIMARY KEY AUTOINCREMENT, request TEXT NOT NULL UNIQUE,
    started_at TEXT NOT NULL, reason TEXT, forced INTEGER NOT NULL, stage INTEGER NOT NULL,
    instance TEXT, epoch TEXT, timeline INTEGER, latest TEXT, checkpoint TEXT, problem TEXT,
    in_place INTEGER NOT NULL, detach_replica INTEGER NOT NULL, engine_stopped INTEGER NOT NULL,
    to_latest INTEGER NOT NULL
) STRICT
"""

_COLUMNS: Final = (
    "request", "started_at", "reason", "forced", "stage", "instance", "epoch", "timeline",
    "latest", "checkpoint", "problem", "in_place", "detach_replica", "engine_stopped",
    "to_latest",
)  # fmt: skip
_FLAGS: Final = ("forced", "in_place", "detach_replica", "engine_stopped", "to_latest")
_NAMES: Final = ", ".join(_COLUMNS)


class Stage(IntEnum):
    """How far an activation has come. Numbers are kept in the database."""

    BEGUN = 0
    FENCING = 1
    """The swap that takes the epoch is intended; whether it was stored, head tells."""
    FENCED = 2
    """The epoch is this node's."""
    PUBLISHED = 3
    """What is to be gone on from is in the storage directory."""
    CONFIRMED = 4
    """Head calls this node's writer active; the engine may start."""
    DONE = 5
    ABANDONED = 6
    """It ended before the epoch was taken, or another node took the next one."""
    UNFENCED = 7
    """Published while the bucket did not answer; `epoch` is the highest that was seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    request: str
    """Of who asked: the same request never activates twice."""
    started_at: datetime
    reason: str | None
    forced: bool
    stage: Stage
    instance: str | None = None
    """The newest that it took an epoch as."""
    epoch: int | None = None
    """At which this node became the writer; None while it is not fenced."""
    timeline: int | None = None
    latest: str | None = None
    """What head called the latest when the epoch was taken: it cannot advance any more."""
    checkpoint: str | None = None
    """What was really restored; None before, and where there was none to restore."""
    problem: str | None = None
    """Why it does not go on."""
    in_place: bool = False
    """The storage directory holds what is gone on from, and an engine may run on it."""
    detach_replica: bool = False
    engine_stopped: bool = False
    """The operator's word."""
    to_latest: bool = False
    """It goes on from head's latest, whatever the configuration asks a new node to start from."""

    @property
    def engine_may_run(self) -> bool:
        """By the bucket's leave, although this activation has not come to its end."""
        return self.epoch is not None and (self.in_place or self.stage is Stage.CONFIRMED)


class Activations:
    """Each call is durable when it returns."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.transaction() as transaction:
            transaction.execute(SCHEMA)

    def newest(self) -> Activation | None:
        """The one that was saved last."""
        return self._one("ORDER BY number DESC LIMIT 1")

    def unfinished(self) -> Activation | None:
        """The newest, if it may have taken the epoch and has not come to its end."""
        newest = self.newest()
        going_on = newest is not None and Stage.FENCING <= newest.stage <= Stage.CONFIRMED
        return newest if going_on else None

    def unfenced(self) -> Activation | None:
        """The newest that was made without the bucket."""
        return self._one("WHERE stage = ? ORDER BY number DESC LIMIT 1", int(Stage.UNFENCED))

    def find(self, request: str) -> Activation | None:
        return self._one("WHERE request = ?", request)

    def save(self, activation: Activation) -> Activation:
        """Remember how it stands, in place of what was remembered of it, as the newest."""
        row = (
            activation.request,
            activation.started_at.isoformat(),
            activation.reason,
            int(activation.forced),
            int(activation.stage),
            activation.instance,
            None if activation.epoch is None else str(activation.epoch),
            activation.timeline,
            activation.latest,
            activation.checkpoint,
            activation.problem,
            int(activation.in_place),
            int(activation.detach_replica),
            int(activation.engine_stopped),
            int(activation.to_latest),
        )
        with self._database.transaction() as transaction:
            transaction.execute(
                f"INSERT OR REPLACE INTO activation ({_NAMES})"  # noqa: S608 - constants
                f" VALUES ({', '.join('?' * len(row))})",
                row,
            )
        return activation

    def _one(self, which: str, *params: Any) -> Activation | None:
        rows = self._database.query(f"SELECT {_NAMES} FROM activation {which}", params)  # noqa: S608 - constants
        return _activation(rows[0]) if rows else None


def _activation(row: tuple[Any, ...]) -> Activation:
    facts = dict(zip(_COLUMNS, row, strict=True))
    return Activation(
        **facts
        | {
            "started_at": datetime.fromisoformat(facts["started_at"]),
            "stage": Stage(facts["stage"]),
            "epoch": None if facts["epoch"] is None else int(facts["epoch"]),
        }
        | {name: bool(facts[name]) for name in _FLAGS}
    )
