"""How a pipeline is doing, for machines and for people."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from ckptsync.cli import runs
from ckptsync.cli.wording import counted, moment
from ckptsync.errors import CkptsyncError, IntegrityError, UnsupportedFormat
from ckptsync.failure import Failure
from ckptsync.model import CheckpointId
from ckptsync.operations import documents
from ckptsync.operations.status import BucketStatus, Memory, Status
from ckptsync.state.activation import Activation
from ckptsync.state.history import Run
from ckptsync.state.switchover import Handover, HandoverStage
from ckptsync.stores.probe import Capabilities
from ckptsync.units import format_age, format_duration, format_size

_STAGES: Final = {
    HandoverStage.STOPPING: "stopping the engine",
    HandoverStage.RELEASED: "released",
    HandoverStage.TAKING_BACK: "taking it back",
}
_STATES: Final = ("live", "retired", "bad")
_REMEMBERED: Final = ("last push", "last pull", "last prune", "probe")
_ANSWERED: Final = (BucketStatus, IntegrityError, UnsupportedFormat)


def document(found: Status) -> Mapping[str, Any]:
    bucket = found.bucket if isinstance(found.bucket, BucketStatus) else BucketStatus()
    local = None if isinstance(found.local, CkptsyncError) else found.local
    memory = None if isinstance(found.memory, CkptsyncError) else found.memory
    return {
        "pipeline": found.pipeline,
        "bucket": found.store,
        "reachable": isinstance(found.bucket, _ANSWERED),
        "problem": _problem(found.problem),
        "role": None if memory is None else _role(memory),
        "epoch": None if memory is None else memory.epoch,
        "paused_since": None if memory is None else _time(memory.paused_since),
        "activation": None if memory is None else _activation(memory.activation),
        "switchover": None if memory is None else _switchover(memory.handover),
        "warm": None if memory is None else _warm(memory.warm, found),
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
        "last_prune": None if memory is None else documents.run(memory.last_prune),
        "prune_left_to_others": None if memory is None else memory.prune_left_to_others,
        "probe": None if memory is None else _probe(memory.capabilities),
    }


def facts(found: Status) -> Iterator[tuple[str, str]]:
    memory = found.memory
    if isinstance(memory, CkptsyncError):
        yield "role", "unknown"
    else:
        yield from _role_facts(memory)
    yield from _bucket_facts(found)
    if isinstance(memory, Memory) and memory.warm is not None:
        yield "warm", _warm_text(memory.warm, found)
    yield "local", _local(found.local)
    yield "unpushed", "unknown" if found.unpushed is None else str(len(found.unpushed))
    if isinstance(memory, CkptsyncError):
        if memory is not found.bucket:
            yield "state", f"unavailable: {memory}"
        yield from ((what, "unknown") for what in _REMEMBERED)
        return
    yield from _last("last push", memory.last_push)
    if memory.last_push != memory.last_good_push:
        yield "last good push", _run(memory.last_good_push)
    yield from _last("last pull", memory.last_pull)
    yield from _last_prune(memory)
    yield "probe", _probe_text(memory.capabilities)


def _problem(error: CkptsyncError | None) -> Mapping[str, Any] | None:
    return None if error is None else Failure.of(error).document()


def _time(at: datetime | None) -> str | None:
    return None if at is None else documents.time(at)


def _role(memory: Memory) -> Mapping[str, Any]:
    change = memory.change
    return {
        "role": memory.role,
        "since": None if change is None else documents.time(change.at),
        "reason": None if change is None else change.reason,
        "problem": None if change is None else change.problem,
    }


def _activation(activation: Activation | None) -> Mapping[str, Any] | None:
    if activation is None:
        return None
    return {
        "request": activation.request,
        "started_at": documents.time(activation.started_at),
        "stage": activation.stage.name.lower(),
        "reason": activation.reason,
        "problem": activation.problem,
    }


def _switchover(handover: Handover | None) -> Mapping[str, Any] | None:
    if handover is None:
        return None
    return {
        "to": handover.node,
        "deadline": documents.time(handover.deadline),
        "released": handover.released,
    }


def _warm(id: CheckpointId | None, found: Status) -> Mapping[str, Any] | None:
    if id is None:
        return None
    entry = found.warm
    return {
        "id": id,
        "engine_id": None if entry is None else entry.engine_id,
        "step": None if entry is None else entry.step,
        "at": None if entry is None else documents.time(entry.at),
        "lag_seconds": documents.seconds(found.lag),
    }


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
        **{state: bucket.count(state) for state in _STATES},
        "kept_by_name": bucket.kept,
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


def _role_facts(memory: Memory) -> Iterator[tuple[str, str]]:
    change = memory.change
    if change is None:
        yield "role", f"{memory.role}, says the configuration"
    else:
        why = "" if change.reason is None else f": {change.reason}"
        yield "role", f"{memory.role} since {_ago(change.at)}{why}"
        if change.problem is not None and change.problem != change.reason:
            yield "problem", change.problem
    if memory.paused_since is not None:
        yield "paused", f"since {_ago(memory.paused_since)}"
    if memory.activation is not None:
        stage = memory.activation.stage.name.lower()
        yield "activation", f"{stage}, begun {_ago(memory.activation.started_at)}"
        if memory.activation.problem is not None:
            yield "held up by", memory.activation.problem
    if memory.handover is not None:
        stage = _STAGES[memory.handover.stage]
        to, deadline = memory.handover.node, memory.handover.deadline
        yield "switchover", f"to {to}, {stage}, until {moment(deadline)}"


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
        yield "bucket", f"reachable, holds {_holds(bucket)}"
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


def _holds(bucket: BucketStatus) -> str:
    """How many checkpoints, and of which states unless they are all live."""
    held = counted(len(bucket.entries), "checkpoint")
    counts = {state: bucket.count(state) for state in _STATES}
    if counts["live"] < len(bucket.entries):
        held += f" ({', '.join(f'{count} {state}' for state, count in counts.items() if count)})"
    return f"{held}, {bucket.kept} kept by name" if bucket.kept else held


def _warm_text(id: CheckpointId, found: Status) -> str:
    bucket, entry, lag = found.bucket, found.warm, found.lag
    if isinstance(bucket, CkptsyncError):
        return id
    if entry is None:
        return f"{id}, which the bucket does not name"
    known = f"{id} (step {entry.step})"
    if lag is None:
        return f"{known}, which the latest does not go on from"
    if bucket.latest is not None and bucket.latest.id == id:
        return f"{known}, the latest"
    return f"{known}, {format_duration(lag)} behind the latest"


def _local(local: Sequence[Any] | CkptsyncError) -> str:
    if isinstance(local, CkptsyncError):
        return f"unknown: {local}"
    if not local:
        return "no complete checkpoint"
    newest = local[-1]
    age = format_age(datetime.now(UTC) - newest.at)
    return f"{len(local)}, the newest {newest.engine.id} (step {newest.engine.step}) {age}"


def _last(what: str, last: Run | None) -> Iterator[tuple[str, str]]:
    """How it ended; below, what to do where it failed."""
    yield what, _run(last)
    error = None if last is None else json.loads(last.details or "{}").get("error")
    if error is not None and error.get("hint"):  # older versions noted none
        yield "", f"try: {error['hint']}"


def _run(last: Run | None) -> str:
    if last is None:
        return "never"
    ended = last.finished_at or last.started_at
    text = f"{last.outcome} {format_age(datetime.now(UTC) - ended)}"
    came_to = runs.outcome(last)
    return text if came_to is None else f"{text}: {came_to}"


def _last_prune(memory: Memory) -> Iterator[tuple[str, str]]:
    """One that had nothing to do is not noted, so that there is no "never"."""
    if memory.prune_left_to_others:
        yield "last prune", "left to a node that may delete"
    elif memory.last_prune is None:
        yield "last prune", "none had anything to do"
    else:
        yield from _last("last prune", memory.last_prune)


def _probe_text(seen: Capabilities | None) -> str:
    if seen is None:
        return "none within a day; a push or 'ckptsync doctor' makes one"
    fencing = "conditional writes hold" if seen.fences else "IGNORES CONDITIONS: no fencing"
    if seen.verifies_checksums is None:
        return fencing
    return f"{fencing}, checksums {'are' if seen.verifies_checksums else 'are NOT'} verified"


def _ago(at: datetime) -> str:
    return f"{moment(at)} ({format_age(datetime.now(UTC) - at)})"
