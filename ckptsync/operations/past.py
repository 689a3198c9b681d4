"""What has happened to a pipeline: who was its primary when, and what was run on this node."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Final

from ckptsync.errors import Cancelled, CkptsyncError
from ckptsync.operations.looking import look_again
from ckptsync.operations.pipeline import Pipeline
from ckptsync.repository.head import Entry, Head, Timeline
from ckptsync.repository.repository import Empty
from ckptsync.repository.timelines import on_path, path
from ckptsync.state.history import Outcome, Run, RunId
from ckptsync.state.role import RoleChange

_MOVED: Final = ("retired", "revived", "forgotten", "deleted_objects")
"""What a prune leaves of itself that says what went, and what came back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Began:
    """A timeline began: a node took over, or went back to an older checkpoint."""

    timeline: Timeline
    left_behind: int
    """Of the checkpoints that the bucket still names, those that lay behind the pipeline until
    then, and do not any more: the loss."""

    @property
    def at(self) -> datetime:
        """By the store's clock."""
        return self.timeline.at


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """Runs of one kind that ended alike, with nothing else in between.

    A prune that changed something is always one alone.
    """

    newest: Run
    oldest: Run
    times: int

    @property
    def at(self) -> datetime:
        return self.newest.started_at


Event = Began | RoleChange | Ran


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    pipeline: str
    store: str
    events: Sequence[Event]
    """The newest first, by the clocks of this node and of the store."""
    bucket_problem: CkptsyncError | None
    """Why the timelines are missing."""
    state_problem: CkptsyncError | None
    """Why what this node remembers is missing."""


def past(pipeline: Pipeline, *, limit: int) -> Past:
    """The newest events, at most so many. What cannot be had is part of the answer."""
    state = pipeline.state
    changes = state.roles.changes()
    bucket_problem: CkptsyncError | None = None
    began: tuple[Began, ...] = ()
    try:
        began = _began(pipeline, limit)
    except Cancelled:
        raise
    except CkptsyncError as error:
        bucket_problem = error
    return Past(
        pipeline=pipeline.node.pipeline,
        store=pipeline.store.name,
        events=merged(began, changes, state.history.runs(), limit=limit),
        bucket_problem=bucket_problem,
        state_problem=state.missing,
    )


def merged(
    began: Iterable[Began], changes: Iterable[RoleChange], runs: Iterable[Run], *, limit: int
) -> tuple[Event, ...]:
    """The newest `limit` events, runs in a row counted as one."""
    single = (Ran(newest=each, oldest=each, times=1) for each in runs)
    every: list[Event] = [*began, *changes, *single]
    every.sort(key=lambda event: event.at, reverse=True)
    return tuple(islice(_collapsed(every), limit))


def left_behind(head: Head, entries: Sequence[Entry], begun: Timeline) -> int:
    """How many checkpoints the pipeline had behind it before a timeline began, and not then."""
    earlier = [each.id for each in head.timelines if each.id < begun.id]
    if not earlier:
        return 0
    before, then = (
        path(head.model_copy(update={"timeline": active})) for active in (max(earlier), begun.id)
    )
    return sum(on_path(each, before) and not on_path(each, then) for each in entries)


def _collapsed(events: Iterable[Event]) -> Iterator[Event]:
    row: Ran | None = None
    for event in events:
        if row is not None and isinstance(event, Ran) and _likeness(event) == _likeness(row):
            row = replace(row, oldest=event.oldest, times=row.times + event.times)
            continue
        if row is not None:
            yield row
        row = event if isinstance(event, Ran) else None
        if row is None:
            yield event
    if row is not None:
        yield row


def _likeness(ran: Ran) -> tuple[str, Outcome, RunId | None]:
    run = ran.newest
    return run.kind, run.outcome, run.id if _moved(run) else None


def _moved(run: Run) -> bool:
    """Whether it is a prune after which the bucket holds something else."""
    if run.kind != "prune" or run.details is None:
        return False
    details = json.loads(run.details)
    return any(details.get(each) for each in _MOVED)


def _began(pipeline: Pipeline, limit: int) -> tuple[Began, ...]:
    found = look_again(pipeline.store, pipeline.state.identity.remembered())
    entries: Sequence[Entry] = ()
    if isinstance(found, Empty):
        at = found.head
    else:
        repository, at = found
        entries = tuple(repository.entries(at.head))
    if at is None:
        return ()
    newest = sorted(at.head.timelines, key=lambda each: each.id, reverse=True)[:limit]
    return tuple(
        Began(
            timeline=each,
            left_behind=left_behind(at.head, entries, each),
        )
        for each in newest
    )
