"""What status tells of checkpoints that go, and of who lets them."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from ckptsync.cli import status as shown
from ckptsync.errors import IntegrityError
from ckptsync.model import Role
from ckptsync.operations.status import BucketStatus, Memory, Status
from ckptsync.operations.status import status as look
from ckptsync.state.history import Outcome, Run, RunId
from ckptsync.stores.memory import MemoryStore
from tests.operations.forgetting import mark_bad, retire
from tests.pipelines import Host

_PRUNED: Final[Mapping[str, Any]] = {
    "retired": ["a"],
    "revived": [],
    "forgotten": ["b"],
    "deleted_objects": 3,
    "deleted_bytes": 9421,
    "left_to_others": False,
}
_NOTHING: Final = Memory(
    role=Role.PRIMARY,
    change=None,
    epoch=1,
    paused_since=None,
    activation=None,
    handover=None,
    warm=None,
    last_push=None,
    last_good_push=None,
    last_pull=None,
    last_prune=None,
    prune_left_to_others=False,
    capabilities=None,
)


def _told(memory: Memory, what: str = "last prune") -> str:
    found = Status(
        pipeline="orders", store="s3://acme", bucket=BucketStatus(), local=(), memory=memory
    )
    return dict(shown.facts(found))[what]


def _ran(outcome: Outcome, details: Mapping[str, Any]) -> Run:
    five_days_ago = datetime.now(UTC) - timedelta(days=5)  # a slow test does not change that
    return Run(
        id=RunId(1),
        kind="prune",
        started_at=five_days_ago,
        finished_at=five_days_ago,
        outcome=outcome,
        details=json.dumps(details),
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "none had anything to do"),
        (
            {"last_prune": _ran(Outcome.DONE, _PRUNED)},
            "done 5d ago: retired 1, forgot 1, deleted 3 objects (9.2 KiB)",
        ),
        (
            {"last_prune": _ran(Outcome.FAILED, {"error": {"kind": "Any", "message": "no way"}})},
            "failed 5d ago: no way",
        ),
        ({"prune_left_to_others": True}, "left to a node that may delete"),
        (
            {
                "prune_left_to_others": True,
                "last_prune": _ran(Outcome.FAILED, {"error": {"message": "denied"}}),
            },
            "left to a node that may delete",
        ),
    ],
)
def test_a_prune_is_told_in_a_line(changes: Mapping[str, Any], told: str) -> None:
    assert _told(replace(_NOTHING, **changes)) == told


def test_below_what_failed_stands_what_to_do() -> None:
    refused = {"error": {"kind": "Refused", "message": "much", "hint": "say --yes"}}
    unknown = {"error": {"kind": "Refused", "message": "much", "hint": None}}

    def below(**runs: Run) -> list[str]:
        memory = replace(_NOTHING, **runs)  # type: ignore[arg-type]  # named by the callers
        found = Status(
            pipeline="orders", store="s3://acme", bucket=BucketStatus(), local=(), memory=memory
        )
        told = list(shown.facts(found))
        return [f"{told[at - 1][0]}: {what}" for at, (name, what) in enumerate(told) if not name]

    for name in ("push", "pull", "prune"):
        assert below(**{f"last_{name}": _ran(Outcome.FAILED, refused)}) == [
            f"last {name}: try: say --yes"
        ]
        assert below(**{f"last_{name}": _ran(Outcome.FAILED, unknown)}) == []
    assert below(last_prune=_ran(Outcome.DONE, _PRUNED)) == []


def test_what_cannot_be_recalled_is_unknown() -> None:
    damaged = IntegrityError("state.sqlite is damaged")
    found = Status(
        pipeline="orders", store="s3://acme", bucket=BucketStatus(), local=(), memory=damaged
    )

    assert dict(shown.facts(found))["last prune"] == "unknown"
    document = shown.document(found)
    assert (document["last_prune"], document["prune_left_to_others"]) == (None, None)


def test_checkpoints_that_are_not_live_are_told_apart(tmp_path: Path) -> None:
    host, store = Host(home=tmp_path), MemoryStore()
    first, second, _latest = (host.push_new(name, store) for name in "123")

    def told() -> str:
        with host.running(store) as pipeline:
            return dict(shown.facts(look(pipeline)))["bucket"]

    assert told() == "reachable, holds 3 checkpoints"
    retire(store, first.id)
    assert told() == "reachable, holds 3 checkpoints (2 live, 1 retired)"
    mark_bad(store, second.id)
    assert told() == "reachable, holds 3 checkpoints (1 live, 1 retired, 1 bad)"
    host.keep(store, first.id, name="mine")
    assert told() == "reachable, holds 3 checkpoints (2 live, 1 bad), 1 kept by name"
    with host.running(store) as pipeline:
        head = shown.document(look(pipeline))["head"]
    assert {
        key: head[key] for key in ("checkpoints", "live", "retired", "bad", "kept_by_name")
    } == {
        "checkpoints": 3,
        "live": 2,
        "retired": 0,
        "bad": 1,
        "kept_by_name": 1,
    }
