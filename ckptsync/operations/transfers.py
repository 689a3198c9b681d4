"""The bounded pool that moves bytes: as many threads as buffers, and no byte beyond them."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from mmap import mmap
from queue import SimpleQueue
from threading import Lock
from types import TracebackType
from typing import Self

from ckptsync.errors import Cancelled
from ckptsync.model import Progress


class Transfers:
    """Tasks run in threads, each with one buffer of its own that is used again afterwards.

    Whoever submits a task first borrows its buffer, and so waits while all are in use: a task
    itself never waits for one. Memory is parallel * buffer_size bytes, touched as needed.
    """

    def __init__(self, *, parallel: int, buffer_size: int, stop: threading.Event) -> None:
        self._stop = stop
        self._free: SimpleQueue[memoryview] = SimpleQueue()
        self._parallel = parallel
        self._failed: BaseException | None = None
        self._pool = ThreadPoolExecutor(parallel, thread_name_prefix="transfer")
        for _ in range(parallel):
            # Anonymous memory costs nothing until it is written to; a bytearray is, at once.
            self._free.put(memoryview(mmap(-1, max(1, buffer_size))))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._failed = self._failed or error
        self._pool.shutdown(wait=True, cancel_futures=True)

    def borrow(self) -> memoryview:
        """Wait for a free buffer. Raises what a task raised, or Cancelled."""
        buffer = self._free.get()
        try:
            self._check()
        except BaseException:
            self._free.put(buffer)
            raise
        return buffer

    def submit(self, buffer: memoryview, task: Callable[[memoryview], None]) -> None:
        """Run a task with a borrowed buffer, which comes back by itself."""

        def run() -> None:
            try:
                if self._failed is None:
                    task(buffer)
            except BaseException as error:  # noqa: BLE001 - raised again in the submitting thread
                self._failed = self._failed or error
            finally:
                self._free.put(buffer)

        self._pool.submit(copy_context().run, run)

    def drain(self) -> None:
        """Wait for every task. Raises what one of them raised, or Cancelled."""
        buffers = [self._free.get() for _ in range(self._parallel)]
        for buffer in buffers:
            self._free.put(buffer)
        self._check()

    def _check(self) -> None:
        if self._failed is not None:
            raise self._failed
        if self._stop.is_set():
            raise Cancelled("stopped on request")


class Retraceable:
    """A progress that can be taken back, when an attempt starts over. Safe to share."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lock = Lock()
        self._moved = 0

    def __call__(self, moved: int) -> None:
        with self._lock:
            self._moved += moved
        self._progress(moved)

    def back(self) -> None:
        with self._lock:
            moved, self._moved = self._moved, 0
        self._progress(-moved)


def stoppable(progress: Progress, stop: threading.Event) -> Progress:
    """A progress that raises Cancelled once stop is set, in the middle of a transfer if need be."""

    def moving(moved: int) -> None:
        progress(moved)
        if stop.is_set():
            raise Cancelled("stopped on request; running it again goes on from here")

    return moving
