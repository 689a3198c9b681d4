"""Claims of which nobody knows yet whether they were stored, and activations over half a pull."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest

from ckptsync.daemon.duties import Duties
from ckptsync.daemon.duty import Duty
from ckptsync.errors import CannotTell, PrimaryActive, Refused, Unavailable
from ckptsync.hooks import Hook
from ckptsync.model import Role, ignore
from ckptsync.operations.orders import Activate
from ckptsync.operations.pipeline import Takeover
from ckptsync.operations.standby import Standby
from ckptsync.repository import keys
from ckptsync.state.activation import Stage
from ckptsync.stores.base import Body, Expect, Fetched, ObjectStore, Version
from tests.fakes.stores import Call, FaultyStore
from tests.operations.actors import LOST, Odd, Verdict
from tests.operations.races import SWAP, unavailable
from tests.operations.takeovers import REQUEST, HookLog, Site
from tests.pipelines import a_small_checkpoint


class Postponed(FaultyStore):
    """Its first swap of head is not answered, and arrives when the test says so.

    Until then head cannot be read, unless it is `readable`.
    """

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self.readable = True
        self.arrive: Callable[[], Version] | None = None

    def put(self, key: str, body: Body, *, expect: Version | Expect = Expect.ANYTHING) -> Version:
        if key != keys.HEAD or self.arrive is not None:
            return super().put(key, body, expect=expect)
        data = bytes(body)
        self.arrive = lambda: super(Postponed, self).put(key, data, expect=expect)
        self.readable = False
        raise unavailable(Call("put", key))

    def get(self, key: str, *, limit: int, unless: Version | None = None) -> Fetched:
        if not self.readable:
            raise unavailable(Call("get", key))
        return super().get(key, limit=limit, unless=unless)


@pytest.fixture
def site(disk: Path) -> Site:
    """Host-a is the primary, and has said nothing for a while; host-b has its latest warm."""
    site = Site.at(disk / "site")
    site.push_new(site.a)
    site.a.start(site.store)
    site.b.poll(site.store)
    site.b.probe(site.store)
    site.clock.passes(minutes=5)
    return site


def unanswered(site: Site) -> Postponed:
    """The claim of host-b is on its way; whether it arrives, nobody knows."""
    store = Postponed(site.store)
    with pytest.raises(CannotTell):
        site.b.activate(store)
    store.readable = True
    return store


def arrives(store: Postponed) -> None:
    assert store.arrive is not None
    store.arrive()


def test_a_claim_that_arrives_after_it_was_refused_is_gone_on_with(site: Site) -> None:
    store = unanswered(site)
    site.a.beat(site.store)
    with pytest.raises(PrimaryActive):
        site.b.activate(store)
    arrives(store)
    assert site.head.writer.node == "host-b"

    assert site.b.carry_on(site.store) is Role.PRIMARY
    site.require_sound()


def test_a_claim_that_arrives_after_a_start_gave_it_up_is_found_by_the_next_start(
    site: Site,
) -> None:
    store = unanswered(site)
    assert site.b.start(site.store) is Role.STANDBY
    arrives(store)

    assert site.b.carry_on(site.store) is Role.PRIMARY
    site.require_sound()


def test_a_claim_that_arrives_after_a_start_gave_it_up_is_found_by_a_poll(site: Site) -> None:
    store = unanswered(site)
    assert site.b.start(site.store) is Role.STANDBY
    with site.b.running(site.store) as pipeline:
        duties = Duties(pipeline, Standby(pipeline), Event())
        assert duties.do(Duty.POLL, ignore) is None
        arrives(store)
        assert duties.do(Duty.POLL, ignore) == Activate(request=REQUEST, engine_stopped=True)
    assert site.b.carry_on(site.store) is Role.PRIMARY
    site.require_sound()


def test_a_standby_that_gave_a_claim_up_starts_without_the_bucket(site: Site) -> None:
    unanswered(site)
    assert site.b.start(site.store) is Role.STANDBY
    away = Odd(site.store, lambda _number, call: unavailable(call))
    assert site.b.start(away) is Role.STANDBY


def test_an_unfenced_node_whose_claim_got_no_answer_stays_unfenced_until_the_bucket_does(
    site: Site,
) -> None:
    local = Takeover(on_pull_failure="local", max_staleness=timedelta(days=9999))
    site.b = replace(site.b, takeover=local)
    site.b.activate(Odd(site.store, lambda _number, call: unavailable(call)), force=True)
    assert site.b.role is Role.UNFENCED
    site.write(site.b)
    gone = False

    def lose(_number: int, call: Call) -> Verdict:
        nonlocal gone
        if gone:
            return unavailable(call)
        gone = call == SWAP
        return LOST if gone else None

    with pytest.raises(CannotTell):
        site.b.reconnect(Odd(site.store, lose))
    assert site.head.writer.node == "host-b"

    once = Odd(site.store, lambda number, call: unavailable(call) if number else None)
    with pytest.raises(Unavailable):
        site.b.carry_on(once)
    assert site.b.role is Role.UNFENCED
    assert site.b.carry_on(site.store) is Role.PRIMARY
    site.require_sound()


def test_an_activation_that_would_start_fresh_over_half_of_a_pull_is_refused(disk: Path) -> None:
    site = Site.at(disk / "site")
    hooks = HookLog(disk)
    site.b = replace(site.b, hooks=hooks.commands(Hook.ON_ACTIVATE))
    site.b.checkpoint("step-1", a_small_checkpoint(1))
    with site.b.running(site.store) as pipeline:
        pipeline.state.identity.publishing("0001-00000001-0123456789ab", "step-9", 9, None)

    with pytest.raises(Refused, match="has not finished putting it in place") as refused:
        site.b.activate(site.store)
    assert refused.value.hint == "ckptsync pull orders"
    assert hooks.names() == []
    assert site.b.activation is not None
    assert site.b.activation.stage is Stage.FENCED
