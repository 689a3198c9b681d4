"""What a run came to, in a phrase, by what each operation leaves of itself."""

import json
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from ckptsync.cli import runs
from ckptsync.state.history import Outcome, Run, RunId

NOON: Final = datetime(2026, 11, 20, 12, tzinfo=UTC)
_CHECKPOINT: Final = {"id": "0001-00000001-0123456789ab", "engine_id": "step-1"}
_ID: Final = _CHECKPOINT["id"]
_IDLE: Final[dict[str, Any]] = {
    "retired": [],
    "revived": [],
    "forgotten": [],
    "deleted_objects": 0,
    "deleted_bytes": 0,
    "left_to_others": False,
}


def _told(details: Any) -> str | None:
    return runs.outcome(
        Run(
            id=RunId(1),
            kind="any",
            started_at=NOON,
            finished_at=NOON,
            outcome=Outcome.DONE,
            details=None if details is None else json.dumps(details),
        )
    )


@pytest.mark.parametrize(
    ("details", "told"),
    [
        (None, None),
        ({}, None),
        ({"error": {"kind": "Busy", "message": "too busy"}}, "too busy"),
        ({"checkpoint": _CHECKPOINT, "already_synced": False}, _ID),
        ({"checkpoint": _CHECKPOINT, "already_synced": True}, f"{_ID} was there already"),
        ({"outcome": "pulled", "checkpoint": _CHECKPOINT, "target": "/srv"}, f"{_ID} to /srv"),
        (
            {"outcome": "kept", "checkpoint": {**_CHECKPOINT, "id": None}, "target": None},
            "kept local checkpoint step-1",
        ),
        ({"outcome": "fresh", "checkpoint": None}, "found no checkpoint, changed nothing"),
        (
            {"role": "primary", "epoch": 2, "checkpoint": _ID},
            f"primary at epoch 2, goes on from {_ID}",
        ),
        (
            {"role": "unfenced", "epoch": 2, "checkpoint": None},
            "unfenced at epoch 2, goes on from nothing",
        ),
        ({"node": "host-b", "epoch": 3, "checkpoint": _ID}, "host-b took over at epoch 3"),
        ({"already": False, "quarantine": "/q"}, "what was here is in /q"),
        ({"already": True, "quarantine": None}, None),
        ({"epoch": 4, "latest": _ID, "checkpoints": 2}, "head names 2 checkpoints at epoch 4"),
        ({"epoch": 4, "latest": _ID, "gone": []}, f"goes on from {_ID} at epoch 4"),
        ({**_IDLE}, "there was nothing to prune"),
        ({**_IDLE, "left_to_others": True}, "left to a node that may delete"),
        (
            {
                **_IDLE,
                "retired": [_ID],
                "revived": [_ID],
                "forgotten": [_ID, _ID],
                "deleted_objects": 3,
                "deleted_bytes": 9421,
            },
            "retired 1, brought back 1, forgot 2, deleted 3 objects (9.2 KiB)",
        ),
        ({**_IDLE, "deleted_objects": 1, "deleted_bytes": 10}, "deleted 1 object (10 B)"),
        (
            {**_IDLE, "retired": [_ID] * 1234, "deleted_objects": 40_000, "deleted_bytes": 10},
            "retired 1,234, deleted 40,000 objects (10 B)",
        ),
        ({"name": "mine", "checkpoint": _CHECKPOINT, "already": False}, f"{_ID} is kept as 'mine'"),
        ({"name": "mine", "checkpoint": _CHECKPOINT, "already": True}, f"{_ID} was kept as 'mine'"),
        (
            {"name": "mine", "checkpoint": _ID, "already": False},
            f"'mine' no longer keeps {_ID}",
        ),
        ({"name": "mine", "checkpoint": None, "already": True}, "there was no keep 'mine'"),
        ({"what": "a later version left"}, None),
        (["nothing", "known"], None),
    ],
)
def test_a_run_is_told_in_a_phrase(details: Any, told: str | None) -> None:
    assert _told(details) == told
