"""Who may be displaced: a primary that seems alive is not, unless the operator insists."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from ckptsync.errors import PrimaryActive
from ckptsync.model import Role
from ckptsync.operations.pipeline import Takeover
from ckptsync.repository import claim, keys, nodes
from tests.fakes.stores import Call, Crash
from tests.operations.actors import Odd, edit_head
from tests.operations.takeovers import Site
from tests.pipelines import snapshot

FRESH: Final = nodes.FRESH.total_seconds()


@pytest.fixture
def site(disk: Path) -> Site:
    """Its primary was alive this very moment, and is silent from now on."""
    site = Site.at(disk)
    site.push_new(site.a)
    site.b.poll(site.store)
    site.a.beat(site.store)
    return site


def test_a_primary_that_was_alive_just_now_is_not_displaced(site: Site) -> None:
    bucket = snapshot(site.store)
    site.clock.passes(seconds=FRESH - 1)

    with pytest.raises(PrimaryActive, match="node 'host-a', was alive 29 s ago") as caught:
        site.b.activate(site.store)

    assert caught.value.exit_code == 13
    assert "--force" in (caught.value.hint or "")
    assert snapshot(site.store) == bucket
    assert (site.b.role, site.b.told()) == (Role.STANDBY, [])
    assert not site.b.root.exists()
    site.push_new(site.a)


def test_what_the_guard_refused_is_given_up(site: Site) -> None:
    with pytest.raises(PrimaryActive):
        site.b.activate(site.store)

    with site.b.running(site.store) as pipeline:
        assert pipeline.state.activations.unfinished() is None
    assert site.b.start(site.store) is Role.STANDBY


def test_what_the_guard_refused_may_be_asked_for_again(site: Site) -> None:
    with pytest.raises(PrimaryActive):
        site.b.activate(site.store)
    site.clock.passes(seconds=FRESH)

    report = site.b.activate(site.store)

    assert (report.role, report.already, report.epoch) == (Role.PRIMARY, False, 2)


def test_what_was_refused_is_the_newest_activation_when_it_is_asked_for_again(site: Site) -> None:
    """Else a crash of it would not be gone on from: another one came in between."""
    with pytest.raises(PrimaryActive):
        site.b.activate(site.store, "first")
    site.b.activate(site.store, "second", force=True)
    site.c.activate(site.store, "by-c", force=True)
    site.b.start(site.store)
    site.b.rejoin(site.store)
    site.b.probe(site.store)
    swaps = 0

    def decide(_number: int, call: Call) -> None:
        nonlocal swaps
        if swaps:
            raise Crash
        swaps += call == Call("put", keys.HEAD)

    with pytest.raises(Crash):
        site.b.activate(Odd(site.store, decide), "first", force=True)

    assert site.b.start(site.store) is Role.ACTIVATING


def test_a_primary_that_is_silent_for_long_is_displaced(site: Site) -> None:
    site.clock.passes(seconds=FRESH)

    assert site.b.activate(site.store).role is Role.PRIMARY


def test_a_primary_that_never_gave_a_sign_of_life_is_displaced(site: Site) -> None:
    site.store.delete([nodes.key("host-a")])

    assert site.b.activate(site.store).role is Role.PRIMARY


def test_an_operator_who_insists_displaces_a_living_primary(site: Site) -> None:
    report = site.b.activate(site.store, force=True)

    assert (report.role, report.epoch) == (Role.PRIMARY, 2)
    marker = site.b.activation
    assert marker is not None
    assert marker.forced


def test_without_the_guard_nobody_looks_for_signs_of_life(site: Site) -> None:
    b = replace(site.b, takeover=Takeover(guard=False))

    assert b.activate(site.store).role is Role.PRIMARY


def test_a_bucket_whose_clock_was_set_back_displaces_nobody(site: Site) -> None:
    site.clock.passes(hours=-10)

    with pytest.raises(PrimaryActive, match="was alive 0 s ago"):
        site.b.activate(site.store)


def test_an_unreadable_sign_of_life_is_a_sign_of_life(site: Site) -> None:
    site.store.put(nodes.key("host-a"), b"{")

    with pytest.raises(PrimaryActive):
        site.b.activate(site.store)


def test_a_sign_of_life_from_the_future_format_is_a_sign_of_life(site: Site) -> None:
    site.store.put(nodes.key("host-a"), b'{"format": "ckptsync/node", "version": 2}')

    with pytest.raises(PrimaryActive):
        site.b.activate(site.store)


def test_a_sign_of_life_under_the_name_of_the_writer_counts_whoever_gave_it(
    site: Site, disk: Path
) -> None:
    """Of two nodes of one name the heartbeat of the one hides that of the other."""
    namesake = replace(site.a, home=disk / "namesake", machine="namesake")
    namesake.beat(site.store)

    with pytest.raises(PrimaryActive, match="node 'host-a', was alive"):
        site.b.activate(site.store)


def test_a_node_that_has_the_name_of_the_writer_does_not_see_whether_that_lives(
    site: Site,
) -> None:
    namesake = replace(site.b, node="host-a")
    namesake.start(site.store)
    site.a.beat(site.store)
    namesake.beat(site.store)

    with pytest.raises(PrimaryActive, match="another node that is called 'host-a'") as caught:
        namesake.activate(site.store)

    assert "a name of its own" in (caught.value.hint or "")
    site.clock.passes(seconds=FRESH)
    assert namesake.activate(site.store).role is Role.PRIMARY


def test_the_writer_need_not_mind_its_own_sign_of_life(site: Site) -> None:
    """It says primary of itself, and its instance is gone from head."""
    site.b.activate(site.store, force=True)
    site.b.beat(site.store)
    edit_head(site.store, writer=site.head.writer.model_copy(update={"state": "activating"}))

    site.b.activate(site.store, "another")

    assert site.head.epoch == 3


def _released(site: Site, to: str) -> None:
    edit_head(site.store, writer=claim.released(site.head, to).writer)


def test_what_was_released_to_this_node_is_taken_from_a_living_one(site: Site) -> None:
    _released(site, "host-b")

    assert site.b.activate(site.store).role is Role.PRIMARY
    assert site.head.writer.released_to is None


def test_what_was_released_to_another_node_is_not_taken_from_a_living_one(site: Site) -> None:
    _released(site, "host-c")

    with pytest.raises(PrimaryActive):
        site.b.activate(site.store)

    site.clock.passes(seconds=FRESH)
    assert site.b.activate(site.store).role is Role.PRIMARY


@pytest.mark.parametrize(
    "alive", [lambda site: site.c.beat(site.store), lambda site: site.b.beat(site.store)]
)
def test_other_standbys_are_no_primaries(site: Site, alive: Callable[[Site], None]) -> None:
    site.c.poll(site.store)
    site.clock.passes(seconds=FRESH)
    alive(site)

    assert site.b.activate(site.store).role is Role.PRIMARY


def test_the_guard_reads_the_head_that_it_swaps(site: Site) -> None:
    """A third node took over in between, and is alive: that one is guarded, too."""
    site.clock.passes(seconds=FRESH)
    site.c.activate(site.store, "by-c")
    site.c.beat(site.store)

    with pytest.raises(PrimaryActive, match="node 'host-c'"):
        site.b.activate(site.store)


def test_a_primary_that_was_renamed_is_known_by_its_id(site: Site) -> None:
    site.clock.passes(seconds=FRESH)
    renamed = replace(site.a, node="host-renamed")
    renamed.beat(site.store)

    with pytest.raises(PrimaryActive):
        site.b.activate(site.store)
