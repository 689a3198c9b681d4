"""ckptsync history"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, assert_never

import click

from ckptsync.cli import runs, wiring
from ckptsync.cli.answer import Answer
from ckptsync.cli.invocation import Invocation, json_option, pipeline_argument
from ckptsync.cli.tables import table
from ckptsync.cli.wording import counted, moment
from ckptsync.errors import CannotTell
from ckptsync.failure import Failure
from ckptsync.operations import documents
from ckptsync.operations.past import Began, Event, Past, Ran, past
from ckptsync.state.role import RoleChange

_HEADINGS: Final = ("WHEN", "WHAT", "EPOCH", "HOW")


@click.command("history")
@pipeline_argument
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="How many events to show at most.",
)
@json_option
@click.pass_obj
def command(invocation: Invocation, name: str | None, limit: int) -> Answer:
    """Show who was primary when, and what was run on this node.

    The newest comes first. A timeline begins when a node takes over, or goes back to an older
    checkpoint; the checkpoints that it leaves behind are the loss. Timelines come from the
    bucket, roles and runs from what this node remembers; runs in a row that ended alike are one
    line. If the bucket does not answer, the rest is shown, and the exit code is 16.
    """
    config = invocation.config()
    name = config.choose(name)
    with wiring.wire(config, name, invocation.stop, backoff=wiring.HASTY, reading=True) as pipeline:
        found = past(pipeline, limit=limit)
    return Answer(
        document={
            "pipeline": found.pipeline,
            "bucket": found.store,
            "events": [_document(each) for each in found.events],
        },
        lines=lambda: _lines(found),
        asides=() if found.bucket_problem is None else ("the timelines are missing",),
        verdict=_verdict(found),
    )


def _verdict(found: Past) -> Failure | None:
    bucket, missing = found.bucket_problem, found.bucket_problem or found.state_problem
    if bucket is not None and not bucket.transient:
        return Failure.of(bucket)
    return None if missing is None else Failure.of(CannotTell(str(missing), hint=missing.hint))


def _document(event: Event) -> Mapping[str, Any]:
    match event:
        case Began(timeline=timeline):
            fork = timeline.parent
            return {
                "kind": "timeline",
                "at": documents.time(event.at),
                "timeline": timeline.id,
                "epoch": timeline.epoch,
                "node": timeline.node,
                "reason": timeline.reason,
                "parent": None
                if fork is None
                else {"timeline": fork.timeline, "checkpoint": fork.checkpoint},
                "left_behind": event.left_behind,
            }
        case RoleChange():
            return {
                "kind": "role",
                "at": documents.time(event.at),
                "role": event.role,
                "epoch": event.epoch,
                "reason": event.reason,
                "problem": event.problem,
            }
        case Ran():
            return {
                "kind": "run",
                "at": documents.time(event.at),
                "run": event.newest.kind,
                "times": event.times,
                "since": documents.time(event.oldest.started_at),
                "newest": documents.run(event.newest),
            }
        case _:
            assert_never(event)


def _lines(found: Past) -> Iterator[str]:
    if found.events:
        yield from table(_HEADINGS, [_cells(each) for each in found.events])
    else:
        yield "nothing has happened yet, as far as is known"


def _cells(event: Event) -> Sequence[str]:
    match event:
        case Began(timeline=timeline):
            how = "; ".join(_how_it_began(event))
            return moment(event.at), f"timeline {timeline.id}", str(timeline.epoch), how
        case RoleChange():
            why = "; ".join(filter(None, (event.reason, event.problem)))
            return moment(event.at), event.role, str(event.epoch), why or "-"
        case Ran(newest=run):
            how = "; ".join(_how_it_ran(event))
            return moment(event.at), f"{run.kind} {run.outcome}", "-", how or "-"
        case _:
            assert_never(event)


def _how_it_began(event: Began) -> Iterator[str]:
    node = "" if event.timeline.node is None else f" ({event.timeline.node})"
    yield f"{event.timeline.reason}{node}"
    fork = event.timeline.parent
    if fork is not None:
        yield f"goes on from {fork.checkpoint or 'nothing'}"
    if event.left_behind:
        yield f"leaves {counted(event.left_behind, 'checkpoint')} behind"


def _how_it_ran(event: Ran) -> Iterator[str]:
    came_to = runs.outcome(event.newest)
    if came_to is not None:
        yield came_to
    if event.times > 1:
        yield f"{event.times:,} times since {moment(event.oldest.started_at)}"
