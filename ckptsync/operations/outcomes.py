"""What an order came to, as a JSON document. The keys are kept; new ones may come."""

from collections.abc import Mapping
from typing import Any, Final, assert_never

from ckptsync.operations import documents
from ckptsync.operations.activate import Activated
from ckptsync.operations.keep import KeptAs, LetGo
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.prune import PruneReport
from ckptsync.operations.pull import PullReport, Restored
from ckptsync.operations.push import PushReport
from ckptsync.operations.rejoin import Rejoined
from ckptsync.operations.repair_head import HeadRebuilt
from ckptsync.operations.repair_rollback import RollbackAccepted
from ckptsync.operations.resolve import Fresh, Kept
from ckptsync.operations.switchover import SwitchedOver
from ckptsync.repository.head import Head

_NOTHING_PULLED: Final[Mapping[str, Any]] = {
    "outcome": None,
    "checkpoint": None,
    "source": None,
    "target": None,
    "fetched_bytes": 0,
    "seconds": None,
    "searched": [],
}
"""Every key is there, whatever the outcome."""


def pushed(pipeline: Pipeline, report: PushReport) -> Mapping[str, Any]:
    return {
        **_where(pipeline),
        "checkpoint": documents.checkpoint(report.entry),
        "already_synced": report.already_synced,
        "files": report.files,
        "seconds": round(report.seconds, 3),
    }


def pulled(pipeline: Pipeline, report: PullReport) -> Mapping[str, Any]:
    outcome: Mapping[str, Any]
    match report:
        case Restored():
            outcome = {
                "outcome": "pulled",
                "checkpoint": documents.checkpoint(report.entry),
                "source": report.source,
                "target": str(report.target),
                "fetched_bytes": report.fetched,
                "seconds": round(report.seconds, 3),
            }
        case Kept():
            outcome = {"outcome": "kept", "checkpoint": documents.checkpoint(report.checkpoint)}
        case Fresh():
            outcome = {"outcome": "fresh", "searched": list(report.searched)}
        case _:
            assert_never(report)
    return {"pipeline": pipeline.node.pipeline, **_NOTHING_PULLED, **outcome}


def activated(pipeline: Pipeline, report: Activated) -> Mapping[str, Any]:
    return {
        **_where(pipeline),
        "request": report.request,
        "role": str(report.role),
        "already": report.already,
        "epoch": report.epoch,
        "timeline": report.timeline,
        "checkpoint": report.checkpoint,
        "left_behind": report.left_behind,
        "seconds": round(report.seconds, 3),
    }


def switched_over(pipeline: Pipeline, report: SwitchedOver) -> Mapping[str, Any]:
    return {
        **_where(pipeline),
        "node": report.node,
        "epoch": report.epoch,
        "checkpoint": report.checkpoint,
    }


def rejoined(pipeline: Pipeline, report: Rejoined) -> Mapping[str, Any]:
    return {
        **_where(pipeline),
        "already": report.already,
        "quarantine": None if report.quarantine is None else str(report.quarantine),
    }


def settled(pipeline: Pipeline, report: Activated | Rejoined) -> Mapping[str, Any]:
    """With what was kept: the bucket's state after a Rejoined, else the local one."""
    if isinstance(report, Rejoined):
        return {"kept": "bucket", **rejoined(pipeline, report)}
    return {"kept": "local", **activated(pipeline, report)}


def accepted(pipeline: Pipeline, report: RollbackAccepted) -> Mapping[str, Any]:
    return {
        **_where(pipeline),
        **_head(report.head),
        "taken": report.taken,
        "already": report.already,
        "gone": list(report.gone),
    }


def rebuilt(pipeline: Pipeline, report: HeadRebuilt) -> Mapping[str, Any]:
    return {
        **_where(pipeline),
        **_head(report.head),
        "checkpoints": report.checkpoints,
        "left_out": [{"key": each.key, "reason": each.reason} for each in report.left_out],
        "replaced": report.replaced,
        "already": report.already,
    }


def pruned(pipeline: Pipeline, report: PruneReport) -> Mapping[str, Any]:
    swept = report.swept
    return {
        **_where(pipeline),
        "retired": list(report.retired),
        "revived": list(report.revived),
        "forgotten": list(report.forgotten),
        "kept": report.live,
        "retired_now": report.waiting,
        "bad_now": report.bad,
        "deleted_objects": swept.deleted.objects,
        "deleted_bytes": swept.deleted.bytes,
        "listed": swept.orphans is not None,
        "orphans": documents.orphaned(swept.orphans),
        "generation": swept.generation,
        "left_to_others": report.left_to_others,
        "put_off": report.put_off,
        "seconds": round(report.seconds, 3),
    }


def kept_as(pipeline: Pipeline, report: KeptAs) -> Mapping[str, Any]:
    return {
        **_where(pipeline),
        "name": report.name,
        "checkpoint": documents.checkpoint(report.entry),
        "until": None if report.until is None else documents.time(report.until),
        "already": report.already,
        "revived": report.revived,
    }


def let_go(pipeline: Pipeline, report: LetGo) -> Mapping[str, Any]:
    return {
        **_where(pipeline),
        "name": report.name,
        "checkpoint": report.checkpoint,
        "already": report.checkpoint is None,
    }


def _where(pipeline: Pipeline) -> Mapping[str, Any]:
    return {"pipeline": pipeline.node.pipeline, "bucket": pipeline.store.name}


def _head(head: Head) -> Mapping[str, Any]:
    return {"epoch": head.epoch, "revision": head.revision, "latest": head.latest}
