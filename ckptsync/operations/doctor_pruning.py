"""Whether what the rules of retention let go is let go."""

import json
from collections.abc import Iterator
from typing import Final

from ckptsync.operations.deleting import is_left_to_others
from ckptsync.operations.doctor_finding import Finding, ok, warning
from ckptsync.operations.pipeline import Pipeline
from ckptsync.state.history import Outcome
from ckptsync.units import format_age

_WHAT: Final = "pruning"


def pruning(pipeline: Pipeline) -> Iterator[Finding]:
    """How the last prune of this node ended; nothing, where the state cannot tell."""
    if pipeline.state.missing is not None:
        return
    last, name = pipeline.state.history.last("prune"), pipeline.node.pipeline
    if is_left_to_others(pipeline):
        yield warning(
            _WHAT,
            "this node may not delete, and leaves it to one that may; whether that one does "
            "cannot be told here",
            hint=f"look there: ckptsync status {name}",
        )
    elif last is None:
        yield ok(_WHAT, "none had anything to do on this node")
    else:
        ended = format_age(pipeline.now() - (last.finished_at or last.started_at))
        if last.outcome is Outcome.FAILED:
            error = json.loads(last.details or "{}").get("error", {})
            yield warning(
                _WHAT,
                f"the last prune failed {ended}: {error.get('message', 'nobody noted why')}",
                hint=error.get("hint") or f"ckptsync prune {name}",
            )
        else:
            yield ok(_WHAT, f"the last prune: {last.outcome} {ended}")
