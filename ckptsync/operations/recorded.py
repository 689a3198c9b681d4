"""Runs that leave a row in the history, however they end."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from ckptsync.errors import CkptsyncError
from ckptsync.operations.pipeline import Pipeline


@contextmanager
def recorded(
    pipeline: Pipeline, kind: str, *, passing: Callable[[Mapping[str, Any]], bool] | None = None
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Record a run; what it yields takes the details, which are to hold no secret.

    One that succeeds leaves no row if its details are `passing`.
    """
    history = pipeline.state.history
    run = history.start(kind, now=pipeline.now())
    details: dict[str, Any] = {}
    try:
        yield details.update
    except CkptsyncError as error:
        details["error"] = {
            "kind": type(error).__name__,
            "message": str(error),
            "hint": error.hint,
        }
        with suppress(CkptsyncError):  # the first failure says more than that of recording it
            history.finish(run, done=False, now=pipeline.now(), details=json.dumps(details))
        raise
    if passing is not None and passing(details):
        history.drop(run)
        return
    history.finish(run, done=True, now=pipeline.now(), details=json.dumps(details))
