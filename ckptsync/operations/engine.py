"""Whether the engine runs on this host, where that matters."""

from time import monotonic
from typing import Final

from ckptsync.errors import Cancelled, EngineRunning, Refused, TimedOut
from ckptsync.operations.pipeline import Pipeline

_LOOK_EVERY: Final = 0.2  # seconds


def require_stopped(pipeline: Pipeline, *, word: bool) -> None:
    """Raises EngineRunning; Refused if nobody can tell.

    `word` is the operator's that it is stopped: it counts where the layout cannot tell.
    """
    running = pipeline.layout.engine_running()
    if running:
        raise EngineRunning(
            f"an engine is running on {pipeline.storage_path}",
            hint="stop it first",
        )
    if running is None and not word:
        raise _untold(pipeline)


def await_stopped(pipeline: Pipeline, *, word: bool, seconds: float) -> None:
    """Wait until it has ended. Raises TimedOut, Cancelled; Refused if nobody can tell."""
    deadline = monotonic() + seconds
    while running := pipeline.layout.engine_running():
        if monotonic() > deadline:
            raise TimedOut(
                f"the engine on {pipeline.storage_path} still runs after {seconds:.0f} s",
                hint="see why it does not stop, then ask again",
            )
        if pipeline.stop.wait(_LOOK_EVERY):
            raise Cancelled("stopped while waiting for the engine to end")
    if running is None and not word:
        raise _untold(pipeline)


def _untold(pipeline: Pipeline) -> Refused:
    return Refused(
        f"layout '{pipeline.layout.name}' cannot tell whether an engine runs on "
        f"{pipeline.storage_path}",
        hint="stop it and say so with --engine-stopped, or configure hooks.engine_running",
    )
