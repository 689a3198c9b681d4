"""A thread that does one thing at a time, and remembers what it was asked for."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog
from structlog.contextvars import bind_contextvars

from ckptsync.daemon.request import Request, RequestState
from ckptsync.errors import Cancelled, CkptsyncError
from ckptsync.failure import Failure, Relayed
from ckptsync.model import Progress

log = structlog.get_logger()

Action = Callable[[Progress], object]

_REMEMBERED: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Task:
    request: Request
    action: Action
    merge: bool


class Lane:
    """Does what is submitted, in order, in a thread of its own. Safe to share between threads.

    `interrupt` asks the running action to raise Cancelled soon; `ready` takes that back before
    the next one begins. Both are called under the lane's lock, so they must return at once and
    leave the lane alone: to set and to clear one threading.Event.

    An action may raise a CkptsyncError, which its request keeps. Anything else is a bug: `fail`
    gets it, in the lane's thread, and the lane does nothing any more.
    """

    def __init__(
        self,
        name: str,
        *,
        pipeline: str,
        interrupt: Callable[[], None],
        ready: Callable[[], None],
        fail: Callable[[BaseException], None],
        now: Callable[[], datetime],
    ) -> None:
        """`name` is the thread's; `pipeline` is bound to all that is logged in it."""
        self._pipeline = pipeline
        self._interrupt = interrupt
        self._ready = ready
        self._fail = fail
        self._now = now
        self._changed = threading.Condition()
        self._queue: deque[_Task] = deque()
        self._running: _Task | None = None
        self._interrupted = False
        self._stopped = False
        self._known: dict[str, Request] = {}
        self._finished: deque[Request] = deque()
        # A daemon thread, since a process that gives up must not be kept by an action that hangs.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(
        self,
        kind: str,
        action: Action,
        *,
        id: str | None = None,
        merge: bool = True,
        urgent: bool = False,
    ) -> Request:
        """Ask for something; returns at once.

        An `id` that is known already, also as one that joined, gets the request of then. With
        `merge` a request of this kind that is queued or running, has merge too and was not
        interrupted is joined: its outcome will be that of both. An `urgent` one goes first, and
        interrupts what is running. In a lane that was stopped the request fails with Cancelled.
        """
        with self._changed:
            if id is not None and id in self._known:
                return self._known[id]
            task = self._to_join(kind) if merge else None
            if task is None:
                request = Request(kind, id=id, now=self._now)
                if self._stopped:
                    request.fail(_stopping(kind))
                    return request
                task = _Task(request=request, action=action, merge=merge)
                self._queue.append(task)
                self._known[request.id] = request
                self._changed.notify()
            if id is not None:
                self._known[id] = task.request
            if urgent and task is not self._running:
                self._put_first(task)
            return task.request

    def find(self, id: str) -> Request | None:
        """Queued, running, or among the newest 256 that ended."""
        with self._changed:
            return self._known.get(id)

    def running(self) -> RequestState | None:
        with self._changed:
            return None if self._running is None else self._running.request.snapshot()

    def queued(self) -> tuple[RequestState, ...]:
        """In the order in which they will run."""
        with self._changed:
            return tuple(task.request.snapshot() for task in self._queue)

    def stop(self) -> None:
        """Take nothing more, fail what is queued and interrupt what is running; do not wait."""
        with self._changed:
            self._refuse()
            if self._running is not None:
                self._interrupt()

    def close(self) -> None:
        """Take nothing more, fail what is queued, and wait for what is running.

        Not from the lane's own thread. A second time does nothing.
        """
        with self._changed:
            self._refuse()
        self._thread.join()

    def _to_join(self, kind: str) -> _Task | None:
        running = () if self._running is None or self._interrupted else (self._running,)
        alike = (task for task in (*running, *self._queue) if task.request.kind == kind)
        return next((task for task in alike if task.merge), None)

    def _put_first(self, task: _Task) -> None:
        self._queue.remove(task)
        self._queue.appendleft(task)
        if self._running is not None:
            self._interrupted = True
            self._interrupt()

    def _refuse(self) -> None:
        self._stopped = True
        while self._queue:
            request = self._queue.popleft().request
            request.fail(_stopping(request.kind))
        self._changed.notify()

    def _run(self) -> None:
        bind_contextvars(pipeline=self._pipeline)  # a thread begins with an empty context
        try:
            while (task := self._next()) is not None:
                self._do(task)
        except BaseException as bug:  # noqa: BLE001 - a thread that dies quietly is the worst
            self._break_off(bug)
            self._fail(bug)

    def _next(self) -> _Task | None:
        """Wait for the next task, and begin it; None once there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._stopped)
            if not self._queue:
                return None
            task = self._running = self._queue.popleft()
            self._interrupted = False
            self._ready()
            task.request.start()
            return task

    def _do(self, task: _Task) -> None:
        request = task.request
        try:
            result = task.action(request.progress)
        except CkptsyncError as error:
            _tell(request, error)
            with self._changed:
                self._end(task)
                request.fail(error)
        else:
            log.debug("request.done", kind=request.kind, request=request.id)
            with self._changed:
                self._end(task)
                request.succeed(result)

    def _end(self, task: _Task) -> None:
        """Before anybody learns that it ended, since who does must not join it any more."""
        self._running = None
        self._finished.append(task.request)
        if len(self._finished) > _REMEMBERED:
            oldest = self._finished.popleft()
            self._known = {id: kept for id, kept in self._known.items() if kept is not oldest}

    def _break_off(self, bug: BaseException) -> None:
        with self._changed:
            if self._running is not None:
                broken = self._running.request
                self._end(self._running)
                broken.fail(Relayed(Failure.bug(bug, hint="report it with what the log says")))
            self._refuse()


def _stopping(kind: str) -> Cancelled:
    return Cancelled(f"ckptsync is stopping, so this {kind} was not begun")


def _tell(request: Request, error: CkptsyncError) -> None:
    kind, id, text = request.kind, request.id, str(error)
    if isinstance(error, Cancelled):
        log.info("request.cancelled", kind=kind, request=id, error=text)
    else:
        log.error("request.failed", kind=kind, request=id, error=text, hint=error.hint)
