"""A server in a thread of its own, on sockets that its caller bound."""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
import uvicorn
from fastapi import FastAPI

log = structlog.get_logger()

_PATIENCE: Final = 2  # seconds, for answers under way


class Server:
    """Serves an application on each of its sockets, which come and go without each other.

    Each has a uvicorn of its own in the one event loop: an order to reload comes through one of
    them, and must not end it, nor hold up what others are asked meanwhile.
    """

    def __init__(self, *, fail: Callable[[BaseException], None]) -> None:
        """`fail` is told of bugs, in the thread of the server."""
        self._fail = fail
        # A daemon thread, since a process that gives up must not be kept by it.
        self._thread = threading.Thread(target=self._run, name="api", daemon=True)
        self._running = threading.Event()
        self._served: dict[str, uvicorn.Server] = {}

    def start(self) -> None:
        """Return once it serves. Not twice."""
        library = logging.getLogger("uvicorn")
        library.addHandler(logging.NullHandler())  # or the last resort would print on stderr
        library.propagate = False
        self._thread.start()
        self._running.wait()

    def serve(self, name: str, application: FastAPI, bound: socket.socket) -> None:
        """Listen on a socket, which belongs to the server now."""
        bound.listen()
        server = uvicorn.Server(
            uvicorn.Config(
                application,
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=_PATIENCE,
            )
        )
        self._served[name] = server
        asyncio.run_coroutine_threadsafe(self._begin(server, bound), self._loop).result()

    def drop(self, name: str) -> None:
        """Begin to close a socket, and do not wait: what it was asked is still answered."""
        self._served.pop(name).should_exit = True

    def close(self) -> None:
        """Close every socket, when what was asked has been answered, or two seconds later."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - a thread that dies quietly is the worst
            self._fail(error)
        finally:
            self._running.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._misfortune)
        self._closing = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._running.set()
        await self._closing.wait()
        for server in self._served.values():
            server.should_exit = True
        await asyncio.gather(*self._tasks)

    async def _begin(self, server: uvicorn.Server, bound: socket.socket) -> None:
        task = asyncio.create_task(server.serve(sockets=[bound]))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _misfortune(self, _loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        """Called for what happened outside of any request."""
        error = context.get("exception")
        if error is None or isinstance(error, OSError):
            log.warning("api.misfortune", error=str(error or context["message"]))
        else:
            self._fail(error)
