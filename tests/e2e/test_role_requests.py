"""Commands that change roles, on two hosts that have a daemon each."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from ckptsync.model import Role
from ckptsync.repository import nodes
from tests.e2e.conftest import MakePair
from tests.e2e.daemons import daemon, eventually
from tests.e2e.pair import Pair, ask, configured, kind, with_hooks, with_sync
from tests.e2e.roles import (
    ACTIVATED,
    beat,
    bucket_of,
    push_step,
    status_of,
    without_engines,
)
from tests.e2e.site import Site
from tests.pipelines import write_tree


@pytest.fixture
def pair(make_pair: MakePair) -> Pair:
    return without_engines(make_pair("directory"))


@contextmanager
def _daemons(pair: Pair) -> Iterator[None]:
    """On each host, and host b is warm and known to be alive."""
    with daemon(pair.a), daemon(pair.b):
        eventually(lambda: _is_warm(pair.b, pair))
        eventually(lambda: nodes.read(pair.store, "host-b"))
        yield


def _is_warm(site: Site, pair: Pair) -> bool:
    warm = ask(site).warm
    return warm is not None and warm.checkpoint == pair.head.latest


def test_a_daemon_activates_when_it_is_asked_to_and_answers_alike(pair: Pair) -> None:
    with _daemons(pair):
        refused = pair.b.run("activate", "--yes", "--json")
        done = pair.b.run("activate", "--yes", "--force", "--json", "--request", "drill-7")
        same = pair.b.run("activate", "--yes", "--json", "--request", "drill-7")
        after = pair.b.run("activate", "--yes")

    assert (refused.code, kind(refused)) == (13, "PrimaryActive")
    assert done.code == same.code == after.code == 0
    assert set(done.document) == set(same.document) == ACTIVATED
    assert (done.document["request"], done.document["epoch"]) == ("drill-7", 2)
    assert done.document["after"]["writer"]["node"] == "host-b"
    assert after.out == "already the primary of orders, at epoch 2\n"


def test_an_activation_can_be_left_to_the_daemon_and_waited_for_later(pair: Pair) -> None:
    with _daemons(pair):
        b = with_hooks(pair.b, on_activate="sleep 1")
        assert b.run("reload").code == 0
        begun = b.run("activate", "--yes", "--force", "--no-wait")
        request = begun.out.strip()
        late = b.run("activate", "--yes", "--request", request, "--timeout", "1ms", "--json")
        done = b.run("activate", "--yes", "--request", request, "--json")

    assert begun.code == 0
    assert f"--request {request}" in begun.err
    assert (late.code, kind(late)) == (15, "TimedOut")
    assert late.document["error"]["hint"] == f"ckptsync activate orders --request {request}"
    assert (done.code, done.document["request"], done.document["epoch"]) == (0, request, 2)


def test_two_daemons_switch_over_and_back(pair: Pair) -> None:
    with _daemons(pair):
        write_tree(pair.a.storage() / "step-2", {"n": b"2"})
        there = pair.a.run("switchover", "--yes", "--json")
        eventually(lambda: _is_warm(pair.a, pair))
        back = pair.b.run("switchover", "--yes")

    assert there.code == 0
    assert there.document["node"] == "host-b"
    assert [(each["node"], each["role"]) for each in there.document["after"]["nodes"]] == [
        ("host-a", "standby"),
        ("host-b", "primary"),
    ]
    assert back.code == 0
    assert back.out.startswith("node 'host-a' is the primary of orders now, at epoch 3")
    assert (pair.a.storage() / "step-2" / "n").read_bytes() == b"2"


def test_a_switchover_that_a_daemon_has_in_hand_can_be_cancelled(pair: Pair) -> None:
    with _daemons(pair):
        beat(pair, "host-c", Role.STANDBY)
        with pair.a.start("switchover", "--yes", "--to", "host-c", "--json") as running:
            eventually(lambda: pair.head.writer.state == "released")
            cancelled = pair.a.run("switchover", "--cancel", "--json")
            given_up = running.done()
        nothing = pair.a.run("switchover", "--cancel", "--json")

    assert (cancelled.code, cancelled.document["cancelled"]) == (0, True)
    assert (given_up.code, kind(given_up)) == (130, "Cancelled")
    assert pair.head.writer.state == "active"
    assert (nothing.code, kind(nothing)) == (4, "NothingToDo")


def test_a_displaced_daemon_rejoins_and_warms_up_again(pair: Pair) -> None:
    with _daemons(pair):
        assert pair.b.run("activate", "--yes", "--force").code == 0
        eventually(lambda: ask(pair.a).role == "fenced")
        refused = pair.a.run("activate", "--yes", "--json")
        done = pair.a.run("rejoin", "--yes", "--json")
        again = pair.a.run("rejoin", "--yes", "--json")
        eventually(lambda: _is_warm(pair.a, pair))

    assert (refused.code, kind(refused)) == (13, "Refused")
    assert refused.document["error"]["hint"] == "ckptsync rejoin orders"
    assert (done.code, done.document["already"]) == (0, False)
    assert (again.code, again.document["already"]) == (0, True)
    mine = {each["node"]: each["role"] for each in done.document["after"]["nodes"]}
    assert mine == {"host-a": "standby", "host-b": "primary"}


def test_a_daemon_accepts_a_bucket_that_went_back_in_time(pair: Pair) -> None:
    with daemon(with_sync(pair.a, push_interval="1h")):
        old = (bucket_of(pair) / "head.json").read_bytes()
        push_step(pair.a, 2)
        (bucket_of(pair) / "head.json").write_bytes(old)
        eventually(lambda: ask(pair.a).role == "stopped")
        done = pair.a.run("repair", "accept-rollback", "--yes", "--json")
        eventually(lambda: ask(pair.a).role == "primary")

    assert (done.code, done.document["taken"]) == (0, True)
    push_step(pair.a, 3)


def test_a_daemon_is_paused_and_resumed(pair: Pair) -> None:
    with _daemons(pair):
        first, second = pair.b.run("pause", "--json"), pair.b.run("pause")
        push_step(pair.a, 2)
        seen = status_of(pair.b)
        resumed = pair.b.run("resume")
        eventually(lambda: _is_warm(pair.b, pair))

    assert first.document["already"] is False
    assert second.out.startswith("orders is paused already, since ")
    assert seen["paused_since"] == first.document["paused_since"]
    assert seen["daemon"]["next_pull_at"] is None
    assert resumed.out == "orders is not paused any more\n"


def test_a_reload_takes_what_changed_and_refuses_what_is_wrong(pair: Pair) -> None:
    payments = bucket_of(pair).with_name("payments")
    payments.mkdir()
    both = replace(pair.a, buckets={**pair.a.buckets, "payments": f"file://{payments}"})
    with daemon(pair.a) as running:
        wrong = with_sync(pair.a, transfers=0).run("reload")
        changed = with_sync(pair.a, push_interval="2h").run("reload", "--json")
        more = configured(both).run("reload")
        told = both.run("reload", "--json")
        fewer = configured(pair.a).run("reload", "--json")

    assert (wrong.code, changed.code, more.code, told.code, fewer.code) == (2, 0, 0, 0, 0)
    pid = running.process.pid
    assert changed.document == {"daemons": [{"pid": pid, "pipelines": ["orders"], "error": None}]}
    assert told.document["daemons"][0]["pipelines"] == ["orders", "payments"]
    assert fewer.document == changed.document
