"""Three nodes and their bucket: what they are asked for, and what must hold whatever happens.

Host-a begins as the primary, host-b and host-c as standbys. Time is told by a clock that stands
still until a test moves it.
"""

import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeVar

from ckptsync.errors import CkptsyncError
from ckptsync.hooks import Hook
from ckptsync.model import CheckpointId, Role, ignore
from ckptsync.operations import heartbeat
from ckptsync.operations.activate import Activated, activate, again
from ckptsync.operations.divergence import reconnect, settle_divergence
from ckptsync.operations.orders import Activate, Rejoin, SettleDivergence, Switchover
from ckptsync.operations.pipeline import Pipeline, StandbySettings
from ckptsync.operations.rejoin import Rejoined, rejoin
from ckptsync.operations.roles import role_of
from ckptsync.operations.standby import Poll, Standby
from ckptsync.operations.start import start
from ckptsync.operations.switchover import SwitchedOver, resume, switchover
from ckptsync.operations.writing import require_fit
from ckptsync.repository import epochs
from ckptsync.repository.head import Entry, Head
from ckptsync.repository.repository import read_head
from ckptsync.repository.timelines import on_path, path
from ckptsync.state.activation import Activation
from ckptsync.stores.base import ObjectStore
from ckptsync.stores.local import LocalStore
from ckptsync.stores.memory import MemoryStore
from tests.fakes import feldera_engine
from tests.fakes.feldera_engine import Engine, Sizes
from tests.fakes.stores import Crash, FaultyStore
from tests.operations.actors import Odd, before
from tests.operations.invariants import Seen, require_sound
from tests.pipelines import Host, a_small_checkpoint, contents, copy_of

NOON: Final = datetime(2026, 11, 20, 12, tzinfo=UTC)
REQUEST: Final = "drill-1"
_BUCKET: Final = "bucket"
_SMALL: Final = Sizes(traces=1, new_batches=2, batch_bytes=5000, state_bytes=100)


@dataclass(slots=True)
class Clock:
    time: datetime = NOON

    def __call__(self) -> datetime:
        return self.time

    def passes(self, **time: float) -> None:
        self.time += timedelta(**time)


class Waits(threading.Event):
    """A stop for who waits: at each pause something happens, and the pause is over."""

    def __init__(self, happens: Callable[[float], object]) -> None:
        super().__init__()
        self._happens = happens

    def wait(self, timeout: float | None = None) -> bool:
        self._happens(timeout or 0.0)
        return self.is_set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Node(Host):
    """A host that can be given its pipeline."""

    def probe(self, store: ObjectStore) -> None:
        """So that nothing is probed within the next day."""
        with self.running(store) as pipeline:
            require_fit(pipeline)

    def start(self, store: ObjectStore, *, stop: threading.Event | None = None) -> Role:
        with self.running(store) as pipeline:
            return start(pipeline if stop is None else replace(pipeline, stop=stop))

    def poll(self, store: ObjectStore, read_store: ObjectStore | None = None) -> Poll:
        with self.running(store, read_store) as pipeline:
            return Standby(pipeline).poll(progress=ignore)

    def beat(self, store: ObjectStore) -> None:
        with self.running(store) as pipeline:
            heartbeat.beat(pipeline)

    def activate(
        self,
        store: ObjectStore,
        request: str = REQUEST,
        *,
        read_store: ObjectStore | None = None,
        force: bool = False,
        reason: str | None = None,
        detach_replica: bool = False,
        engine_stopped: bool = True,
    ) -> Activated:
        """By an operator who has stopped the engine."""
        order = Activate(
            request=request,
            reason=reason,
            force=force,
            detach_replica=detach_replica,
            engine_stopped=engine_stopped,
        )
        with self.running(store, read_store) as pipeline:
            return activate(pipeline, order, Standby(pipeline), progress=ignore)

    def carry_on(self, store: ObjectStore, *, stop: threading.Event | None = None) -> Role:
        """What a daemon does at its start: find the role, and go on with what was interrupted."""
        with self.running(store) as running:
            pipeline = running if stop is None else replace(running, stop=stop)
            role = start(pipeline)
            standby = Standby(pipeline)
            activation = pipeline.state.activations.unfinished()
            if role is Role.ACTIVATING and activation is not None:
                activate(pipeline, again(activation), standby, progress=ignore)
            elif role is Role.UNFENCED:
                reconnect(pipeline, standby)
            elif role in (Role.PRIMARY, Role.RELEASED):
                resume(pipeline, threading.Event())
            return role_of(pipeline)

    def reconnect(self, store: ObjectStore) -> Role:
        with self.running(store) as pipeline:
            return reconnect(pipeline, Standby(pipeline))

    def settle(self, store: ObjectStore, keep: Any) -> Activated | Rejoined:
        order = SettleDivergence(keep=keep, engine_stopped=True)
        with self.running(store) as pipeline:
            return settle_divergence(pipeline, order, Standby(pipeline))

    def rejoin(self, store: ObjectStore, *, engine_stopped: bool = True) -> Rejoined:
        with self.running(store) as pipeline:
            return rejoin(pipeline, Rejoin(engine_stopped=engine_stopped))

    def hand_over(
        self,
        store: ObjectStore,
        to: str,
        meanwhile: Callable[[float], object],
        *,
        timeout: timedelta = timedelta(hours=1),
        withdraw: threading.Event | None = None,
    ) -> SwitchedOver:
        """Give the pipeline to another node; `meanwhile` is called at each pause of the wait."""
        order = Switchover(to=to, timeout=timeout, engine_stopped=True)
        withdraw = withdraw or threading.Event()
        with self.running(store) as pipeline:
            waiting = replace(pipeline, stop=Waits(meanwhile))
            return switchover(waiting, order, withdraw=withdraw, progress=ignore)

    @property
    def role(self) -> Role:
        with self._remembering() as pipeline:
            return role_of(pipeline)

    @property
    def activation(self) -> Activation | None:
        """The newest."""
        with self._remembering() as pipeline:
            return pipeline.state.activations.newest()

    def writes_to(self, store: ObjectStore) -> bool:
        """Whether this node may commit, by what it remembers and head says."""
        head = read_head(store).head
        with self._remembering() as pipeline:
            try:
                epochs.require_writer(head, pipeline.state.identity.remembered(), store.name)
            except CkptsyncError:
                return False
        return True

    def told(self) -> list[Role]:
        """The roles that it announced, in order."""
        return [change.role for change in self.roles]

    @contextmanager
    def _remembering(self) -> Iterator[Pipeline]:
        with self.running(MemoryStore()) as pipeline:
            yield pipeline


