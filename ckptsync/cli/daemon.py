"""What the daemon of a pipeline says of itself, where there is one."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ckptsync.api.client import Client, DaemonAway
from ckptsync.daemon.snapshot import Asked, Contact, Snapshot
from ckptsync.errors import CkptsyncError
from ckptsync.failure import Failure
from ckptsync.operations import documents
from ckptsync.units import format_age, format_size

Said = Snapshot | CkptsyncError | None
"""None: no daemon runs. An error: whether one does, or how it is doing, cannot be told."""


def ask(state_dir: Path, pipeline: str) -> Said:
    try:
        with Client(state_dir, pipeline) as client:
            return client.snapshot()
    except DaemonAway:
        return None
    except CkptsyncError as error:
        return error


def document(said: Said) -> Mapping[str, Any]:
    return {
        "daemon": _document(said) if isinstance(said, Snapshot) else None,
        "daemon_problem": Failure.of(said).document() if isinstance(said, CkptsyncError) else None,
    }


def facts(said: Said, now: datetime) -> Iterator[tuple[str, str]]:
    if said is None:
        yield "daemon", "not running"
    elif isinstance(said, CkptsyncError):
        yield "daemon", f"unknown: {said}"
    else:
        yield from _facts(said, now)


def _facts(said: Snapshot, now: datetime) -> Iterator[tuple[str, str]]:
    started = format_age(now - said.started_at)
    yield "daemon", f"process {said.pid}, ckptsync {said.version}, started {started}"
    yield "contact", _contact(said.contact, now)
    if said.running is not None:
        yield "running", _running(said.running, now)
    if said.queued:
        yield "queued", ", ".join(each.kind for each in said.queued)
    if said.pulling is not None:
        yield "pulling", said.pulling
    for what, at, failure in (
        ("start", None, said.last_start_failure),
        ("push", said.next_push_at, said.last_push_failure),
        ("pull", said.next_pull_at, said.last_pull_failure),
    ):
        if at is not None:
            due = at - now < timedelta(seconds=1)
            yield f"next {what}", "now" if due else format_age(now - at)
        if failure is not None:
            yield f"failed {what}", failure.message


def _contact(contact: Contact, now: datetime) -> str:
    answered = contact.answered_at
    last = "never" if answered is None else format_age(now - answered)
    if contact.failure is None:
        return f"the bucket answered {last}" if answered else "the bucket was not asked yet"
    return f"the bucket does not answer, and last did {last}: {contact.failure.message}"


def _running(asked: Asked, now: datetime) -> str:
    since = format_age(now - (asked.started_at or asked.created_at))
    return f"{asked.kind}, started {since}, {format_size(max(asked.moved, 0))} so far"


def _document(said: Snapshot) -> Mapping[str, Any]:
    return {
        "pid": said.pid,
        "version": said.version,
        "started_at": documents.time(said.started_at),
        "bucket_answered_at": _time(said.contact.answered_at),
        "bucket_problem": _problem(said.contact.failure),
        "running": None if said.running is None else _asked(said.running),
        "queued": [_asked(each) for each in said.queued],
        "pulling": said.pulling,
        "next_push_at": _time(said.next_push_at),
        "next_pull_at": _time(said.next_pull_at),
        "start_problem": _problem(said.last_start_failure),
        "push_problem": _problem(said.last_push_failure),
        "pull_problem": _problem(said.last_pull_failure),
    }


def _asked(asked: Asked) -> Mapping[str, Any]:
    return {
        "id": asked.id,
        "kind": asked.kind,
        "created_at": documents.time(asked.created_at),
        "started_at": _time(asked.started_at),
        "moved_bytes": asked.moved,
    }


def _time(at: datetime | None) -> str | None:
    return None if at is None else documents.time(at)


def _problem(failure: Failure | None) -> Mapping[str, Any] | None:
    return None if failure is None else failure.document()
