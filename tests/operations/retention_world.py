"""Two nodes and their bucket under the rules of retention: what they do, and what must come of it.

After each act the whole bucket is held against what the test knows.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from ckptsync.errors import Fenced, NotPrimary, Refused
from ckptsync.model import CheckpointId, Role
from ckptsync.operations import heartbeat
from ckptsync.operations.pipeline import StandbySettings
from ckptsync.repository import pages, timelines
from ckptsync.repository.head import Entry, Head
from ckptsync.repository.repository import read_head
from ckptsync.repository.retention import Policy
from ckptsync.stores.base import ObjectStore
from ckptsync.stores.memory import MemoryStore
from tests.fakes.stores import Crash, FaultyStore
from tests.operations.actors import edit_head
from tests.operations.forgetting import repository_of
from tests.operations.retention_ledger import Account, Ledger
from tests.operations.retention_rules import Rules
from tests.operations.takeovers import Clock, Node, a_node
from tests.pipelines import CHUNK, Host, contents, wanted

_IN_USE_FOR: Final = timedelta(hours=2)
_SKEW: Final = timedelta(minutes=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dies:
    """A process ends at a call of the store, or just after it."""

    at: int
    after: bool


@dataclass(slots=True, kw_only=True)
class World:
    home: Path
    clock: Clock
    store: MemoryStore
    ledger: Ledger
    primary: Node
    """The one that may push."""
    other: Node
    unaware: bool = False
    """The other was the primary, and does not know yet that it is so no more."""
    broken: bool = False
    """Something went wrong, or an act is under way."""
    written: dict[str, Mapping[str, object]] = field(default_factory=dict)
    """The content of each checkpoint by its name."""
    beats: dict[str, tuple[datetime, tuple[CheckpointId | None, ...]]] = field(default_factory=dict)
    pulls: int = 0
    takeovers: int = 0

    @classmethod
    def at(cls, home: Path, policy: Policy) -> "World":
        """The clock of one node is not the store's."""
        clock = Clock()

        def ahead() -> datetime:
            return clock() + _SKEW

        store = MemoryStore("s3://dr/orders", clock=clock)
        standby = StandbySettings(initially=True)
        return cls(
            home=home,
            clock=clock,
            store=store,
            ledger=Ledger(store=store),
            primary=a_node(home, "host-a", now=clock, retention=policy),
            other=a_node(home, "host-b", now=ahead, retention=policy, standby=standby),
        )

    @property
    def head(self) -> Head:
        return read_head(self.store).head

    def pick(self, number: int, *states: str) -> CheckpointId | None:
        """One of those that are in these states; None if there is none."""
        accounts = sorted(self.ledger.accounts.items())
        fitting = [id for id, each in accounts if each.state in states]
        return fitting[number % len(fitting)] if fitting else None

    def write(self, files: Mapping[str, bytes]) -> str:
        """A trainer writes its next checkpoint and deletes those before it."""
        if self.primary.root.exists():
            shutil.rmtree(self.primary.root)
        name = f"step-{len(self.written) + 1}"
        top = self.primary.checkpoint(name, {**files, "name": name.encode()})
        self.written[name] = contents(top)
        return name

    def push(self, dies: Dies | None = None) -> None:
        """Push what lies on the primary's disk, if anything does."""
        with self.acting():
            self.push_to(self.dying(dies), dies)

    def push_many(self, count: int) -> None:
        """A few minutes apart, and nobody looks in between."""
        with self.acting():
            for _ in range(count):
                self.clock.passes(minutes=5)
                self.write({})
                self.primary.push(self.store)
            assert len(self.ledger.look(moves=True)) == count

    def push_as_the_other(self) -> None:
        """Who is not the primary any more, or not yet, pushes nothing."""
        if not self._has_something(self.other):
            return
        with self.acting():
            try:
                self.other.push(self.store)
            except (Fenced, NotPrimary):
                self.ledger.look()
            else:
                raise AssertionError("two nodes push")

    def go_back(self, to: CheckpointId) -> None:
        """The primary's disk holds an older checkpoint afterwards."""
        with self.acting():
            if self.primary.root.exists():
                shutil.rmtree(self.primary.root)
            self.primary.restore(self.store, wanted(to, force=True))
            self._require_restored(self.primary.root, to)
            self.ledger.look()

    def restore(self, id: CheckpointId) -> None:
        """By somebody who has nothing."""
        with self.acting():
            self.pull(id)
            self.ledger.look()

    def keep(self, node: Node, id: CheckpointId, name: str | None, until: datetime | None) -> None:
        """Also one that was retired, which brings it back."""
        with self.acting():
            ledger, was = self.ledger, self.ledger.accounts[id].state
            names = ledger.valid()
            former = names.get(name or id)
            refused = was == "bad" or (former is not None and former[0] != id)
            try:
                report = node.keep(self.store, id, name=name, until=until)
            except Refused:
                assert refused, "a keep was refused"
                ledger.look()
                return
            assert not refused, "a keep was not refused"
            assert report.revived == (was == "retired")
            assert report.already == (former == (id, until) and was == "live")
            if not report.already:
                ledger.kept = {**names, name or id: (id, until)}
            ledger.look({id: "live"})

    def unkeep(self, node: Node, name: str) -> None:
        with self.acting():
            report = node.unkeep(self.store, name)
            there = self.ledger.valid().get(name)
            if there is not None:
                assert report.checkpoint == there[0]
            self.ledger.kept.pop(name, None)
            self.ledger.look()

    def beat(self, node: Node, warm: CheckpointId | None, pulling: CheckpointId | None) -> None:
        with self.acting():
            with node.running(self.store) as pipeline:
                heartbeat.beat(pipeline, warm=warm, pulling=pulling)
            self.beats[node.node] = (self.clock(), (warm, pulling))
            self.ledger.look()

    def mark_bad(self, id: CheckpointId, number: int, *, lose: bool) -> None:
        """One of its objects is damaged or lost, and a verification has found that.

        By number, the one that the fewest checkpoints ever used comes first.
        """
        with self.acting():
            repository, head = repository_of(self.store), self.head
            objects = {
                each.id: [stored.key for stored in repository.manifest(each).objects]
                for each in self.ledger.entries
            }
            its = sorted(objects[id], key=lambda key: len(self.ledger.users[key]))
            key = its[number % len(its)]
            bad = {each for each, needs in objects.items() if key in needs}

            def edit(entry: Entry) -> Entry:
                damaged = (*entry.damaged, key)
                return entry.model_copy(
                    update={"state": "bad", "retired_at": None, "damaged": damaged}
                )

            new = pages.edited(repository, head, bad, edit).head
            if head.latest in bad:
                new = timelines.with_latest(new, repository.entries(new))
            if lose:
                self.store.delete([key])
            else:
                data = self.store.get(key, limit=CHUNK).data
                self.store.put(key, bytes([data[0] ^ 1]) + data[1:])
            edit_head(self.store, checkpoints=new.checkpoints, pages=new.pages, latest=new.latest)
            self.ledger.look(dict.fromkeys(bad, "bad"))

    def take_over(self) -> None:
        """The other node becomes the primary; the one that was does not know it yet."""
        if self.ledger.latest is None:
            return  # there is nothing to go on from
        with self.acting():
            if self.unaware:
                self._become_aware()
            self.takeovers += 1
            done = self.other.activate(self.store, f"request-{self.takeovers}", force=True)
            assert done.role is Role.PRIMARY
            assert done.checkpoint is not None
            self._require_restored(self.other.root, done.checkpoint)
            self.primary, self.other, self.unaware = self.other, self.primary, True
            assert not self.ledger.look(moves=True)

    def tidier(self) -> Node:
        """The other node, as one that may tidy up: not one that was displaced and is not aware."""
        self.become_aware()
        return self.other

    def become_aware(self) -> None:
        """Who was displaced finds that out, and becomes a standby."""
        if not self.unaware:
            return
        with self.acting():
            self._become_aware()
            self.ledger.look()

    def change_policy(self, policy: Policy) -> None:
        self.primary = replace(self.primary, retention=policy)
        self.other = replace(self.other, retention=policy)

    def rules(self) -> Rules:
        """What they look at now."""
        now = self.clock()
        fresh = [ids for at, ids in self.beats.values() if now - at < _IN_USE_FOR]
        return Rules(
            head=self.head,
            entries=self.ledger.entries,
            in_use={id for ids in fresh for id in ids if id is not None},
            policy=self.primary.retention,
            now=now,
        )

    @contextmanager
    def acting(self) -> Iterator[None]:
        """The world is broken until the act has ended well."""
        assert not self.broken
        self.broken = True
        yield
        self.broken = False

    def dying(self, dies: Dies | None) -> ObjectStore:
        """The store of who dies, if he does."""
        if dies is None:
            return self.store
        return FaultyStore(self.store, crash_at=dies.at, crash_after=dies.after)

    def push_to(self, store: ObjectStore, dies: Dies | None = None) -> None:
        """An act, or part of one."""
        if not self._has_something(self.primary):
            return
        (name,) = (path.name for path in self.primary.root.iterdir())
        known = set(self.ledger.accounts)
        entry: Entry | None = None
        try:
            entry = self.primary.push(store).entry
        except Crash:
            assert dies is not None
        self.ledger.look(moves=True)
        new = [its.name for id, its in self.ledger.accounts.items() if id not in known]
        assert new in ([], [name])
        if entry is not None:
            assert self.ledger.accounts[entry.id] == Account(name=name, state="live")
            assert self.ledger.latest == entry.id

    def pull(self, id: CheckpointId) -> None:
        """It arrives as it was pushed."""
        self.pulls += 1
        reader = Host(home=self.home / f"reader-{self.pulls}", node="reader", parallel=1)
        reader.restore(self.store, wanted(id, to=reader.home / "there"))
        self._require_restored(reader.home / "there", id)
        shutil.rmtree(reader.home)

    def _has_something(self, node: Node) -> bool:
        return node.root.exists() and any(node.root.iterdir())

    def _require_restored(self, root: Path, id: CheckpointId) -> None:
        name = self.ledger.accounts[id].name
        assert [path.name for path in root.iterdir()] == [name]
        assert contents(root / name) == self.written[name]

    def _become_aware(self) -> None:
        with pytest.raises(Fenced):
            self.other.prune(self.store)
        assert self.other.start(self.store) is Role.FENCED
        self.other.rejoin(self.store)
        self.unaware = False