def a_node(home: Path, name: str, **settings: Any) -> Node:
    return Node(home=home / name, node=name, machine=name, parallel=1, **settings)


@dataclass(slots=True, kw_only=True)
class Site:
    """`acknowledged` are the checkpoints of which a push has said that they are stored."""

    home: Path
    layout: str
    clock: Clock
    store: MemoryStore | LocalStore
    a: Node
    b: Node
    c: Node
    written: dict[str, dict[str, object]] = field(default_factory=dict)
    """The content of each checkpoint by its id."""
    acknowledged: list[Entry] = field(default_factory=list)
    seen: Seen | None = None

    @classmethod
    def at(cls, home: Path, layout: str = "directory", *, on_disk: bool = False) -> "Site":
        """With `on_disk` the bucket is a directory of the site, and survives its processes."""
        clock = Clock()
        standby = StandbySettings(initially=True)
        return cls(
            home=home,
            layout=layout,
            clock=clock,
            store=_on_disk(home) if on_disk else MemoryStore("s3://dr/orders", clock=clock),
            a=a_node(home, "host-a", layout=layout, now=clock),
            b=a_node(home, "host-b", layout=layout, now=clock, standby=standby),
            c=a_node(home, "host-c", layout=layout, now=clock, standby=standby),
        )

    @property
    def nodes(self) -> tuple[Node, ...]:
        return (self.a, self.b, self.c)

    @property
    def head(self) -> Head:
        return read_head(self.store).head

    def copied_to(self, home: Path) -> "Site":
        """All of it once more, going its own way from here; the clock is the same."""
        a, b, c = (self._moved(node, home) for node in self.nodes)
        if isinstance(self.store, LocalStore):
            shutil.copytree(self.home / _BUCKET, home / _BUCKET)
        return replace(
            self,
            home=home,
            store=copy_of(self.store) if isinstance(self.store, MemoryStore) else _on_disk(home),
            a=a,
            b=b,
            c=c,
            written=dict(self.written),
            acknowledged=list(self.acknowledged),
        )

    def _moved(self, node: Node, home: Path) -> Node:
        there = home / node.home.name
        return node.copied_to(there) if node.home.exists() else replace(node, home=there)

    def write(self, node: Node) -> str:
        """Let the engine of a node resume, write a checkpoint and stop; its id."""
        if self.layout == "feldera":
            with Engine(node.root, seed=len(self.written), sizes=_SMALL) as engine:
                id = engine.checkpoint()
                self.written[id] = dict(engine.written[id])
            return id
        id = f"step-{len(self.written) + 1}"
        files = {**a_small_checkpoint(), id: id.encode()}
        top = node.checkpoint(id, files, directories=("void",))
        self.written[id] = dict(contents(top))
        return id

    def push(self, node: Node, store: ObjectStore | None = None) -> Entry:
        """Push what the node has; what is acknowledged is remembered."""
        entry = node.push(store or self.store).entry
        self.acknowledged.append(entry)
        return entry

    def push_new(self, node: Node) -> Entry:
        """Write a checkpoint and push it."""
        self.write(node)
        return self.push(node)

    def require_sound(self, *, lost: Collection[CheckpointId] = ()) -> Seen | None:
        """All that must hold at every moment; `lost` are commits whose loss was recorded."""
        self.seen = require_sound(self.store, since=self.seen)
        if self.seen is not None:
            require_kept(self.seen, self.acknowledged, lost=lost)
            writers = [node.node for node in self.nodes if node.writes_to(self.store)]
            assert len(writers) <= 1, f"{writers} can commit at once"
        return self.seen

    def require_restored(self, node: Node, id: str) -> None:
        """What the engine of the node would resume from is exactly this checkpoint."""
        assert found(node, id) == self.written[id]
        if self.layout == "feldera":
            resumed = feldera_engine.resume(node.root)
            assert resumed is not None
            assert resumed.uuid == id
            assert resumed.journal == (), "a journal of another checkpoint"
        else:
            steps = {int(each.name.removeprefix("step-")) for each in node.root.iterdir()}
            assert f"step-{max(steps)}" == id


