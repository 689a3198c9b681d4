"""A directory as a store: an object is a file, its version the digest of its bytes."""

import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from ckptsync.errors import (
    AccessDenied,
    BucketNotFound,
    Contention,
    NotFound,
    NotModified,
    PreconditionFailed,
    StoreError,
    Unavailable,
    Undurable,
)
from ckptsync.hashing import Hash
from ckptsync.stores.anchored import (
    fill,
    held,
    make_below,
    open_below,
    open_file,
    open_root,
    read_all,
    write_new,
)
from ckptsync.stores.base import Body, Expect, Fetched, ObjectInfo, Version
from ckptsync.stores.checks import key_fault, require_at_most, require_key, require_reaching
from ckptsync.stores.lockfile import LockFile, LockHeld

_LOCK: Final = ".ckptsync.lock"
_ASIDE: Final = ".ckptsync.tmp"
_HIDDEN: Final = frozenset({_LOCK, _ASIDE})

_ABANDONED_AFTER: Final = 86_400  # seconds

_ABSENT: Final = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
"""A directory is no object, and below a file there is none."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_WRONG: Final = (errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ENAMETOOLONG)
_KINDS: Final = {  # what is not here may pass: a network file system that is away, a busy host
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), AccessDenied),
    **dict.fromkeys(_WRONG, StoreError),
}


class LocalStore:
    """Objects below an existing directory, which other processes may share.

    The root is never created, not by a put either: a heartbeat would turn the mount point of an
    unmounted disk into an empty bucket. Symbolic links below it are errors. Once a put is
    answered, the object and every directory above it are on the disk. Conditional writes exclude
    each other by a lock file, so the file system must lock across all the hosts that write; see
    `mounts.sharing_warning`.
    """

    def __init__(self, root: Path, *, lock_patience: timedelta = timedelta(seconds=10)) -> None:
        self.name = f"file://{root}"
        self._root = root
        self._lock = LockFile(_LOCK, patience=lock_patience)
        self._lasting: set[str] = set()
        self._swept = False

    def stat(self, key: str) -> ObjectInfo:
        with self._opened("stat", key) as file:
            return _info(key, os.fstat(file))

    def walk(self, prefix: str) -> Iterator[ObjectInfo]:
        pending = [prefix.rpartition("/")[0]]
        while pending:
            directory = pending.pop()
            found, below = self._scan(directory)
            pending += [path for path in below if f"{path}/".startswith(prefix)]
            yield from (info for info in found if info.key.startswith(prefix))

    def get(self, key: str, *, limit: int, unless: Version | None = None) -> Fetched:
        with self._opened("read", key) as file:
            size = os.fstat(file).st_size
            require_at_most(self.name, key, size, limit=limit)
            data = read_all(file, size)
        version = _version(data)
        if version == unless:
            raise NotModified(self.name, "read", key, "it has not changed")
        return Fetched(data=data, version=version)

    def read_into(self, key: str, start: int, into: memoryview) -> None:
        with self._opened("read", key) as file:
            require_reaching(self.name, key, os.fstat(file).st_size, end=start + len(into))
            fill(file, start, into)

    def put(self, key: str, body: Body, *, expect: Version | Expect = Expect.ANYTHING) -> Version:
        *parts, name = self._object_path("write", key)
        with (
            self._rooted("write", key) as root,
            self._written_aside(root, body) as (aside, fresh),
            held(make_below(root, parts, self._lasting)) as directory,
        ):
            with self._lock.hold(root):
                self._require_expected(directory, name, key, expect)
                os.rename(fresh, name, src_dir_fd=aside, dst_dir_fd=directory)
                if expect is not Expect.ANYTHING:
                    self._sync_written(directory, key)
            if expect is Expect.ANYTHING:  # with the lock let go: nobody has to wait for it
                self._sync_written(directory, key)
        return _version(body)

    def delete(self, keys: Iterable[str]) -> None:
        by_directory: dict[str, list[str]] = {}
        for key in keys:
            *parts, name = self._object_path("delete", key)
            by_directory.setdefault("/".join(parts), []).append(name)
        for directory, names in by_directory.items():
            self._unlink(directory, names)

    def now(self) -> datetime:
        with (
            self._rooted("ask the time by writing", _ASIDE) as root,
            self._written_aside(root, b"") as (aside, fresh),
        ):
            return _modified(os.stat(fresh, dir_fd=aside))

    def close(self) -> None:
        """Nothing is held open between calls."""

    def _scan(self, directory: str) -> tuple[list[ObjectInfo], list[str]]:
        """The objects and the directories in a directory; nothing if it is gone."""
        found: list[ObjectInfo] = []
        below: list[str] = []
        parts = self._object_path("list", directory) if directory else []
        with (
            self._rooted("list", directory) as root,
            suppress(*_ABSENT),
            held(open_below(root, parts)) as opened,
            os.scandir(opened) as entries,
        ):
            for entry in entries:
                path = "/".join((*parts, entry.name))
                if path in _HIDDEN or key_fault(path):
                    continue
                if entry.is_symlink():
                    raise OSError(errno.ELOOP, f"'{path}' is a symbolic link")
                if entry.is_dir(follow_symlinks=False):
                    below.append(path)
                    continue
                with suppress(FileNotFoundError):  # deleted meanwhile
                    found.append(_info(path, entry.stat(follow_symlinks=False)))
        return found, below

    def _unlink(self, directory: str, names: Iterable[str]) -> None:
        with (
            self._rooted("delete", directory) as root,
            suppress(*_ABSENT),
            held(open_below(root, directory.split("/") if directory else [])) as opened,
        ):
            with self._lock.hold(root):
                for name in names:
                    with suppress(*_ABSENT):
                        os.unlink(name, dir_fd=opened)
            os.fsync(opened)

    def _require_expected(
        self, directory: int, name: str, key: str, expect: Version | Expect
    ) -> None:
        """Raise PreconditionFailed unless the object is as the write expects it."""
        if expect is Expect.ANYTHING:
            return
        try:
            file = open_file(directory, name)
        except _ABSENT:
            if expect is Expect.ABSENT:
                return
            raise PreconditionFailed(self.name, "replace", key, "it was deleted") from None
        with held(file):
            if expect is Expect.ABSENT:
                raise PreconditionFailed(self.name, "create", key, "it exists")
            if _version(read_all(file, os.fstat(file).st_size)) != expect:
                raise PreconditionFailed(self.name, "replace", key, "it has changed")

    def _sync_written(self, directory: int, key: str) -> None:
        """Sync the name of an object that can be seen already. Raises Undurable."""
        try:
            os.fsync(directory)
        except OSError as error:
            reason = error.strerror or str(error)
            raise Undurable(
                self.name,
                "write",
                key,
                f"it can be read, but may not outlive a power cut: {reason}",
                hint=f"check the disk that holds {self._root}, then run the same command again",
            ) from error

    @contextmanager
    def _written_aside(self, root: int, body: Body) -> Iterator[tuple[int, str]]:
        """A synced file in a directory of its own, gone at the end unless it was renamed."""
        fresh = secrets.token_hex(16)
        with held(make_below(root, [_ASIDE], self._lasting)) as aside:
            try:
                write_new(aside, fresh, body)
                if not self._swept:
                    self._swept = True
                    _sweep(aside, os.stat(fresh, dir_fd=aside).st_mtime - _ABANDONED_AFTER)
                yield aside, fresh
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(fresh, dir_fd=aside)

    @contextmanager
    def _opened(self, action: str, key: str) -> Iterator[int]:
        *parts, name = self._object_path(action, key)
        with self._rooted(action, key) as root:
            try:
                with held(open_below(root, parts)) as directory:
                    file = open_file(directory, name)
            except _ABSENT:
                raise NotFound(self.name, action, key, "it does not exist") from None
            with held(file):
                yield file

    @contextmanager
    def _rooted(self, action: str, key: str) -> Iterator[int]:
        """Hold the root open, and say in our errors what goes wrong meanwhile."""
        try:
            root = open_root(self._root)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise BucketNotFound(
                self.name,
                action,
                key,
                f"{self._root} is not a directory",
                hint=f"mount its disk or, for a new bucket, mkdir {self._root}",
            ) from error
        except OSError as error:
            raise self._fault(action, key, error) from error
        with held(root):
            try:
                yield root
            except LockHeld as error:
                reason = f"another process keeps {self._root / _LOCK} locked"
                raise Contention(self.name, action, key, reason) from error
            except OSError as error:
                raise self._fault(action, key, error) from error

    def _fault(self, action: str, key: str, error: OSError) -> StoreError:
        reason = error.strerror or str(error)
        if error.errno in _FULL:
            hint = f"free space on the disk that holds {self._root}"
            return StoreError(self.name, action, key, f"no space left: {reason}", hint=hint)
        if error.errno == errno.EFBIG:
            hint = "raise the limit of file sizes (ulimit -f) or use a bucket on another filesystem"
            return StoreError(self.name, action, key, "no file may be that large here", hint=hint)
        kind = _KINDS.get(error.errno or 0, Unavailable)
        return kind(self.name, action, key, reason)

    def _object_path(self, action: str, key: str) -> list[str]:
        require_key(self.name, action, key)
        parts = key.split("/")
        if parts[0] in _HIDDEN:
            raise StoreError(self.name, action, key, f"'{parts[0]}' is the store's own")
        return parts


def _sweep(aside: int, oldest: float) -> None:
    """Remove what crashed writers left.

    A writer that was only asleep finds its file gone, fails, and succeeds when it tries again.
    """
    with os.scandir(aside) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if entry.stat(follow_symlinks=False).st_mtime < oldest:
                    os.unlink(entry.name, dir_fd=aside)


def _info(key: str, status: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key=key, size=status.st_size, modified=_modified(status))


def _modified(status: os.stat_result) -> datetime:
    return datetime.fromtimestamp(status.st_mtime, UTC)


def _version(body: Body) -> Version:
    return Version(Hash.BLAKE3.of(body).hex())
