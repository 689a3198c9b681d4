"""What the commands of ckptsync ask a pipeline's daemon for."""

import asyncio
from time import monotonic
from typing import Annotated, Final

from fastapi import APIRouter, Depends, HTTPException, Query
from starlette.concurrency import run_in_threadpool

from ckptsync.api.app import bounded_body
from ckptsync.api.control import Control
from ckptsync.api.orders import UnreadableOrder, decode
from ckptsync.daemon.snapshot import Asked, Snapshot

LONGEST_WAIT: Final = 30.0  # seconds

_FIRST_LOOK: Final = 0.005  # seconds
_LAST_LOOK: Final = 0.1

_Body = Annotated[bytes, Depends(bounded_body)]
_Id = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")]
_Wait = Annotated[float, Query(ge=0, le=LONGEST_WAIT, allow_inf_nan=False)]


def pipeline_routes(control: Control, pipeline: str) -> APIRouter:
    """Of one pipeline, and what is asked of the daemon as a whole."""
    routes = APIRouter(prefix="/ckptsync/v1")
    of_pipeline = APIRouter(prefix=f"/pipelines/{pipeline}")

    @of_pipeline.get("")
    def snapshot() -> Snapshot:
        return control.snapshot(pipeline)

    @of_pipeline.post("/requests", status_code=202)
    def submit(body: _Body, id: _Id = None) -> Asked:
        try:
            order = decode(body)
        except UnreadableOrder as error:
            raise HTTPException(400, str(error)) from error
        return Asked.of(control.submit(pipeline, order, id=id))

    @of_pipeline.get("/requests/{id}")
    async def request(id: str, wait: _Wait = 0.0) -> Asked:
        """Once it has ended, or after that many seconds.

        It looks again and again, since who waits in a thread takes it from others: there are few.
        """
        deadline = monotonic() + wait
        pause = _FIRST_LOOK
        while True:
            state = await run_in_threadpool(control.find, pipeline, id)
            if state is None:
                raise HTTPException(404, "there is no such request, or not any more")
            left = deadline - monotonic()
            if state.finished_at is not None or left <= 0:
                return Asked.of(state)
            await asyncio.sleep(min(pause, left))
            pause = min(2 * pause, _LAST_LOOK)

    @of_pipeline.post("/pause", status_code=204)
    def pause() -> None:
        control.pause(pipeline)

    @of_pipeline.post("/resume", status_code=204)
    def resume() -> None:
        control.resume(pipeline)

    @of_pipeline.post("/switchover/cancel", status_code=204)
    def cancel_switchover() -> None:
        control.cancel_switchover(pipeline)

    @routes.post("/reload", status_code=204)
    def reload() -> None:
        control.reload()

    routes.include_router(of_pipeline)
    return routes
