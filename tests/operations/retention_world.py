"""Two nodes and their bucket under the rules of retention: what they do, and what must come of it.

After each act the whole bucket is held against what the test knows.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from ckptsync.errors import Fenced, NotPrimary, Refused
from ckptsync.model import CheckpointId, Role
from ckptsync.operations import heartbeat
from ckptsync.operations.pipeline import StandbySettings
from ckptsync.operations.preview import Preview, preview
from ckptsync.operations.prune import PruneReport
from ckptsync.repository import pages, timelines
from ckptsync.repository.head import Entry, Head
from ckptsync.repository.repository import read_head
from ckptsync.repository.retention import Policy
from ckptsync.stores.base import ObjectStore
from ckptsync.stores.memory import MemoryStore
from tests.fakes.stores import Crash, FaultyStore
from tests.operations.actors import Odd, before, edit_head
from tests.operations.forgetting import repository_of
from tests.operations.retention_ledger import NOTHING, Account, Fates, Ledger
from tests.operations.retention_rules import PLACES, Rules, needed
from tests.operations.takeovers import Clock, Node, a_node
from tests.pipelines import CHUNK, Host, contents, wanted

_SURPRISING: Final = 20
_IN_USE_FOR: Final = timedelta(hours=2)
_SKEW: Final = timedelta(minutes=7)
_ROUNDS: Final = 12
"""Of pruning, three days apart: then nothing can be left to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dies:
    """A process ends at a call of the store, or just after it."""

    at: int
    after: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Stalls:
    """Before a call of the store time passes, and somebody else acts."""

    at: int
    passes: timedelta


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
        """The clocks of the nodes are not the store's."""
        clock = Clock()
        store = MemoryStore("s3://dr/orders", clock=clock)
        standby = StandbySettings(initially=True)
        return cls(
            home=home,
            clock=clock,
            store=store,
            ledger=Ledger(store=store),
            primary=a_node(home, "host-a", now=clock, retention=policy),
            other=a_node(
                home,
                "host-b",
                now=lambda: clock() + _SKEW,
                retention=policy,
                standby=standby,
            ),
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
        with self._acting():
            self._push(self._dying(dies), dies)

    def push_while_the_other_prunes(self, stalls: Stalls) -> None:
        """For so long that what was uploaded looks like an orphan."""
        with self._acting():

            def prunes() -> None:
                self.ledger.look(moves=True)
                self.clock.time += stalls.passes
                self._prune(self.other, self.store, orphans=True, insist=True)

            self._push(Odd(self.store, before(stalls.at, prunes)))

    def push_as_the_other(self) -> None:
        """Who is not the primary any more, or not yet, pushes nothing."""
        if not self._has_something(self.other):
            return
        with self._acting():
            try:
                self.other.push(self.store)
            except (Fenced, NotPrimary):
                self.ledger.look()
            else:
                raise AssertionError("two nodes push")

    def go_back(self, to: CheckpointId) -> None:
        """The primary's disk holds an older checkpoint afterwards."""
        with self._acting():
            if self.primary.root.exists():
                shutil.rmtree(self.primary.root)
            self.primary.restore(self.store, wanted(to, force=True))
            self._require_restored(self.primary.root, to)
            self.ledger.look()

    def restore(self, id: CheckpointId) -> None:
        """Somebody who has nothing pulls it: what arrives is what was pushed."""
        with self._acting():
            self._restore(id)
            self.ledger.look()

    def keep(self, node: Node, id: CheckpointId, name: str | None, until: datetime | None) -> None:
        """Also one that was retired, which brings it back."""
        with self._acting():
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
        with self._acting():
            report = node.unkeep(self.store, name)
            there = self.ledger.valid().get(name)
            if there is not None:
                assert report.checkpoint == there[0]
            self.ledger.kept.pop(name, None)
            self.ledger.look()

    def beat(self, node: Node, warm: CheckpointId | None, pulling: CheckpointId | None) -> None:
        with self._acting():
            with node.running(self.store) as pipeline:
                heartbeat.beat(pipeline, warm=warm, pulling=pulling)
            self.beats[node.node] = (self.clock(), (warm, pulling))
            self.ledger.look()

    def prune(
        self,
        node: Node,
        *,
        orphans: bool = False,
        bad: bool = False,
        insist: bool = False,
        scheduled: bool = False,
        dies: Dies | None = None,
    ) -> PruneReport | None:
        """None where it died or was refused."""
        with self._acting():
            return self._prune(
                node,
                self._dying(dies),
                orphans=orphans,
                bad=bad,
                insist=insist,
                scheduled=scheduled,
                dies=dies,
            )

    def prune_while_the_primary_pushes(self, stalls: Stalls) -> None:
        """Whatever it was about to do, afterwards it finds a bucket that moved on."""
        with self._acting():
            done = self._fates(self.rules())
            then = NOTHING, self.clock()

            def pushes() -> None:
                nonlocal then
                self.ledger.look(done, NOTHING, at=then[1])
                self.clock.time += stalls.passes
                self._push(self.store)
                then = self._fates(self.rules()), self.clock()

            then = done, self.clock()
            store = Odd(self.store, before(stalls.at, pushes))
            self.other.prune(store, orphans=True, insist=True)
            self.ledger.look(then[0], NOTHING, at=then[1])

    def mark_bad(self, id: CheckpointId, number: int, *, lose: bool) -> None:
        """One of its objects is damaged or lost, and a verification has found that."""
        with self._acting():
            repository, head = repository_of(self.store), self.head
            objects = {
                each.id: [stored.key for stored in repository.manifest(each).objects]
                for each in self.ledger.entries
                if each.state != "bad"
            }
            key = objects[id][number % len(objects[id])]
            bad = {each for each, needs in objects.items() if key in needs}
            found = {"state": "bad", "retired_at": None, "damaged": (key,)}

            def edit(entry: Entry) -> Entry:
                return entry.model_copy(update=found)

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
        with self._acting():
            if self.unaware:
                self._become_aware()
            self.takeovers += 1
            done = self.other.activate(self.store, f"request-{self.takeovers}", force=True)
            assert done.role is Role.PRIMARY
            assert done.checkpoint is not None
            self._require_restored(self.other.root, done.checkpoint)
            self.primary, self.other, self.unaware = self.other, self.primary, True
            assert not self.ledger.look(moves=True)

    def become_aware(self) -> None:
        """Who was displaced finds that out, and becomes a standby."""
        if not self.unaware:
            return
        with self._acting():
            self._become_aware()
            self.ledger.look()

    def change_policy(self, policy: Policy) -> None:
        self.primary = replace(self.primary, retention=policy)
        self.other = replace(self.other, retention=policy)

    def settle(self) -> None:
        """Prune until nothing is left to do: then nothing is there that nothing needs."""
        if self.ledger.seen is None:
            return
        nodes = self.primary, self.other
        for _ in range(_ROUNDS):
            self.clock.passes(days=3)
            reports = [self.prune(node, orphans=True, insist=True) for node in nodes]
            if all(report is not None and report.idle for report in reports):
                break
        else:
            raise AssertionError("pruning never ends")
        there = {info.key for place in PLACES for info in self.store.walk(place)}
        damaged = {key for each in self.ledger.entries for key in each.damaged}
        needs = needed(repository_of(self.store), self.head)
        assert there - damaged == needs - damaged, "something leaked"
        for id, account in self.ledger.accounts.items():
            if account.state != "bad":
                self._restore(id)

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
    def _acting(self) -> Iterator[None]:
        assert not self.broken
        self.broken = True
        yield
        self.broken = False

    def _dying(self, dies: Dies | None) -> ObjectStore:
        if dies is None:
            return self.store
        return FaultyStore(self.store, crash_at=dies.at, crash_after=dies.after)

    def _has_something(self, node: Node) -> bool:
        return node.root.exists() and any(node.root.iterdir())

    def _push(self, store: ObjectStore, dies: Dies | None = None) -> None:
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

    def _fates(self, rules: Rules, *, bad: bool = False) -> Fates:
        return {each.id: rules.fate(each, bad=bad) for each in self.ledger.entries}

    def _prune(
        self,
        node: Node,
        store: ObjectStore,
        *,
        orphans: bool,
        insist: bool,
        bad: bool = False,
        scheduled: bool = False,
        dies: Dies | None = None,
    ) -> PruneReport | None:
        ledger, rules, at_first = self.ledger, self.rules(), self.head
        fates = self._fates(rules, bad=bad)
        moves = _moves(ledger, fates)
        surprising = (
            at_first.policy != rules.policy.record() and len(moves["retired"]) > _SURPRISING
        )
        shown = self._preview(node, rules, bad=bad)
        assert (shown.refusal is not None) == surprising
        assert shown.plan.retire == moves["retired"]
        assert shown.plan.revive == moves["live"]
        assert shown.plan.forget == moves[None]
        try:
            report = node.prune(
                store, orphans=orphans, bad=bad, insist=insist, scheduled=scheduled
            )
        except Crash:
            assert dies is not None
            ledger.look(fates, NOTHING, at=rules.now)
            return None
        except Refused:
            assert not insist, "an operator insisted"
            if surprising:
                assert self.head == at_first
                ledger.look()
            else:
                ledger.look(fates, at=rules.now)
                self._require_mostly_unneeded()
            return None
        assert insist or not surprising, "nobody was asked"
        ledger.look(fates, at=rules.now)
        self._require_told(report, moves)
        self._require_by_the_rules()
        return report

    def _preview(self, node: Node, rules: Rules, *, bad: bool) -> Preview:
        at_first = self.head
        with node.running(self.store) as pipeline:
            shown = preview(pipeline, bad=bad)
        assert self.head == at_first
        kept = {each.checkpoint.id for each in shown.verdicts if each.keep}
        entries = self.ledger.entries
        assert kept == {each.id for each in entries if each.state == "bad" or rules.keep(each)}
        return shown

    def _require_told(self, report: PruneReport, moves: Mapping[str | None, set[str]]) -> None:
        """It says what it has done."""
        assert set(report.retired) == moves["retired"]
        assert set(report.revived) == moves["live"]
        assert set(report.forgotten) == moves[None]
        states = [each.state for each in self.ledger.entries]
        assert (report.live, report.waiting) == (states.count("live"), states.count("retired"))
        assert not report.left_to_others

    def _require_by_the_rules(self) -> None:
        """What waits to be forgotten may go, to the letter."""
        rules = self.rules()
        for each in self.ledger.entries:
            if each.state == "retired":
                assert not rules.keep(each)
                assert rules.has_enough_newer(each)
                assert rules.now - each.at >= rules.policy.min_age

    def _require_mostly_unneeded(self) -> None:
        needs = needed(repository_of(self.store), self.head)
        sizes = {info.key: info.size for place in PLACES for info in self.store.walk(place)}
        unneeded = sum(size for key, size in sizes.items() if key not in needs)
        assert 2 * unneeded > sum(sizes.values()), "a sweep was refused"

    def _restore(self, id: CheckpointId) -> None:
        self.pulls += 1
        reader = Host(home=self.home / f"reader-{self.pulls}", node="reader", parallel=1)
        reader.restore(self.store, wanted(id, to=reader.home / "there"))
        self._require_restored(reader.home / "there", id)
        shutil.rmtree(reader.home)

    def _require_restored(self, root: Path, id: CheckpointId) -> None:
        name = self.ledger.accounts[id].name
        assert [path.name for path in root.iterdir()] == [name]
        assert contents(root / name) == self.written[name]

    def _become_aware(self) -> None:
        assert self.other.start(self.store) is Role.FENCED
        self.other.rejoin(self.store)
        self.unaware = False


def _moves(ledger: Ledger, fates: Fates) -> Mapping[str | None, set[str]]:
    """Which checkpoints come into each state."""
    moves: dict[str | None, set[str]] = {state: set() for state in ("live", "retired", "bad", None)}
    for id, fate in fates.items():
        if ledger.accounts[id].state != fate:
            moves[fate].add(id)
    return moves
