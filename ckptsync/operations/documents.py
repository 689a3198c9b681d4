"""The JSON of what several commands tell of. The keys are kept; new ones may come."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from ckptsync.model import LocalCheckpoint
from ckptsync.moments import utc
from ckptsync.operations.orphans import Orphans
from ckptsync.repository.head import Entry
from ckptsync.state.history import Run


def checkpoint(of: Entry | LocalCheckpoint) -> Mapping[str, Any]:
    """Of one that only the local disk has, what nobody has counted yet is null."""
    if isinstance(of, Entry):
        return {
            "id": of.id,
            "engine_id": of.engine_id,
            "step": of.step,
            "records": of.records,
            "timeline": of.timeline,
            "epoch": of.epoch,
            "at": time(of.at),
            "bytes": of.bytes,
            "new_bytes": of.new_bytes,
            "state": of.state,
        }
    return {
        "id": None,
        "engine_id": of.engine.id,
        "step": str(of.engine.step),
        "records": None if of.engine.records is None else str(of.engine.records),
        "timeline": None,
        "epoch": None,
        "at": time(of.at),
        "bytes": None,
        "new_bytes": None,
        "state": None,
    }


def orphaned(found: Orphans | None) -> Mapping[str, Any] | None:
    if found is None:
        return None
    return {
        "objects": found.amount.objects,
        "bytes": found.amount.bytes,
        "young_objects": found.young.objects,
        "young_bytes": found.young.bytes,
    }


def run(last: Run | None) -> Mapping[str, Any] | None:
    if last is None:
        return None
    details = json.loads(last.details) if last.details else {}
    error = details.pop("error", None)
    return {
        "outcome": last.outcome,
        "started_at": time(last.started_at),
        "finished_at": None if last.finished_at is None else time(last.finished_at),
        "error": error,
        "details": details,
    }


def time(at: datetime) -> str:
    return utc(at).isoformat()


def seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else round(duration.total_seconds(), 3)