def _on_disk(home: Path) -> LocalStore:
    (home / _BUCKET).mkdir(parents=True, exist_ok=True)
    return LocalStore(home / _BUCKET)


def require_kept(
    seen: Seen, acknowledged: Collection[Entry], *, lost: Collection[CheckpointId] = ()
) -> None:
    """Each lies behind the latest, unless it is one whose loss head records by an older fork."""
    way = path(seen.head)
    for entry in acknowledged:
        assert any(each.id == entry.id for each in seen.entries), f"{entry.id} is gone"
        behind = on_path(entry, way)
        assert behind or entry.id in lost, f"{entry.id} was acknowledged, and is left behind"


def found(node: Host, id: str) -> Mapping[str, object]:
    """What lies in the storage of a checkpoint."""
    if node.layout == "feldera":
        return dict(feldera_engine.contents(node.root, id))
    return dict(contents(node.root / id))


@dataclass(frozen=True, slots=True)
class HookLog:
    """What hooks were run; each is a real command that appends its name to a file."""

    home: Path

    def commands(self, *hooks: Hook) -> dict[Hook, tuple[str, ...]]:
        """A hook fails as long as a file `fail-HOOK` is there."""
        script = (
            f'echo "$CKPTSYNC_HOOK ${{CKPTSYNC_ROLE:-}}${{CKPTSYNC_CHECKPOINT:-}}" '
            f">> '{self.home}/hooks'; test ! -e '{self.home}'/fail-$CKPTSYNC_HOOK"
        )
        return dict.fromkeys(hooks, ("sh", "-c", script))

    def lines(self) -> list[str]:
        file = self.home / "hooks"
        return [line.strip() for line in file.read_text().splitlines()] if file.exists() else []

    def names(self) -> list[str]:
        return [line.split()[0] for line in self.lines()]

    def fail(self, hook: Hook, *, fails: bool = True) -> None:
        file = self.home / f"fail-{hook}"
        if fails:
            file.touch()
        else:
            file.unlink()


Act = Callable[[Site, ObjectStore], object]


def crashes(site: Site, disk: Path, act: Act, *, at_least: int = 8) -> Iterator[Site]:
    """Every site that a crash of `act` leaves: before each call and, if it writes, after it.

    There are at least so many calls. After a call that only reads a crash leaves what it leaves
    before the next.
    """
    for number in count():
        for crash_after in (False, True):
            left = site.copied_to(disk / f"crash-{number}-{crash_after}")
            store = FaultyStore(left.store, crash_at=number, crash_after=crash_after)
            try:
                act(left, store)
            except Crash:
                left.require_sound()
                yield left
            else:
                assert number == len(store.calls), "a crash was swallowed"
                assert number >= at_least
                return
            finally:
                shutil.rmtree(left.home)
            if store.calls[number].method != "put":
                break


Outcome = TypeVar("Outcome")


def meddled(
    site: Site,
    disk: Path,
    act: Callable[[Site, ObjectStore], Outcome],
    meddle: Callable[[Site], object],
) -> Iterator[tuple[Site, Outcome | CkptsyncError]]:
    """What comes of `act` for each of its calls, just before which somebody meddles."""
    for number in count():
        left = site.copied_to(disk / f"meddled-{number}")
        odd = Odd(left.store, before(number, partial(meddle, left)))
        outcome: Outcome | CkptsyncError
        try:
            outcome = act(left, odd)
        except CkptsyncError as error:
            outcome = error
        if number >= len(odd.calls):
            assert number >= 8
            return
        left.require_sound()
        yield left, outcome
        shutil.rmtree(left.home)
