"""A primary that gives its pipeline away, and who takes it or does not."""

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

from ckptsync.model import Role
from ckptsync.operations.switchover import SwitchedOver
from ckptsync.stores.base import ObjectStore
from tests.operations.takeovers import Node, Site

_PATIENCE: Final = 20  # pauses; a wait that takes longer never ends

Meanwhile = Callable[[float], object]


def a_site(disk: Path, layout: str = "directory") -> Site:
    """Host-a is primary with a checkpoint that is not pushed; host-b and host-c are alive."""
    site = Site.at(disk / "site", layout)
    site.push_new(site.a)
    site.a.start(site.store)
    for node in (site.b, site.c):
        node.poll(site.store)
        node.probe(site.store)
        node.beat(site.store)
    site.write(site.a)
    return site


def takes(site: Site, node: Node) -> None:
    """What the daemon of a standby does: it polls, and takes what was released to it."""
    head = node.poll(site.store).head
    assert head is not None
    if head.writer.released_to == node.node:
        node.activate(site.store, head.write_id)


def patiently(*steps: Callable[[], object]) -> Meanwhile:
    """One step at each pause, the last of them at every further one."""
    paused = 0

    def meanwhile(_seconds: float) -> None:
        nonlocal paused
        assert paused < _PATIENCE, "it waits for ever"
        if steps:
            steps[min(paused, len(steps) - 1)]()
        paused += 1

    return meanwhile


def hand_over(
    site: Site,
    store: ObjectStore | None = None,
    meanwhile: Meanwhile | None = None,
    *,
    timeout: timedelta = timedelta(hours=1),
    withdraw: threading.Event | None = None,
) -> SwitchedOver:
    return site.a.hand_over(
        store or site.store,
        "host-b",
        meanwhile or patiently(lambda: takes(site, site.b)),
        timeout=timeout,
        withdraw=withdraw,
    )


def primaries(site: Site) -> list[str]:
    return [node.node for node in site.nodes if node.role is Role.PRIMARY]


def require_one_primary(site: Site) -> str:
    """By its own word and by head's; what was pushed last is what it goes on from."""
    site.require_sound()
    found = primaries(site)
    assert len(found) == 1, found
    (node,) = (each for each in site.nodes if each.node == found[0])
    assert node.writes_to(site.store)
    assert site.head.latest == site.head.checkpoints[-1].id
    if node is not site.a:
        site.require_restored(node, site.head.checkpoints[-1].engine_id)
    site.push_new(node)
    site.require_sound()
    with node.running(site.store) as pipeline:
        assert pipeline.state.handovers.current() is None
    return found[0]
