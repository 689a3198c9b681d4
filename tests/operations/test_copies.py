"""A copy of a node, at work on another machine beside it."""

from dataclasses import replace
from pathlib import Path

import pytest

from ckptsync.errors import CannotTell, PrimaryActive, Unavailable
from ckptsync.model import Role
from ckptsync.operations.may_start import Permission, may_start
from ckptsync.operations.pipeline import Takeover
from ckptsync.stores.base import ObjectStore
from tests.fakes.stores import Call
from tests.operations.actors import Odd, Verdict
from tests.operations.takeovers import Node, Site, Waits
from tests.pipelines import snapshot


@pytest.fixture
def site(disk: Path) -> Site:
    site = Site.at(disk / "site")
    site.push_new(site.a)
    site.a.start(site.store)
    return site


def _copy_of(site: Site, disk: Path) -> Node:
    return replace(site.a.copied_to(disk / "copy"), machine="copy")


def _ask(node: Node, store: ObjectStore, stop: Waits) -> Permission:
    with node.running(store) as pipeline:
        return may_start(replace(pipeline, stop=stop), fresh=False)


@pytest.mark.parametrize("years", [10, 0])
def test_a_heartbeat_from_the_future_is_waited_for_no_longer_than_a_fresh_one(
    site: Site, years: int
) -> None:
    """The clock of the store was ahead as it was written, and was set right since."""
    ahead = {"days": 3650 * years, "hours": 1}
    site.clock.passes(**ahead)
    site.a.beat(site.store)
    site.clock.passes(**{unit: -count for unit, count in ahead.items()})
    rebooted = replace(site.a, machine="after a boot")
    waited: list[float] = []

    def passes(seconds: float) -> None:
        waited.append(seconds)
        site.clock.passes(seconds=seconds)

    assert rebooted.start(site.store, stop=Waits(passes)) is Role.PRIMARY

    assert waited == [32]


def test_the_engine_of_a_copy_may_not_start(site: Site, disk: Path) -> None:
    copy = _copy_of(site, disk)
    site.a.beat(site.store)
    bucket = snapshot(site.store)

    def beats(seconds: float) -> None:
        site.clock.passes(seconds=seconds)
        site.a.beat(site.store)
        bucket.update(snapshot(site.store))

    with pytest.raises(PrimaryActive, match="at work on another machine") as caught:
        _ask(copy, site.store, Waits(beats))

    assert caught.value.exit_code == 13
    assert snapshot(site.store) == bucket


def test_after_a_boot_the_engine_waits_until_the_last_heartbeat_is_old(site: Site) -> None:
    site.a.beat(site.store)
    rebooted = replace(site.a, machine="after a boot")
    waited: list[float] = []

    assert _ask(rebooted, site.store, Waits(waited.append)).verified

    assert waited == [32]


def _never(seconds: float) -> None:
    raise AssertionError(f"it waits for {seconds} s")


def test_whether_a_copy_is_at_work_is_unverified_where_the_bucket_does_not_tell(
    site: Site,
) -> None:
    def decide(_number: int, call: Call) -> Verdict:
        away = call.key.startswith("nodes/")
        return Unavailable("s3://dr/orders", "read", call.key, "timed out") if away else None

    assert not _ask(site.a, Odd(site.store, decide), Waits(_never)).verified
    strict = replace(site.a, takeover=Takeover(start_unverified=False))
    with pytest.raises(CannotTell, match="start_unverified is false"):
        _ask(strict, Odd(site.store, decide), Waits(_never))
