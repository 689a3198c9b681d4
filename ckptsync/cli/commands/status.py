"""ckptsync status"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import click

from ckptsync.cli import documents, wiring
from ckptsync.cli.answer import Answer, Failure
from ckptsync.cli.invocation import Invocation, json_option, pipeline_argument
from ckptsync.cli.tables import facts
from ckptsync.cli.wording import counted
from ckptsync.config.model import Config
from ckptsync.errors import (
    Cancelled,
    CannotTell,
    CkptsyncError,
    IntegrityError,
    UnsupportedFormat,
)
from ckptsync.operations.status import BucketStatus, Status, status, unreachable
from ckptsync.state.history import Run
from ckptsync.stores.probe import Capabilities
from ckptsync.units import format_age, format_size

_ANSWERED: Final = (BucketStatus, IntegrityError, UnsupportedFormat)


@click.command("status")
@pipeline_argument
@json_option
@click.pass_obj
def command(invocation: Invocation, name: str | None) -> Answer:
    """Show how a pipeline and its bucket are doing.

    Every pipeline, if none is named. What cannot be looked at is never shown as empty: the exit
    code is 16 if a bucket, the storage or the state did not answer, or 10 for a bucket that is
    not there, 14 for one that denies access, 12 for a damaged one, 11 for one not to be trusted.
    """
    config = invocation.config()
    names = [config.choose(name)] if name is not None else sorted(config.pipelines)
    found = [_status(invocation, config, each) for each in names]
    problems = [each.problem for each in found if each.problem is not None]
    return Answer(
        document={"pipelines": [_document(each) for each in found]},
        lines=lambda: _lines(found),
        verdict=_verdict(problems),
    )


def _verdict(problems: Sequence[CkptsyncError]) -> Failure | None:
    """That something is known to be wrong is worse than that it cannot be told."""
    known = [each for each in problems if not isinstance(each, CannotTell)]
    return next((Failure.of(each) for each in (*known, *problems)), None)


def _lines(found: Sequence[Status]) -> Iterator[str]:
    for number, each in enumerate(found):
        if number:
            yield ""
        yield from facts(f"{each.pipeline} in {each.store}", _facts(each))


def _status(invocation: Invocation, config: Config, name: str) -> Status:
    try:
        with wiring.wire(
            config, name, invocation.stop, backoff=wiring.HASTY, reading=True
        ) as pipeline:
            return status(pipeline)
    except Cancelled:
        raise
    except CkptsyncError as error:
        settings = config.pipelines[name]
        layout = wiring.local_layout(config, name)
        return unreachable(name, str(settings.sync.bucket), layout, settings.storage_path, error)


def _document(found: Status) -> Mapping[str, Any]:
    bucket = found.bucket if isinstance(found.bucket, BucketStatus) else BucketStatus()
    local = None if isinstance(found.local, CkptsyncError) else found.local
    memory = None if isinstance(found.memory, CkptsyncError) else found.memory
    return {
        "pipeline": found.pipeline,
        "bucket": found.store,
        "reachable": isinstance(found.bucket, _ANSWERED),
        "problem": _problem(found.problem),
        "head": _head(bucket),
        "latest": None if bucket.latest is None else documents.checkpoint(bucket.latest),
        "recovery_point_age_seconds": documents.seconds(bucket.recovery_point_age),
        "newest_local": documents.checkpoint(local[-1]) if local else None,
        "local_checkpoints": None if local is None else len(local),
        "local_problem": _problem(found.local if isinstance(found.local, CkptsyncError) else None),
        "state_problem": _problem(
            found.memory if isinstance(found.memory, CkptsyncError) else None
        ),
        "unpushed": None
        if found.unpushed is None
        else [documents.checkpoint(each) for each in found.unpushed],
        "last_push": None if memory is None else documents.run(memory.last_push),
        "last_good_push": None if memory is None else documents.run(memory.last_good_push),
        "last_pull": None if memory is None else documents.run(memory.last_pull),
        "probe": None if memory is None else _probe(memory.capabilities),
    }


def _problem(error: CkptsyncError | None) -> Mapping[str, Any] | None:
    return None if error is None else Failure.of(error).document()


def _head(bucket: BucketStatus) -> Mapping[str, Any] | None:
    head = bucket.head
    if head is None:
        return None
    return {
        "repository_id": head.repository_id,
        "revision": head.revision,
        "epoch": head.epoch,
        "timeline": head.timeline,
        "checkpoints": len(bucket.entries),
        "writer": {
            "node": head.writer.node,
            "state": head.writer.state,
            "since": documents.time(head.writer.since),
            "this_node": bucket.is_writer,
        },
    }


def _probe(seen: Capabilities | None) -> Mapping[str, Any] | None:
    if seen is None:
        return None
    return {
        "fences": seen.fences,
        "verifies_checksums": seen.verifies_checksums,
        "clock_offset_seconds": documents.seconds(seen.clock_offset),
    }


def _facts(found: Status) -> Iterator[tuple[str, str]]:
    yield from _bucket_facts(found)
    yield "local", _local(found.local)
    yield "unpushed", "unknown" if found.unpushed is None else str(len(found.unpushed))
    memory = found.memory
    if isinstance(memory, CkptsyncError):
        if memory is not found.bucket:
            yield "state", f"unavailable: {memory}"
        yield from ((what, "unknown") for what in ("last push", "last pull", "probe"))
        return
    yield "last push", _run(memory.last_push)
    if memory.last_push != memory.last_good_push:
        yield "last good push", _run(memory.last_good_push)
    yield "last pull", _run(memory.last_pull)
    yield "probe", _probe_text(memory.capabilities)


def _bucket_facts(found: Status) -> Iterator[tuple[str, str]]:
    bucket = found.bucket
    if isinstance(bucket, CkptsyncError):
        yield "bucket", f"unknown: {bucket}"
        return
    if bucket.distrust is not None:
        yield "bucket", f"not to be trusted: {bucket.distrust}"
    elif bucket.head is None:
        yield "bucket", "reachable, holds no checkpoint"
    else:
        yield "bucket", f"reachable, holds {counted(len(bucket.entries), 'checkpoint')}"
    head, latest = bucket.head, bucket.latest
    if head is None:
        return
    yield "head", f"epoch {head.epoch}, timeline {head.timeline}, revision {head.revision}"
    this_node = " (this node)" if bucket.is_writer else ""
    yield "writer", f"{head.writer.node}{this_node}, {head.writer.state}"
    if latest is None or bucket.recovery_point_age is None:
        yield "recovery point", "none: no checkpoint is live"
        return
    yield "latest", f"{latest.id} (step {latest.step}, {format_size(latest.bytes)})"
    yield "recovery point", f"committed {format_age(bucket.recovery_point_age)}"


def _local(local: Sequence[Any] | CkptsyncError) -> str:
    if isinstance(local, CkptsyncError):
        return f"unknown: {local}"
    if not local:
        return "no complete checkpoint"
    newest = local[-1]
    age = format_age(datetime.now(UTC) - newest.at)
    return f"{len(local)}, the newest {newest.engine.id} (step {newest.engine.step}) {age}"


def _run(last: Run | None) -> str:
    if last is None:
        return "never"
    ended = last.finished_at or last.started_at
    text = f"{last.outcome} {format_age(datetime.now(UTC) - ended)}"
    details = json.loads(last.details or "{}")
    if (error := details.get("error")) is not None:
        return f"{text}: {error['message']}"
    moved = _moved(details)
    return text if moved is None else f"{text}: {moved}"


def _moved(details: Mapping[str, Any]) -> str | None:
    """What a push or pull that was done came to, by the document that it left."""
    checkpoint = details.get("checkpoint") or {}
    id = checkpoint.get("id") or checkpoint.get("engine_id")
    match details:
        case {"outcome": "pulled", "target": target}:
            return f"{id} to {target}"
        case {"outcome": "kept"}:
            return f"kept local checkpoint {id}"
        case {"outcome": "fresh"}:
            return "found no checkpoint, changed nothing"
        case {"already_synced": True}:
            return f"{id} was there already"
        case {"already_synced": False}:
            return str(id)
        case _:
            return None


def _probe_text(seen: Capabilities | None) -> str:
    if seen is None:
        return "none within a day; a push or 'ckptsync doctor' makes one"
    fencing = "conditional writes hold" if seen.fences else "IGNORES CONDITIONS: no fencing"
    if seen.verifies_checksums is None:
        return fencing
    return f"{fencing}, checksums {'are' if seen.verifies_checksums else 'are NOT'} verified"
