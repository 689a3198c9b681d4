"""An application that serves some routes, and says in one way what went wrong in any of them."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from ckptsync.errors import CkptsyncError
from ckptsync.failure import Failure

BODY_LIMIT: Final = 64 << 10  # bytes

_STATUSES: Final = {
    2: 400,
    4: 409,
    5: 503,
    10: 404,
    11: 409,
    13: 409,
    14: 403,
    15: 504,
    16: 503,
    130: 503,  # the daemon is being stopped
}
"""Of HTTP, for exit codes; the others are 500."""


class AsciiResponse(JSONResponse):
    """Any name of a file can be told: those that are no Unicode have no UTF-8 either."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, separators=(",", ":")).encode("ascii")


def create_app(*routers: APIRouter, fail: Callable[[BaseException], None]) -> FastAPI:
    """`fail` is told of bugs, in the thread of the server.

    Every error is answered with `{"error": FAILURE}`, as a command prints it with --json.
    """
    # What serves a description of the interface would load scripts from elsewhere.
    application = FastAPI(
        openapi_url=None, redirect_slashes=False, default_response_class=AsciiResponse
    )
    for router in routers:
        application.include_router(router)

    async def failed(_request: Request, error: Exception) -> Response:
        assert isinstance(error, CkptsyncError)
        failure = Failure.of(error)
        return _answer(failure, _STATUSES.get(failure.exit_code, 500))

    async def misused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        told = f"{request.method} {request.url.path}: {error.detail}"
        return _answer(Failure.misuse(told), error.status_code, headers=error.headers)

    async def misspelt(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults = "; ".join(
            ": ".join((*map(str, each["loc"]), each["msg"])) for each in error.errors()
        )
        return _answer(Failure.misuse(f"{request.method} {request.url.path}: {faults}"), 400)

    async def left(_request: Request, _error: Exception) -> Response:
        return Response(status_code=400)  # for nobody: the client is gone

    async def broke(_request: Request, error: Exception) -> Response:
        fail(error)
        return _answer(Failure.bug(error, hint="report it with the log of the daemon"), 500)

    application.add_exception_handler(CkptsyncError, failed)
    application.add_exception_handler(HTTPException, misused)
    application.add_exception_handler(RequestValidationError, misspelt)
    application.add_exception_handler(ClientDisconnect, left)
    application.add_exception_handler(Exception, broke)
    return application


async def bounded_body(request: Request) -> bytes:
    """The whole body. Raises HTTPException as soon as it is longer than BODY_LIMIT."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > BODY_LIMIT:
            raise HTTPException(413, f"the body is longer than {BODY_LIMIT} bytes")
    return bytes(body)


def _answer(failure: Failure, status: int, *, headers: Mapping[str, str] | None = None) -> Response:
    return AsciiResponse({"error": failure.document()}, status_code=status, headers=headers)
