"""What a test knows of a bucket under the rules of retention, and what it holds against that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from ckptsync.model import CheckpointId
from ckptsync.repository.head import Entry, Head
from ckptsync.stores.base import ObjectStore
from tests.operations.forgetting import repository_of
from tests.operations.invariants import Seen, require_sound
from tests.operations.retention_rules import State, way_of

Fates = Mapping[CheckpointId, State]
"""What becomes of checkpoints; of those that it does not name, nothing."""
Named = Mapping[str, tuple[CheckpointId, datetime | None]]
"""Which checkpoint each name keeps, and until when."""

NOTHING: Fates = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Of a checkpoint that is there."""

    name: str
    """That of its engine, under which its content is known."""
    state: State
    retired_at: datetime | None = None


@dataclass(slots=True, kw_only=True)
class Ledger:
    """What must be in the bucket: no more, no less, and in no other state."""

    store: ObjectStore
    accounts: dict[CheckpointId, Account] = field(default_factory=dict)
    kept: dict[str, tuple[CheckpointId, datetime | None]] = field(default_factory=dict)
    """Expired ones too."""
    users: dict[str, set[tuple[int, int]]] = field(default_factory=dict)
    """Timeline and seq of all checkpoints that ever referred to an object."""
    damaged: bool = False
    """Whether any checkpoint ever was."""
    seen: Seen | None = None

    @property
    def entries(self) -> tuple[Entry, ...]:
        """As they were at the last look."""
        assert self.seen is not None
        return self.seen.entries

    @property
    def latest(self) -> CheckpointId | None:
        assert self.seen is not None
        return self.seen.head.latest

    def valid(self) -> Named:
        """The names that still keep something."""
        return _valid(self.kept, self.store.now())

    def look(
        self, *fates: Fates, at: datetime | None = None, moves: bool = False
    ) -> Sequence[CheckpointId]:
        """Everything is sound, and as it was, but for all that one of these says.

        What is retired by now was at the time `at`. With `moves` there may be another timeline and
        new ones: they are given, and have accounts from now on.
        """
        fated = [self._changes(each) for each in fates or (NOTHING,)]
        gone = {id for each in fated for id, fate in each.items() if fate is None}
        seen = require_sound(self.store, since=self.seen, forgotten=gone)
        if seen is None:
            assert self.seen is None
            return ()
        found = {entry.id: entry for entry in seen.entries}
        states: dict[CheckpointId, State] = {
            id: found[id].state if id in found else None for id in self.accounts
        }
        expected = [
            {id: each.get(id, its.state) for id, its in self.accounts.items()} for each in fated
        ]
        assert states in expected, "checkpoints are not in the states that they should be in"
        self._book(fated[expected.index(states)], at)
        for id, its in self.accounts.items():
            assert (found[id].engine_id, found[id].retired_at) == (its.name, its.retired_at)
        new = [id for id in found if id not in self.accounts]
        assert all(found[id].state == "live" for id in new)
        if not moves and self.seen is not None:
            assert not new
            assert seen.head.timelines == self.seen.head.timelines
        way = [each for each in way_of(seen.head, seen.entries) if each.state == "live"]
        assert seen.head.latest == (way[-1].id if way else None)
        assert _valid(_names(seen.head), self.store.now()) == self.valid()
        for id in new:
            for stored in repository_of(self.store).manifest(found[id]).objects:
                place = (found[id].timeline, found[id].seq)
                self.users.setdefault(stored.key, set()).add(place)
        self.damaged |= "bad" in states.values()
        self.accounts |= {id: Account(name=found[id].engine_id, state="live") for id in new}
        self.seen = seen
        return new

    def lies_between_users(self, key: str) -> bool:
        """Whether a checkpoint that is there has older and newer users of an object around it.

        So long it stays, though nothing refers to it. That takes damage: only then a push goes on
        from an older checkpoint of its own timeline.
        """
        users = self.users.get(key, set())
        between = (
            min(seqs) <= entry.seq <= max(seqs)
            for entry in self.entries
            if (seqs := [seq for timeline, seq in users if timeline == entry.timeline])
        )
        return self.damaged and any(between)

    def _changes(self, fates: Fates) -> Fates:
        return {id: fate for id, fate in fates.items() if self.accounts[id].state != fate}

    def _book(self, changes: Fates, at: datetime | None) -> None:
        for id, fate in changes.items():
            before = self.accounts[id]
            if fate is not None:
                retired_at = at if fate == "retired" else None
                self.accounts[id] = replace(before, state=fate, retired_at=retired_at)
                continue
            del self.accounts[id]
            if before.state != "bad":
                assert before.retired_at is not None, "one that was live is gone"
                assert self.store.now() - before.retired_at >= timedelta(hours=24)


def _names(head: Head) -> Named:
    return {name: (keep.checkpoint, keep.until) for name, keep in head.keeps.items()}


def _valid(names: Named, now: datetime) -> Named:
    return {name: each for name, each in names.items() if each[1] is None or each[1] > now}
