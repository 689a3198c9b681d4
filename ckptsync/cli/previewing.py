"""What a prune would do, as 'ckptsync prune --dry-run' shows it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ckptsync.cli import wiring
from ckptsync.cli.answer import Answer
from ckptsync.cli.invocation import Invocation
from ckptsync.cli.progress import bar
from ckptsync.cli.tables import table
from ckptsync.cli.wording import orphaned
from ckptsync.config.model import Config
from ckptsync.errors import NothingToDo
from ckptsync.failure import Failure
from ckptsync.operations import documents
from ckptsync.operations.indexing import READER_GRACE
from ckptsync.operations.orders import Prune
from ckptsync.operations.preview import Preview, preview
from ckptsync.repository.retention import Plan, Verdict
from ckptsync.units import format_age, format_size

_HEADINGS: Final = ("CHECKPOINT", "ENGINE ID", "AGE", "SIZE", "NEW", "STATE", "VERDICT", "WHY")
_VERDICTS: Final[Mapping[str | None, str]] = {None: "keep", "wait": "waits"}
"""Of an action; the others are called as they are."""
_SUMS: Final[Mapping[str | None, str]] = {
    None: "kept",
    "revive": "to be brought back",
    "retire": "to be retired",
    "forget": "to be forgotten now",
    "wait": "retired and waiting",
}


def answer(
    invocation: Invocation, config: Config, name: str, order: Prune, *, error_if_none: bool
) -> Answer:
    """It reads only, and needs neither the pipeline's lock nor its daemon.

    The verdict is the refusal that the order would meet; or NothingToDo, if that is an error.
    Raises what `preview` raises.
    """
    with (
        wiring.wire(config, name, invocation.stop, reading=True) as pipeline,
        bar(f"prune {name}") as progress,
    ):
        found = preview(
            pipeline,
            bad=order.bad,
            orphans=order.orphans,
            insist=order.insist,
            progress=progress,
        )
        where = pipeline.store.name
    refused = None if found.refusal is None else Failure.of(found.refusal)
    verdict = refused
    if error_if_none and not _does_something(found):
        verdict = verdict or Failure.of(NothingToDo(f"there is nothing to prune in {where}"))
    return Answer(
        document={
            "pipeline": name,
            "bucket": where,
            "policy": found.policy.record(),
            "checkpoints": [_document(each, found.plan) for each in found.verdicts],
            "orphans": documents.orphaned(found.orphans),
            "refused": None if refused is None else refused.document(),
        },
        lines=lambda: lines(found),
        verdict=verdict,
    )


def _does_something(found: Preview) -> bool:
    plan, orphans = found.plan, found.orphans
    moved = plan.retire or plan.revive or plan.forget
    return bool(moved or (orphans is not None and orphans.amount.objects))


def _action(verdict: Verdict, plan: Plan) -> str | None:
    """What becomes of it; None if it stays as it is."""
    id = verdict.checkpoint.id
    for action in ("retire", "revive", "forget"):
        if id in getattr(plan, action):
            return action
    return None if verdict.keep else "wait"


def _document(verdict: Verdict, plan: Plan) -> Mapping[str, Any]:
    of = verdict.checkpoint
    return {
        "id": of.id,
        "engine_id": of.engine_id,
        "timeline": of.timeline,
        "at": documents.time(of.at),
        "bytes": of.bytes,
        "new_bytes": of.new_bytes,
        "state": of.state,
        "retired_at": None if of.retired_at is None else documents.time(of.retired_at),
        "keep": verdict.keep and of.id not in plan.forget,  # --bad goes beyond the rules
        "why": str(verdict.why),
        "detail": verdict.detail,
        "action": _action(verdict, plan),
    }


def lines(found: Preview) -> Iterator[str]:
    """A row for each checkpoint, and what they come to."""
    orphans = documents.orphaned(found.orphans)
    if orphans is not None:
        yield orphaned(orphans)
    if not found.verdicts:
        yield "no checkpoints"
        return
    yield from table(_HEADINGS, (_cells(each, found) for each in found.verdicts))
    yield _summary(found)


def _cells(verdict: Verdict, found: Preview) -> Sequence[str]:
    of, action = verdict.checkpoint, _action(verdict, found.plan)
    return (
        of.id,
        of.engine_id,
        format_age(found.now - of.at),
        format_size(of.bytes),
        format_size(of.new_bytes),
        of.state,
        _VERDICTS.get(action) or str(action),
        _why(verdict, action, found),
    )


def _why(verdict: Verdict, action: str | None, found: Preview) -> str:
    at = verdict.checkpoint.retired_at
    if at is None or action not in ("forget", "wait"):
        return verdict.detail
    retired = f"retired {format_age(found.now - at)}"
    if action == "forget":
        return retired
    return f"{retired}, forgotten {format_age(found.now - at - READER_GRACE)}"


def _summary(found: Preview) -> str:
    numbers = Counter(_action(each, found.plan) for each in found.verdicts)
    return ", ".join(
        f"{numbers[action]:,} {told}"
        for action, told in _SUMS.items()
        if numbers[action] or action is None
    )
