"""A store in this process's memory, gone with it: what the tests run against."""

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from ckptsync.errors import NotFound, NotModified, PreconditionFailed
from ckptsync.stores.base import Body, Expect, Fetched, ObjectInfo, Version
from ckptsync.stores.checks import require_at_most, require_key, require_reaching


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Object:
    data: bytes
    version: Version
    modified: datetime


class MemoryStore:
    """`clock` is the store's own; it may run apart from everyone else's."""

    def __init__(
        self, name: str = "memory://", *, clock: Callable[[], datetime] = _utc_now
    ) -> None:
        self.name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._objects: dict[str, _Object] = {}
        self._writes = 0

    def stat(self, key: str) -> ObjectInfo:
        return _info(key, self._object("stat", key))

    def walk(self, prefix: str) -> Iterator[ObjectInfo]:
        with self._lock:
            found = [item for item in self._objects.items() if item[0].startswith(prefix)]
        for key, stored in found:
            yield _info(key, stored)

    def get(self, key: str, *, limit: int, unless: Version | None = None) -> Fetched:
        stored = self._object("read", key)
        if stored.version == unless:
            raise NotModified(self.name, "read", key, "it has not changed")
        require_at_most(self.name, key, len(stored.data), limit=limit)
        return Fetched(data=stored.data, version=stored.version)

    def read_into(self, key: str, start: int, into: memoryview) -> None:
        data = self._object("read", key).data
        require_reaching(self.name, key, len(data), end=start + len(into))
        into[:] = data[start : start + len(into)]

    def put(self, key: str, body: Body, *, expect: Version | Expect = Expect.ANYTHING) -> Version:
        require_key(self.name, "write", key)
        data = bytes(body)
        with self._lock:
            stored = self._objects.get(key)
            if expect is Expect.ABSENT:
                if stored is not None:
                    raise PreconditionFailed(self.name, "create", key, "it exists")
            elif expect is not Expect.ANYTHING:
                if stored is None:
                    raise PreconditionFailed(self.name, "replace", key, "it was deleted")
                if stored.version != expect:
                    raise PreconditionFailed(self.name, "replace", key, "it has changed")
            self._writes += 1
            version = Version(f"v{self._writes}")
            self._objects[key] = _Object(data=data, version=version, modified=self._clock())
        return version

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            require_key(self.name, "delete", key)
            with self._lock:
                self._objects.pop(key, None)

    def now(self) -> datetime:
        return self._clock()

    def close(self) -> None:
        """Nothing is held open; the objects stay readable."""

    def _object(self, action: str, key: str) -> _Object:
        require_key(self.name, action, key)
        with self._lock:
            stored = self._objects.get(key)
        if stored is None:
            raise NotFound(self.name, action, key, "it does not exist")
        return stored


def _info(key: str, stored: _Object) -> ObjectInfo:
    return ObjectInfo(key=key, size=len(stored.data), modified=stored.modified)
