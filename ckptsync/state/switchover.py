"""The switchover that this node is giving its pipeline away in: remembered before each step."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from ckptsync.state.database import Database

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS switchover (
    only INTEGER PRIMARY KEY CHECK (only = 1), node TEXT NOT NULL, deadline TEXT NOT NULL,
    timeout_us INTEGER NOT NULL, stage TEXT NOT NULL
) STRICT
"""

_MICROSECOND: Final = timedelta(microseconds=1)


class HandoverStage(StrEnum):
    STOPPING = "stopping"
    """The engine here is being stopped, and its last checkpoint pushed."""
    RELEASED = "released"
    """The swap that releases is intended."""
    TAKING_BACK = "taking_back"
    """This node goes on; its engine may be started once it is the primary again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    node: str
    """That is to take over."""
    deadline: datetime
    """By the local clock: after it this node takes its pipeline back."""
    timeout: timedelta
    """The longest that the deadline may be away, whatever happens to the clock."""
    stage: HandoverStage

    @property
    def released(self) -> bool:
        """Whether the other node may take over already."""
        return self.stage is HandoverStage.RELEASED


class Handovers:
    """At most one is under way. Each call is durable when it returns."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.transaction() as transaction:
            transaction.execute(SCHEMA)

    def current(self) -> Handover | None:
        rows = self._database.query("SELECT node, deadline, timeout_us, stage FROM switchover")
        if not rows:
            return None
        node, deadline, timeout_us, stage = rows[0]
        return Handover(
            node=node,
            deadline=datetime.fromisoformat(deadline),
            timeout=timeout_us * _MICROSECOND,
            stage=HandoverStage(stage),
        )

    def save(self, handover: Handover) -> None:
        with self._database.transaction() as transaction:
            transaction.execute(
                "INSERT OR REPLACE INTO switchover VALUES (1, ?, ?, ?, ?)",
                (
                    handover.node,
                    handover.deadline.isoformat(),
                    handover.timeout // _MICROSECOND,
                    str(handover.stage),
                ),
            )

    def end(self) -> None:
        with self._database.transaction() as transaction:
            transaction.execute("DELETE FROM switchover")
