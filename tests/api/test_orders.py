"""Orders on their way to the daemon."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from ckptsync.api.orders import UnreadableOrder, decode, encode
from ckptsync.operations.orders import (
    KINDS,
    AcceptRollback,
    Activate,
    Keep,
    Order,
    Prune,
    Pull,
    Push,
    RebuildHead,
    Rejoin,
    SettleDivergence,
    Switchover,
    Unkeep,
)

_ORDERS: tuple[Order, ...] = (
    Push(),
    Push(engine_id="é/7", new_timeline=True),
    Pull(checkpoint="latest", force=True, engine_stopped=True),
    Activate(request="r-1", reason="a disk died\n", force=True, detach_replica=True),
    Switchover(to="host-b", timeout=timedelta(minutes=2, milliseconds=1)),
    Rejoin(engine_stopped=True),
    AcceptRollback(),
    RebuildHead(),
    SettleDivergence(keep="bucket"),
    Prune(orphans=True, bad=True, insist=True, scheduled=True),
    Keep(checkpoint="latest", name="a", until=datetime(2027, 1, 31, 23, 59, tzinfo=UTC), by="x@y"),
    Unkeep(name="a"),
)


@pytest.mark.parametrize("order", _ORDERS, ids=repr)
def test_an_order_arrives_as_it_was_sent(order: Order) -> None:
    assert decode(json.dumps(encode(order)).encode()) == order


def test_every_order_has_a_name() -> None:
    assert {type(order) for order in _ORDERS} == set(KINDS.values())
    assert encode(Rejoin())["order"] == "rejoin"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "no JSON object"),
        (b"{", "no JSON object"),
        (b"\xff", "no JSON object"),
        (b"null", "no JSON object"),
        (b'["push"]', "no JSON object"),
        (b"[" * 60_000, "no JSON object"),
        (b'{"order": "push"} {}', "no JSON object"),
        (b"{}", '"order" has to be one of push, pull'),
        (b'{"order": null}', '"order" has to be one of'),
        (b'{"order": ["push"]}', '"order" has to be one of'),
        (b'{"order": "format"}', '"order" has to be one of'),
        (b'{"order": "push", "forced": true, "a": 1}', "push has no a or forced"),
        (b'{"order": "push", "new_timeline": "yes"}', "push: new_timeline: "),
        (b'{"order": "push", "new_timeline": 1}', "push: new_timeline: "),
        (b'{"order": "push", "engine_id": 7}', "push: engine_id: "),
        (b'{"order": "activate"}', "activate: request: Field required"),
        (b'{"order": "settle-divergence", "keep": "both"}', "settle-divergence: keep: "),
        (b'{"order": "switchover", "to": "b", "timeout": "soon"}', "switchover: timeout: "),
        (b'{"order": "switchover", "to": "b", "timeout": NaN}', "switchover: timeout: "),
    ],
)
def test_an_order_that_makes_no_sense_is_told_what_is_wrong(body: bytes, problem: str) -> None:
    with pytest.raises(UnreadableOrder, match=problem):
        decode(body)
