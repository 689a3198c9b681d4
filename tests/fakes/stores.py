"""Stores that go wrong on purpose, around a store that does not."""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from ckptsync.errors import Unavailable
from ckptsync.stores.base import Body, Expect, Fetched, ObjectInfo, ObjectStore, Version

T = TypeVar("T")


class Crash(BaseException):
    """The process died here. Not an Exception, so that no handler can be polite about it."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a store; the key is the prefix of a walk, the keys of a delete with spaces."""

    method: str
    key: str


class FaultyStore:
    """Counts the calls from 0 and lets some go wrong.

    At call `crash_at` it raises Crash, before the call is carried out or, with `crash_after`,
    once it is: the reply is lost. A dead process calls nothing: every later call raises Crash
    too, in any thread. `fail_at` raises errors in place of calls; the calls numbered in
    `lose_reply_at` are carried out, and Unavailable is raised. Closing is no call.
    """

    def __init__(
        self,
        inner: ObjectStore,
        *,
        crash_at: int | None = None,
        crash_after: bool = False,
        fail_at: Mapping[int, BaseException] | None = None,
        lose_reply_at: Collection[int] = (),
    ) -> None:
        self.calls: list[Call] = []
        self._inner = inner
        self._crash_at = crash_at
        self._crash_after = crash_after
        self._fail_at = fail_at or {}
        self._lose_reply_at = lose_reply_at
        self._lock = threading.Lock()
        self._dead = False

    @property
    def name(self) -> str:
        return self._inner.name

    def stat(self, key: str) -> ObjectInfo:
        return self._call("stat", key, lambda: self._inner.stat(key))

    def walk(self, prefix: str) -> Iterator[ObjectInfo]:
        """One call, made when the walk begins."""
        yield from self._call("walk", prefix, lambda: list(self._inner.walk(prefix)))

    def get(self, key: str, *, limit: int, unless: Version | None = None) -> Fetched:
        return self._call("get", key, lambda: self._inner.get(key, limit=limit, unless=unless))

    def read_into(self, key: str, start: int, into: memoryview) -> None:
        self._call("read_into", key, lambda: self._inner.read_into(key, start, into))

    def put(self, key: str, body: Body, *, expect: Version | Expect = Expect.ANYTHING) -> Version:
        return self._call("put", key, lambda: self._inner.put(key, body, expect=expect))

    def delete(self, keys: Iterable[str]) -> None:
        doomed = tuple(keys)
        self._call("delete", " ".join(doomed), lambda: self._inner.delete(doomed))

    def now(self) -> datetime:
        return self._call("now", "", self._inner.now)

    def close(self) -> None:
        self._inner.close()

    def _call(self, method: str, key: str, action: Callable[[], T]) -> T:
        with self._lock:
            if self._dead:
                raise Crash(f"a dead process calls {method} '{key}'")
            number = len(self.calls)
            self.calls.append(Call(method, key))
            self._dead = number == self._crash_at
        if number == self._crash_at and not self._crash_after:
            raise Crash(f"before call {number}, {method} '{key}'")
        if number in self._fail_at:
            raise self._fail_at[number]
        done = action()
        if number == self._crash_at:
            raise Crash(f"after call {number}, {method} '{key}'")
        if number in self._lose_reply_at:
            raise Unavailable(self.name, method, key, "the reply was lost")
        return done


class LyingStore:
    """Ignores every condition and reports success, as some gateways do."""

    def __init__(self, inner: ObjectStore) -> None:
        self._inner = inner

    @property
    def name(self) -> str:
        return self._inner.name

    def stat(self, key: str) -> ObjectInfo:
        return self._inner.stat(key)

    def walk(self, prefix: str) -> Iterator[ObjectInfo]:
        return self._inner.walk(prefix)

    def get(self, key: str, *, limit: int, unless: Version | None = None) -> Fetched:
        return self._inner.get(key, limit=limit, unless=unless)

    def read_into(self, key: str, start: int, into: memoryview) -> None:
        self._inner.read_into(key, start, into)

    def put(self, key: str, body: Body, *, expect: Version | Expect = Expect.ANYTHING) -> Version:
        del expect
        return self._inner.put(key, body)

    def delete(self, keys: Iterable[str]) -> None:
        self._inner.delete(keys)

    def now(self) -> datetime:
        return self._inner.now()

    def close(self) -> None:
        self._inner.close()
