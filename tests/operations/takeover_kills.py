"""What moves a pipeline between nodes, killed at each write to the disk; then whoever comes next.

    python -m tests.operations.takeover_kills SCENARIO LAYOUT SLICE SLICES DIRECTORY

Prints how often it killed. The tests run it in an interpreter of its own, for it forks.
"""

import shutil
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

import pytest
import structlog

from ckptsync.errors import Cancelled, Fenced, TimedOut, Unavailable
from ckptsync.model import Role
from ckptsync.operations.pipeline import Takeover
from tests.crashes import killed
from tests.operations.actors import Odd
from tests.operations.takeovers import Node, Site, Waits
from tests.pipelines import contents

Act = Callable[[Site], object]
GoOn = Callable[[Site], None]
_AWAY: Final = Unavailable("s3://dr/orders", "reach", "the store", "timed out")


def activate(site: Site, *, warm: bool) -> tuple[Act, GoOn]:
    """Host-b takes over from host-a, which is gone."""
    site.push_new(site.a)
    if warm:
        site.b.poll(site.store)
    site.push_new(site.a)
    site.b.probe(site.store)

    def go_on(left: Site) -> None:
        if left.b.carry_on(left.store) is Role.STANDBY:
            left.b.activate(left.store)
        left.require_sound()
        _require_primary(left, left.b)
        with pytest.raises(Fenced):
            left.push_new(left.a)

    return lambda left: left.b.activate(left.store), go_on


def activate_without_bucket(site: Site) -> tuple[Act, GoOn]:
    """Host-b goes on from what it has warm, and becomes the primary when the bucket is back."""
    takeover = Takeover(on_pull_failure="local", max_staleness=timedelta(days=9999))
    site.b = replace(site.b, takeover=takeover)
    site.push_new(site.a)
    site.b.poll(site.store)
    site.b.probe(site.store)

    def away(left: Site) -> None:
        left.b.activate(Odd(left.store, lambda _number, _call: _AWAY), force=True)

    def act(left: Site) -> None:
        away(left)
        left.b.reconnect(left.store)

    def go_on(left: Site) -> None:
        if left.b.carry_on(left.store) is Role.STANDBY:
            away(left)
            left.b.reconnect(left.store)
        left.require_sound()
        _require_primary(left, left.b)

    return act, go_on


def rejoin(site: Site) -> tuple[Act, GoOn]:
    """Host-a was displaced, and has a checkpoint that it never pushed."""
    site.push_new(site.a)
    site.b.activate(site.store)
    site.write(site.a)
    assert site.a.start(site.store) is Role.FENCED
    before = _engines(site.a.root)

    def go_on(left: Site) -> None:
        assert left.a.start(left.store) in (Role.FENCED, Role.STANDBY)
        left.a.rejoin(left.store)
        kept = sorted((left.a.work / "quarantine").iterdir())
        found = [each for directory in kept for each in _engines(directory).items()]
        assert len(found) == len(dict(found)), "kept twice"
        assert dict(found) == before
        assert _engines(left.a.root) == {}
        left.a.activate(left.store)
        left.require_sound()
        _require_primary(left, left.a)

    return lambda left: left.a.rejoin(left.store), go_on


def switch_over(site: Site) -> tuple[Act, GoOn]:
    """Both nodes are in one building, and lose their power at once."""
    site.push_new(site.a)
    site.a.start(site.store)
    site.b.poll(site.store)
    site.b.probe(site.store)
    site.write(site.a)

    def take(left: Site) -> None:
        head = left.b.poll(left.store).head
        if head is not None and head.writer.released_to == "host-b":
            left.b.activate(left.store, head.write_id)

    def act(left: Site) -> None:
        left.b.beat(left.store)
        left.a.hand_over(left.store, "host-b", lambda _seconds: take(left))

    def go_on(left: Site) -> None:
        left.b.carry_on(left.store)
        waits = Waits(lambda _seconds: take(left))
        role = left.a.carry_on(left.store, stop=waits)
        left.require_sound()
        assert {role, left.b.role} == {Role.PRIMARY, Role.STANDBY}
        if role is Role.PRIMARY:
            left.push(left.a)
        _require_primary(left, left.a if role is Role.PRIMARY else left.b)

    return act, go_on


def take_back(site: Site) -> tuple[Act, GoOn]:
    """Nobody takes what host-a gives away."""
    site.push_new(site.a)
    site.a.start(site.store)
    site.b.poll(site.store)
    withdraw = threading.Event()
    withdraw.set()

    def act(left: Site) -> None:
        left.b.beat(left.store)
        with suppress(Cancelled):
            left.a.hand_over(left.store, "host-b", _never, withdraw=withdraw)
        assert left.a.role is Role.PRIMARY

    def go_on(left: Site) -> None:
        left.clock.passes(hours=2)
        with suppress(TimedOut):
            left.a.carry_on(left.store, stop=Waits(_never))
        left.require_sound()
        _require_primary(left, left.a)

    return act, go_on


def _never(seconds: float) -> None:
    raise AssertionError(f"it waits for {seconds} s")


def _engines(top: Path) -> dict[str, tuple[bytes, int, int]]:
    return {path: facts for path, facts in contents(top).items() if path != "feldera.pidlock"}


def _require_primary(site: Site, node: Node) -> None:
    assert node.role is Role.PRIMARY
    assert node.writes_to(site.store)
    if node is not site.a:
        site.require_restored(node, site.head.checkpoints[-1].engine_id)
    site.push_new(node)
    site.require_sound()


SCENARIOS: Final[dict[str, Callable[[Site], tuple[Act, GoOn]]]] = {
    "activate": partial(activate, warm=False),
    "activate warm": partial(activate, warm=True),
    "activate without the bucket": activate_without_bucket,
    "rejoin": rejoin,
    "switch over": switch_over,
    "take back": take_back,
}


def main(scenario: str, layout: str, slice_: str, slices: str, directory: str) -> None:
    home = Path(directory)
    site = Site.at(home / "site", layout, on_disk=True)
    act, go_on = SCENARIOS[scenario](site)
    deaths = 0
    for number in count(int(slice_), int(slices)):
        left = site.copied_to(home / f"{number}")
        if not killed(number, partial(act, left)):
            break
        deaths += 1
        left.require_sound()
        go_on(left)
        shutil.rmtree(left.home)
    print(deaths)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    main(*sys.argv[1:])
