"""What an adversary tried on prunes by a third host while the bucket changes hands."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ckptsync.errors import CkptsyncError
from ckptsync.model import Role
from ckptsync.operations.pipeline import Takeover
from tests.operations.actors import Odd, before
from tests.operations.forgetting import entries_of, into_pages
from tests.operations.invariants import require_sound
from tests.operations.prunings import KEEP_TWO
from tests.operations.races import unavailable
from tests.operations.takeovers import Site


def a_site(home: Path, pages: bool = False) -> Site:
    site = Site.at(home)
    site.a, site.b, site.c = (replace(node, retention=KEEP_TWO) for node in site.nodes)
    site.a.start(site.store)
    for number in range(5):
        site.push_new(site.a)
        site.clock.passes(hours=2)
        if number == 2:
            site.b.poll(site.store)
    if pages:
        into_pages(site.store)
    site.a.prune(site.store)
    site.clock.passes(hours=25)
    site.b.beat(site.store)
    site.write(site.a)
    return site


def meddling(site: Site, disk: Path, act: Callable[[Site, Odd], object], step: int = 1) -> None:
    for number in range(0, 1000, step):
        left = site.copied_to(disk / f"left-{number}")

        def strike(left: Site = left) -> None:
            left.c.prune(left.store, orphans=True, insist=True)

        odd = Odd(left.store, before(number, strike))
        with suppress(CkptsyncError):
            act(left, odd)
        seen = require_sound(left.store)
        for _ in range(3):
            left.clock.passes(hours=9)
            left.c.prune(left.store, orphans=True)
        seen = require_sound(left.store, since=None)
        assert seen is not None
        owner = left.b if left.b.writes_to(left.store) else left.a
        if not owner.writes_to(left.store):
            left.clock.passes(hours=1)
            with suppress(CkptsyncError):
                act(left, Odd(left.store, before(10_000, strike)))
            owner = left.b if left.b.writes_to(left.store) else left.a
        left.write(owner)
        owner.push(left.store)
        seen = require_sound(left.store)
        assert seen is not None
        assert seen.head.latest == seen.entries[-1].id
        done = number >= len(odd.calls)
        shutil.rmtree(left.home)
        if done:
            assert number > 5
            return


@pytest.mark.parametrize("pages", [False, True])
def test_a_prune_by_a_third_host_at_any_call_of_a_takeover_is_no_harm(
    disk: Path, *, pages: bool
) -> None:
    site = a_site(disk / "site", pages)
    meddling(site, disk, lambda left, odd: left.b.activate(odd, force=True))


def test_a_prune_by_a_third_host_at_any_call_of_a_rejoin_and_return_is_no_harm(disk: Path) -> None:
    site = a_site(disk / "site")
    site.b.activate(site.store, force=True)
    site.push_new(site.b)
    with suppress(CkptsyncError):
        site.a.push(site.store)

    def act(left: Site, odd: Odd) -> None:
        with suppress(CkptsyncError):
            left.a.carry_on(odd)
        with suppress(CkptsyncError):
            left.a.rejoin(odd)
        left.a.poll(odd)
        left.a.activate(odd, "back", force=True)

    meddling(site, disk, act, step=2)


def test_a_node_without_the_bucket_reconnects_though_a_third_host_pruned_it(disk: Path) -> None:
    site = a_site(disk / "site")
    site.a.push(site.store)
    local = Takeover(guard=False, on_pull_failure="local", max_staleness=timedelta(days=9))
    site.b = replace(site.b, takeover=local)
    site.b.poll(site.store)
    site.b.activate(Odd(site.store, lambda _number, call: unavailable(call)), force=True)
    assert site.b.role is Role.UNFENCED
    site.c.prune(site.store)
    site.clock.passes(hours=25)
    site.c.prune(site.store, orphans=True)

    assert site.b.reconnect(site.store) is Role.PRIMARY

    pushed = site.push_new(site.b)
    assert entries_of(site.store)[-1] == pushed
    require_sound(site.store)
