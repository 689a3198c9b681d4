"""What a prune would do, as 'ckptsync prune --dry-run' shows it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ckptsync.cli import wiring
from ckptsync.cli.answer import Answer
from ckptsync.cli.invocation import Invocation
from ckptsync.cli.tables import table
from ckptsync.config.model import Config
from ckptsync.errors import NothingToDo
from ckptsync.failure import Failure
from ckptsync.operations import documents
from ckptsync.operations.indexing import READER_GRACE
from ckptsync.operations.preview import Preview, preview
from ckptsync.repository.retention import Plan, Verdict
from ckptsync.units import format_age, format_size

_HEADINGS: Final = ("CHECKPOINT", "ENGINE ID", "AGE", "SIZE", "NEW", "STATE", "VERDICT", "WHY")


def answer(
    invocation: Invocation,
    config: Config,
    name: str,
    *,
    bad: bool,
    insist: bool,
    error_if_none: bool,
) -> Answer:
    """It reads only, and needs neither the pipeline's lock nor its daemon.

    The verdict is the refusal that the prune would meet; or NothingToDo, if that is an error.
    Raises what `preview` raises.
    """
    with wiring.wire(config, name, invocation.stop, reading=True) as pipeline:
        found = preview(pipeline, bad=bad)
        where = pipeline.store.name
    refused = None if insist or found.refusal is None else Failure.of(found.refusal)
    nothing = not (found.plan.retire or found.plan.revive or found.plan.forget)
    verdict = refused
    if nothing and error_if_none:
        verdict = verdict or Failure.of(NothingToDo(f"there is nothing to prune in {where}"))
    return Answer(
        document={
            "pipeline": name,
            "bucket": where,
            "policy": found.policy.record(),
            "checkpoints": [_document(each, found.plan) for each in found.verdicts],
            "refused": None if refused is None else refused.document(),
        },
        lines=lambda: lines(found),
        verdict=verdict,
    )


def _action(verdict: Verdict, plan: Plan) -> str | None:
    """What this prune would do with it now."""
    id = verdict.checkpoint.id
    for action in ("retire", "revive", "forget"):
        if id in getattr(plan, action):
            return action
    return None


def _goes(verdict: Verdict, plan: Plan) -> bool:
    """Now or when its time has come; one that is bad goes although the rules keep it."""
    return not verdict.keep or verdict.checkpoint.id in plan.forget


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
        "keep": not _goes(verdict, plan),
        "why": str(verdict.why),
        "detail": verdict.detail,
        "action": _action(verdict, plan),
    }


def lines(found: Preview) -> Iterator[str]:
    """A row for each checkpoint, and what they come to."""
    if not found.verdicts:
        yield "no checkpoints"
        return
    yield from table(_HEADINGS, (_cells(each, found) for each in found.verdicts))
    yield _summary(found)


def _cells(verdict: Verdict, found: Preview) -> Sequence[str]:
    of = verdict.checkpoint
    return (
        of.id,
        of.engine_id,
        format_age(found.now - of.at),
        format_size(of.bytes),
        format_size(of.new_bytes),
        of.state,
        "delete" if _goes(verdict, found.plan) else "keep",
        _why(verdict, found),
    )


def _why(verdict: Verdict, found: Preview) -> str:
    of = verdict.checkpoint
    match _action(verdict, found.plan):
        case "revive":
            return f"{verdict.detail}: live again"
        case "forget":
            why = _retired(verdict, found) or verdict.detail
            return f"{why}, forgotten now"
        case None if not verdict.keep and of.retired_at is not None:
            due = format_age(found.now - of.retired_at - READER_GRACE)
            return f"{_retired(verdict, found)}, forgotten {due}"
        case _:
            return verdict.detail


def _retired(verdict: Verdict, found: Preview) -> str | None:
    at = verdict.checkpoint.retired_at
    return None if at is None else f"retired {format_age(found.now - at)}"


def _summary(found: Preview) -> str:
    going = [each.checkpoint for each in found.verdicts if _goes(each, found.plan)]
    number = len(found.verdicts)
    kept = number - len(going)
    new = format_size(sum(each.new_bytes for each in going))
    of = "1 checkpoint" if number == 1 else f"{number:,} checkpoints"
    told = f"of {of} {kept:,} {'is' if kept == 1 else 'are'} kept"
    if not going:
        return f"{told}, none goes"
    go, them = ("goes", "it") if len(going) == 1 else ("go", "them")
    return f"{told}, {len(going):,} {go} ({new} new with {them})"
