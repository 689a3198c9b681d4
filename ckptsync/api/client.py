"""What a command asks the daemon that holds the lock of its pipeline."""

import errno
import json
import socket
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from time import monotonic
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote, urlencode

from pydantic import TypeAdapter

from ckptsync.api.local_socket import reachable, socket_path
from ckptsync.api.orders import encode
from ckptsync.daemon.snapshot import Asked, Snapshot
from ckptsync.errors import CannotTell, CkptsyncError, TimedOut
from ckptsync.failure import Failure, Relayed
from ckptsync.model import Progress
from ckptsync.operations.orders import Order, kind
from ckptsync.state.directories import refusal
from ckptsync.units import format_duration

T = TypeVar("T")

_PATIENCE: Final = 10.0  # seconds; a daemon that takes longer to say how it is doing is stuck
_WAIT: Final = 0.5  # seconds; so often progress is drawn, and an interrupt noticed
_PREFIX: Final = "/ckptsync/v1"
_NOBODY_LISTENS: Final = frozenset({errno.ENOENT, errno.ECONNREFUSED})

_SNAPSHOT: Final = TypeAdapter(Snapshot)
_ASKED: Final = TypeAdapter(Asked)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failed:
    error: Failure


_FAILED: Final = TypeAdapter(_Failed)


class DaemonAway(Exception):
    """Nobody listens, so nothing was asked: there is no daemon, or not yet, or not any more."""


class Client:
    """Asks the daemon of one pipeline. Safe to share between threads.

    Every call may raise DaemonAway; Relayed, with what failed in the daemon; CannotTell where
    the daemon may have heard, and did not answer.
    """

    def __init__(self, state_dir: Path, pipeline: str) -> None:
        """Raises PermissionRefused. No daemon is asked yet."""
        self._pipeline = pipeline
        self._path = socket_path(state_dir, pipeline)
        self._opened = ExitStack()
        try:
            self._address = self._opened.enter_context(reachable(self._path))
        except FileNotFoundError as error:
            raise DaemonAway from error
        except OSError as error:
            raise refusal(f"cannot enter {self._path.parent}", error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def snapshot(self) -> Snapshot:
        return self._read(_SNAPSHOT, "GET", self._of_pipeline(), "how it is doing")

    def submit(self, order: Order, *, id: str | None = None) -> Asked:
        """Ask for something. With an `id` that was given before it is not asked for again."""
        path = self._of_pipeline(
            "/requests" if id is None else f"/requests?{urlencode({'id': id})}"
        )
        unknown = f"whether the {kind(order)} was begun"
        return self._read(_ASKED, "POST", path, unknown, body=json.dumps(encode(order)))

    def await_(
        self, asked: Asked, *, progress: Progress, timeout: timedelta | None = None
    ) -> Mapping[str, Any]:
        """What a request came to. `progress` is called twice a second, and may end the wait.

        Raises Relayed if it failed; TimedOut, and the request goes on; CannotTell if the daemon
        ends meanwhile.
        """
        deadline = None if timeout is None else monotonic() + timeout.total_seconds()
        moved = 0
        while True:
            progress(asked.moved - moved)
            moved = asked.moved
            if asked.failure is not None:
                raise Relayed(asked.failure)
            if asked.finished_at is not None:
                return asked.result or {}
            left = _WAIT if deadline is None else min(_WAIT, deadline - monotonic())
            if timeout is not None and left <= 0:
                raise TimedOut(
                    f"the {asked.kind} has not ended within {format_duration(timeout)}; the "
                    "daemon goes on with it",
                    hint=self._hint(),
                )
            asked = self._look(asked, wait=left)

    def cancel_switchover(self) -> None:
        path = self._of_pipeline("/switchover/cancel")
        self._call("POST", path, "whether the switchover was cancelled")

    def pause(self) -> None:
        self._call("POST", self._of_pipeline("/pause"), "whether it is paused")

    def resume(self) -> None:
        self._call("POST", self._of_pipeline("/resume"), "whether it is still paused")

    def reload(self) -> None:
        """Of the whole daemon. Raises Relayed, of a ConfigError too."""
        self._call("POST", "/reload", "whether the configuration was read anew")

    def _look(self, asked: Asked, *, wait: float) -> Asked:
        path = self._of_pipeline(f"/requests/{quote(asked.id, safe='')}?wait={wait:.3f}")
        unknown = f"whether the {asked.kind} was done"
        try:
            return self._read(_ASKED, "GET", path, unknown)
        except DaemonAway as error:
            raise self._untold("has ended", unknown) from error
        except _NotFound as error:
            raise self._untold("was started anew meanwhile", unknown) from error

    def _read(
        self,
        answer: TypeAdapter[T],
        method: str,
        path: str,
        unknown: str,
        *,
        body: str | None = None,
    ) -> T:
        content = self._call(method, path, unknown, body=body)
        return self._understood(answer, content, unknown)

    def _call(self, method: str, path: str, unknown: str, *, body: str | None = None) -> bytes:
        """`unknown` is what cannot be told if there is no answer."""
        # One for each call: if the daemon closed it meanwhile, that would look like its death.
        with closing(_Connection(self._address)) as connection:
            try:
                connection.connect()
            except OSError as error:
                raise self._unreached(error, unknown) from error
            try:
                connection.request(method, f"{_PREFIX}{path}", body, {"Connection": "close"})
                response = connection.getresponse()
                content = response.read()
            except TimeoutError as error:
                raise self._untold("does not answer", unknown) from error
            except (OSError, HTTPException) as error:
                raise self._untold("has ended", unknown) from error
        if response.status < HTTPStatus.BAD_REQUEST:
            return content
        failure = self._understood(_FAILED, content, unknown).error
        raise (_NotFound if response.status == HTTPStatus.NOT_FOUND else Relayed)(failure)

    def _understood(self, answer: TypeAdapter[T], content: bytes, unknown: str) -> T:
        try:
            # Of these only json takes the name of a file that is no Unicode.
            return answer.validate_python(json.loads(content))
        except (ValueError, RecursionError) as error:
            raise CannotTell(
                f"what the daemon of pipeline '{self._pipeline}' answers is not understood: "
                f"{unknown} is unknown",
                hint="restart the daemon, so that it runs the version that is installed",
            ) from error

    def _of_pipeline(self, path: str = "") -> str:
        return f"/pipelines/{self._pipeline}{path}"

    def _unreached(self, error: OSError, unknown: str) -> CkptsyncError | DaemonAway:
        if error.errno in _NOBODY_LISTENS:
            return DaemonAway()
        if error.errno == errno.EAGAIN:
            return self._untold("is asked by too many at once", unknown)
        return refusal(f"cannot connect to {self._path}", error)

    def _untold(self, what: str, unknown: str) -> CannotTell:
        return CannotTell(
            f"the daemon of pipeline '{self._pipeline}' {what}: {unknown} is unknown",
            hint=self._hint(),
        )

    def _hint(self) -> str:
        return f"ckptsync status {self._pipeline}"


class _NotFound(Relayed):
    """The daemon knows no such thing."""


class _Connection(HTTPConnection):
    """To a local socket."""

    def __init__(self, address: str) -> None:
        super().__init__("ckptsync", timeout=_PATIENCE)
        self._address = address

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._address)
