"""Push, pull and a standby killed at each write to the disk; then the same command again.

    python -m tests.operations.kills SCENARIO LAYOUT SLICE SLICES DIRECTORY

Prints how often it killed. The tests run it in an interpreter of its own, for it forks.
"""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

import pytest
import structlog

from ckptsync.errors import Refused
from ckptsync.model import ignore
from ckptsync.stores.local import LocalStore
from tests.crashes import killed
from tests.fakes import feldera_engine
from tests.fakes.feldera_engine import Engine, Sizes
from tests.operations.invariants import Seen, require_sound
from tests.operations.standbys import (
    activate,
    activated_copy,
    poll,
    repository_and_head,
    standing_by,
)
from tests.pipelines import Host, a_small_checkpoint, contents, wanted

SMALL: Final = Sizes(traces=1, new_batches=2, batch_bytes=5000, state_bytes=100)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A directory that holds a host and a bucket."""

    home: Path
    layout: str

    @property
    def host(self) -> Host:
        return Host(home=self.home / "host-a", layout=self.layout, parallel=1)

    @property
    def standby(self) -> Host:
        return replace(self.host, home=self.home / "host-b", node="host-b")

    @property
    def store(self) -> LocalStore:
        return LocalStore(self.home / "bucket")

    def copied_to(self, home: Path) -> "World":
        shutil.copytree(self.home, home)
        return replace(self, home=home)


Written = dict[str, dict[str, object]]
"""The content of each checkpoint by its id."""

Act = Callable[[World], object]
Check = Callable[[World], None]


def write_checkpoints(world: World, count: int, *, push: int) -> tuple[Written, list[str]]:
    """Let the engine write some and push the first of them; their contents and ids in order."""
    written: Written = {}
    ids: list[str] = []
    if world.layout == "feldera":
        with Engine(world.host.root, seed=1, sizes=SMALL) as engine:
            for number in range(count):
                ids.append(engine.checkpoint())
                if number < push:
                    world.host.push(world.store)
        written.update({id: dict(files) for id, files in engine.written.items()})
    else:
        for number in range(1, count + 1):
            ids.append(f"ckpt-{number}")
            top = world.host.checkpoint(ids[-1], a_small_checkpoint(number), directories=("void",))
            written[ids[-1]] = dict(contents(top))
            if number <= push:
                world.host.push(world.store)
    return written, ids


def found(host: Host, id: str) -> dict[str, object]:
    if host.layout == "feldera":
        return dict(feldera_engine.contents(host.root, id))
    return dict(contents(host.root / id))


def push_scenario(world: World, *, pushed_before: int) -> tuple[Act, Check, Check]:
    written, ids = write_checkpoints(world, pushed_before + 1, push=pushed_before)
    before = require_sound(world.store)
    expected = (*ids[:pushed_before], ids[-1])
    storage = contents(world.host.root)

    def act(each: World) -> None:
        each.host.push(each.store)

    def half(each: World) -> None:
        seen = require_sound(each.store, since=before)
        assert (seen.engine_ids if seen else ()) in (expected[:-1], expected)
        assert contents(each.host.root) == storage, "a push writes into the storage"

    def whole(each: World) -> None:
        seen = require_sound(each.store, since=before)
        assert isinstance(seen, Seen)
        assert seen.engine_ids == expected, "committed not exactly once"
        fresh = replace(each.host, home=each.home / "fresh")
        fresh.restore(each.store)
        assert found(fresh, ids[-1]) == written[ids[-1]]

    return act, half, whole


def pull_scenario(
    world: World, *, back: bool = False, plain: bool = False
) -> tuple[Act, Check, Check]:
    """A pull on a host that has nothing, or one that goes back to an older checkpoint.

    A plain one names no checkpoint, so whatever lies in the storage might do for it.
    """
    written, ids = write_checkpoints(world, 2, push=2)
    if not back:
        world.host.root.rename(world.home / "lost")
        (world.host.home / "state.sqlite").unlink()
    wanted_id = ids[0] if back else ids[-1]
    stored = require_sound(world.store)

    def act(each: World) -> None:
        each.host.pull(each.store, wanted(explicit=False) if plain else wanted(wanted_id))

    def half(each: World) -> None:
        require_nothing_half(each.host, written, {wanted_id, *(ids if back else ())})
        require_no_push_while_unfinished(each)
        assert require_sound(each.store, since=stored) == stored

    def whole(each: World) -> None:
        assert found(each.host, wanted_id) == written[wanted_id]
        if each.layout == "feldera":
            resumed = feldera_engine.resume(each.host.root)
            assert resumed is not None
            assert resumed.uuid == wanted_id
            assert resumed.journal == ()
        left = (each.host.work / "files").rglob("*")
        assert not any(path.is_file() for path in left), "the staging area is left behind"
        assert require_sound(each.store, since=stored) == stored

    return act, half, whole


def require_no_push_while_unfinished(world: World) -> None:
    """What a pull left half in place is nobody's checkpoint."""
    with world.host.running(world.store) as pipeline:
        unfinished = pipeline.state.identity.remembered().publishing
    if unfinished is None:
        return
    with pytest.raises(Refused, match="was interrupted while it was put in place"):
        world.host.push(world.store)


