"""One thing that the daemon was asked for, and how it ended."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from uuid import uuid4

from ckptsync.errors import CkptsyncError


class Phase(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestState:
    """How a request stood at one moment."""

    id: str
    kind: str
    """The operator's word: push, pull."""
    state: Phase = Phase.QUEUED
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    moved: int = 0
    """Bytes, so far or in all; it goes down when an attempt starts over."""
    result: object = None
    error: CkptsyncError | None = None
    """Only of what failed."""


class Request:
    """Safe to share between threads. A lane moves it on; all others look, and wait."""

    def __init__(self, kind: str, *, now: Callable[[], datetime], id: str | None = None) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._state = RequestState(
            id=str(uuid4()) if id is None else id, kind=kind, created_at=now()
        )

    @property
    def id(self) -> str:
        return self._state.id

    @property
    def kind(self) -> str:
        return self._state.kind

    def snapshot(self) -> RequestState:
        return self._state

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, well or badly; False if it has not within that time."""
        return self._over.wait(seconds)

    def start(self) -> None:
        with self._lock:
            self._state = replace(self._state, state=Phase.RUNNING, started_at=self._now())

    def progress(self, moved: int) -> None:
        """A Progress."""
        with self._lock:
            self._state = replace(self._state, moved=self._state.moved + moved)

    def succeed(self, result: object) -> None:
        with self._lock:
            self._state = replace(
                self._state, state=Phase.DONE, finished_at=self._now(), result=result
            )
        self._over.set()

    def fail(self, error: CkptsyncError) -> None:
        """The error is kept without the frames that it came through.

        Those hold whatever was in their variables: buffers, manifests.
        """
        error.__traceback__ = error.__cause__ = error.__context__ = None
        with self._lock:
            self._state = replace(
                self._state, state=Phase.FAILED, finished_at=self._now(), error=error
            )
        self._over.set()
