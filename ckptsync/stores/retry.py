"""A store that tries again: the only code that waits for a store to recover."""

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

import structlog

from ckptsync.errors import Cancelled, StoreError
from ckptsync.stores.base import Body, Expect, Fetched, ObjectInfo, ObjectStore, Version
from ckptsync.stores.probe import ChecksumProbing

T = TypeVar("T")

log: Final = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Exponential with full jitter, so that many hosts do not come back at the same moment."""

    attempts: int = 6
    """The first one counts."""
    first: timedelta = timedelta(milliseconds=200)
    ceiling: timedelta = timedelta(seconds=20)

    def delay(self, failures: int, *, chance: float) -> float:
        """Seconds to wait after so many failures in a row; `chance` is drawn from 0 to 1."""
        # 2^64 is beyond any ceiling, and a larger power would overflow a float.
        grown = self.first.total_seconds() * 2.0 ** min(failures - 1, 64)
        return chance * min(grown, self.ceiling.total_seconds())


class Retrying:
    """Tries transient failures again, except those of conditional puts.

    `wait` sleeps for a number of seconds and returns True to give up early, which raises
    Cancelled: `stop.wait` of a threading.Event.
    """

    def __init__(self, inner: ObjectStore, backoff: Backoff, wait: Callable[[float], bool]) -> None:
        self._inner = inner
        self._backoff = backoff
        self._wait = wait

    @property
    def name(self) -> str:
        return self._inner.name

    def stat(self, key: str) -> ObjectInfo:
        return self._retry(lambda: self._inner.stat(key))

    def walk(self, prefix: str) -> Iterator[ObjectInfo]:
        """After a failure the walk starts over, so keys already seen come again."""
        failures = 0
        while True:
            try:
                yield from self._inner.walk(prefix)
            except StoreError as error:
                failures += 1
                self._pause(error, failures)
            else:
                return

    def get(self, key: str, *, limit: int, unless: Version | None = None) -> Fetched:
        return self._retry(lambda: self._inner.get(key, limit=limit, unless=unless))

    def read_into(self, key: str, start: int, into: memoryview) -> None:
        self._retry(lambda: self._inner.read_into(key, start, into))

    def put(self, key: str, body: Body, *, expect: Version | Expect = Expect.ANYTHING) -> Version:
        if expect is Expect.ANYTHING:
            return self._retry(lambda: self._inner.put(key, body))
        # A lost reply looks like a conflict on the second try, so the caller decides.
        return self._inner.put(key, body, expect=expect)

    def put_corrupted(self, key: str) -> bool | None:
        inner = self._inner
        return inner.put_corrupted(key) if isinstance(inner, ChecksumProbing) else None

    def delete(self, keys: Iterable[str]) -> None:
        doomed = tuple(keys)
        self._retry(lambda: self._inner.delete(doomed))

    def now(self) -> datetime:
        return self._retry(self._inner.now)

    def close(self) -> None:
        self._inner.close()

    def _retry(self, attempt: Callable[[], T]) -> T:
        failures = 0
        while True:
            try:
                return attempt()
            except StoreError as error:
                failures += 1
                self._pause(error, failures)

    def _pause(self, error: StoreError, failures: int) -> None:
        """Wait before the next attempt, or raise the error if there is none."""
        if not error.transient or failures >= self._backoff.attempts:
            raise error
        seconds = self._backoff.delay(failures, chance=random.random())  # noqa: S311 - jitter
        log.warning(
            "store.retrying",
            store=error.store,
            reason=error.reason,
            error=str(error),
            failures=failures,
            seconds=seconds,
        )
        if self._wait(seconds):
            raise Cancelled(f"{self.name}: stopped while waiting to try again") from error