def require_nothing_half(host: Host, written: Written, allowed: set[str]) -> None:
    """What is visible in the storage is a whole checkpoint, an allowed one, or nothing."""
    if not host.root.exists():
        return
    if host.layout != "feldera":
        for path in host.root.iterdir():
            assert path.name in allowed
            assert found(host, path.name) == written[path.name], path
        return
    resumed = feldera_engine.resume(host.root)
    if resumed is not None:
        assert resumed.uuid in allowed
        assert found(host, resumed.uuid) == written[resumed.uuid]
        assert not resumed.journal or resumed.uuid == max(allowed), "of another checkpoint"


def pull_elsewhere_scenario(world: World) -> tuple[Act, Check, Check]:
    written, ids = write_checkpoints(world, 1, push=1)
    storage = contents(world.host.root)

    def restored(each: World) -> Host:
        """Looked at as a storage of its own."""
        return replace(each.host, home=each.home / "target")

    def act(each: World) -> None:
        if not restored(each).root.exists():
            each.host.restore(each.store, wanted(to=restored(each).root))

    def half(each: World) -> None:
        assert contents(each.host.root) == storage
        if restored(each).root.exists():
            assert found(restored(each), ids[0]) == written[ids[0]]

    def whole(each: World) -> None:
        assert contents(each.host.root) == storage
        assert found(restored(each), ids[0]) == written[ids[0]]
        assert (each.home / "target" / "data.manifest.json.zst").exists()

    return act, half, whole


def poll_scenario(world: World, *, beside: bool = False) -> tuple[Act, Check, Check]:
    """The standby holds the first checkpoint, and comes to hold the second one too.

    Or the first lies `beside` in its storage, and much of it is in the second.
    """
    written, ids = write_checkpoints(world, 2, push=2)
    if beside:
        world.standby.restore(world.store, wanted(ids[0]))
    else:
        hold(world, ids[0])
    storage = contents(world.standby.root)
    stored = require_sound(world.store)

    def act(each: World) -> None:
        poll(each.standby, each.store)

    def half(each: World) -> None:
        assert contents(each.standby.root) == storage, "a poll writes into the storage"
        assert ready(each, written) in (None if beside else ids[0], ids[1])

    def whole(each: World) -> None:
        assert ready(each, written) == ids[1]
        assert require_sound(each.store, since=stored) == stored

    return act, half, whole


def activation_scenario(world: World, *, over: bool = False) -> tuple[Act, Check, Check]:
    """The last pull, of what a standby holds, and its publication: `over` another checkpoint."""
    written, ids = write_checkpoints(world, 2, push=2)
    if over:
        world.standby.restore(world.store, wanted(ids[0]))
    poll(world.standby, world.store)
    stored = require_sound(world.store)

    def act(each: World) -> None:
        with standing_by(each.standby, each.store) as standby:
            activate(standby, each.store)

    def half(each: World) -> None:
        require_nothing_half(each.standby, written, set(ids if over else ids[1:]))

    def whole(each: World) -> None:
        assert found(each.standby, ids[1]) == written[ids[1]]
        if each.layout == "feldera":
            resumed = feldera_engine.resume(each.standby.root)
            assert resumed is not None
            assert resumed.uuid == ids[1]
        assert not (each.standby.work / "files").exists(), "the staging area is left behind"
        with standing_by(each.standby, each.store) as standby:
            assert standby.newest() is None
        assert require_sound(each.store, since=stored) == stored

    return act, half, whole


def hold(world: World, id: str) -> None:
    """Let the standby hold that one, as it would if it were the latest."""
    with standing_by(world.standby, world.store) as standby:
        repository, at = repository_and_head(world.store)
        entry = next(each for each in at.head.checkpoints if each.engine_id == id)
        standby.stage(repository, entry, read_only=False, progress=ignore)


def ready(world: World, written: Written) -> str | None:
    """What the standby could publish now, without its bucket; found whole once that is done."""
    with activated_copy(world.standby) as (copy, warm):
        if warm is None:
            return None
        assert found(copy, warm.entry.engine_id) == written[warm.entry.engine_id]
        return warm.entry.engine_id


SCENARIOS: Final[dict[str, Callable[[World], tuple[Act, Check, Check]]]] = {
    "first push": lambda world: push_scenario(world, pushed_before=0),
    "second push": lambda world: push_scenario(world, pushed_before=1),
    "pull": pull_scenario,
    "plain pull": lambda world: pull_scenario(world, plain=True),
    "pull back": lambda world: pull_scenario(world, back=True),
    "pull elsewhere": pull_elsewhere_scenario,
    "poll": poll_scenario,
    "poll beside": lambda world: poll_scenario(world, beside=True),
    "activation": activation_scenario,
    "activation over": lambda world: activation_scenario(world, over=True),
}


def main(scenario: str, layout: str, slice_: str, slices: str, directory: str) -> None:
    home = Path(directory)
    world = World(home=home / "world", layout=layout)
    (world.home / "bucket").mkdir(parents=True)
    (world.home / "target").mkdir()
    act, half, whole = SCENARIOS[scenario](world)

    deaths = 0
    for number in count(int(slice_), int(slices)):
        left = world.copied_to(home / f"{number}")
        if not killed(number, partial(act, left)):
            break
        deaths += 1
        half(left)
        act(left)
        whole(left)
        shutil.rmtree(left.home)
    print(deaths)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    main(*sys.argv[1:])
