"""What is particular to a directory: what a crash leaves, where keys may lead, full disks."""

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from ckptsync.errors import (
    AccessDenied,
    BucketNotFound,
    Contention,
    StoreError,
    Unavailable,
    Undurable,
)
from ckptsync.stores.base import Expect, ObjectStore
from ckptsync.stores.local import LocalStore
from ckptsync.stores.lockfile import LockFile, LockHeld
from tests.limits import files_limited_to

_DESCRIPTORS = Path("/proc/self/fd")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "bucket"
    made.mkdir()
    return made


def everything(store: ObjectStore) -> dict[str, bytes]:
    return {info.key: store.get(info.key, limit=1 << 20).data for info in store.walk("")}


CALLS: list[Callable[[ObjectStore], object]] = [
    lambda store: store.stat("a/b"),
    lambda store: list(store.walk("")),
    lambda store: list(store.walk("a/")),
    lambda store: store.get("a/b", limit=10),
    lambda store: store.read_into("a/b", 0, memoryview(bytearray(1))),
    lambda store: store.put("a/b", b"x"),
    lambda store: store.put("a/b", b"x", expect=Expect.ABSENT),
    lambda store: store.delete(["a/b"]),
    lambda store: store.now(),
]


@pytest.mark.parametrize("act", CALLS)
def test_a_missing_root_is_never_made_and_never_empty(
    tmp_path: Path, act: Callable[[ObjectStore], object]
) -> None:
    with pytest.raises(BucketNotFound) as caught:
        act(LocalStore(tmp_path / "mnt" / "orders"))

    assert f"mkdir {tmp_path}/mnt/orders" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


def test_a_root_that_is_a_file_is_no_bucket(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")

    with pytest.raises(BucketNotFound):
        list(LocalStore(file).walk(""))


def test_an_object_is_a_file_that_other_tools_can_read(root: Path) -> None:
    LocalStore(root).put("chunks/ab/abc", b"hello")

    assert (root / "chunks/ab/abc").read_bytes() == b"hello"


def test_its_own_files_are_hidden_and_out_of_reach(root: Path) -> None:
    store = LocalStore(root)
    store.put("a", b"", expect=Expect.ABSENT)

    assert (root / ".ckptsync.lock").exists()
    assert list(everything(store)) == ["a"]
    for key in (".ckptsync.lock", ".ckptsync.tmp/x"):
        with pytest.raises(StoreError, match="the store's own"):
            store.put(key, b"")
        with pytest.raises(StoreError, match="the store's own"):
            store.delete([key])


@pytest.mark.parametrize("act", CALLS[:-1])
def test_a_symbolic_link_to_elsewhere_is_an_error_and_not_absence(
    root: Path, tmp_path: Path, act: Callable[[ObjectStore], object]
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "b").write_bytes(b"precious")
    (root / "a").symlink_to(elsewhere)

    with pytest.raises(StoreError, match="symbolic link") as caught:
        act(LocalStore(root))

    assert type(caught.value) is StoreError
    assert (elsewhere / "b").read_bytes() == b"precious"


def test_an_object_that_is_a_symbolic_link_is_not_read(root: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"precious")
    (root / "a").symlink_to(secret)
    store = LocalStore(root)

    with pytest.raises(StoreError) as caught:
        store.get("a", limit=100)
    assert type(caught.value) is StoreError

    store.put("a", b"mine")
    assert secret.read_bytes() == b"precious"
    assert store.get("a", limit=100).data == b"mine"


def test_the_root_itself_may_be_a_symbolic_link(root: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(root)

    LocalStore(link).put("a", b"x")

    assert everything(LocalStore(root)) == {"a": b"x"}


def test_a_fifo_blocks_nobody(root: Path) -> None:
    os.mkfifo(root / "a")

    with pytest.raises(StoreError):
        LocalStore(root).get("a", limit=1)


def test_an_object_below_an_object_is_an_error(root: Path) -> None:
    store = LocalStore(root)
    store.put("a", b"")

    with pytest.raises(StoreError, match="Not a directory"):
        store.put("a/b", b"")
    assert everything(store) == {"a": b""}


def test_a_failed_put_leaves_nothing(root: Path) -> None:
    store = LocalStore(root)
    store.put("dir/object", b"old")

    with pytest.raises(StoreError):
        store.put("dir", b"new")

    assert everything(store) == {"dir/object": b"old"}
    assert list((root / ".ckptsync.tmp").iterdir()) == []


def test_a_full_disk_fails_the_put_for_good_and_keeps_the_old_object(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_file: int, _data: memoryview) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = LocalStore(root)
    store.put("a", b"old")

    monkeypatch.setattr(os, "write", full)

    with pytest.raises(StoreError, match="no space left") as caught:
        store.put("a", bytes(10_000))

    assert not caught.value.transient
    assert everything(store) == {"a": b"old"}
    assert list((root / ".ckptsync.tmp").iterdir()) == []


def test_a_limit_of_file_sizes_is_told_from_a_full_disk(root: Path) -> None:
    store = LocalStore(root)
    store.put("a", b"old")

    with files_limited_to(4096), pytest.raises(StoreError, match="may be that large") as caught:
        store.put("a", bytes(10_000))

    assert not caught.value.transient
    assert caught.value.hint is not None
    assert "ulimit -f" in caught.value.hint
    assert everything(store) == {"a": b"old"}
    assert list((root / ".ckptsync.tmp").iterdir()) == []


@contextmanager
def shut(directory: Path) -> Iterator[None]:
    """Nobody may enter the directory, this process included."""
    directory.chmod(0)
    privileged = os.geteuid() == 0
    if privileged:
        os.seteuid(65534)
    try:
        yield
    finally:
        if privileged:
            os.seteuid(0)
        directory.chmod(0o755)


@pytest.mark.parametrize("act", CALLS)
def test_a_directory_that_may_not_be_entered_is_denied_and_not_empty(
    root: Path, act: Callable[[ObjectStore], object]
) -> None:
    with shut(root), pytest.raises(AccessDenied):
        act(LocalStore(root))


@contextmanager
def directories_that_cannot_be_synced(name: str) -> Iterator[None]:
    """As soon as an object of this name is in one of them, syncing it fails."""
    fsync = os.fsync

    def failing(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) and name in os.listdir(descriptor):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        yield


@pytest.mark.parametrize("expect", list(Expect))
def test_what_can_be_seen_but_not_synced_is_neither_written_nor_to_be_tried_again(
    root: Path, expect: Expect
) -> None:
    store = LocalStore(root)

    with (
        directories_that_cannot_be_synced("a"),
        pytest.raises(Undurable, match="power cut: Input/output error") as caught,
    ):
        store.put("dir/a", b"x", expect=expect)

    assert not caught.value.transient
    assert caught.value.exit_code == 16
    assert everything(store) == {"dir/a": b"x"}
    assert list((root / ".ckptsync.tmp").iterdir()) == []


_CRASHING = """
import os, signal, sys
from pathlib import Path
from ckptsync.stores.local import LocalStore

def crash_at(name, number, actual):
    calls = iter(range(number))
    def call(*args, **options):
        if next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return actual(*args, **options)
    setattr(os, name, call)

store = LocalStore(Path(sys.argv[1]))
version = store.get("a", limit=100).version
crash_at(sys.argv[2], int(sys.argv[3]), getattr(os, sys.argv[2]))
store.put("a", b"new" * 1000, expect=version)
"""


@pytest.mark.parametrize(
    ("call", "number", "found"),
    [
        ("mkdir", 0, b"old"),
        ("write", 0, b"old"),
        ("fsync", 0, b"old"),
        ("fsync", 1, b"old"),
        ("rename", 0, b"old"),
        ("unlink", 0, b"new" * 1000),
    ],
)
def test_a_crash_leaves_the_old_object_or_the_new_one(
    root: Path, call: str, number: int, found: bytes
) -> None:
    (root / "a").write_bytes(b"old")

    process = subprocess.run(
        [sys.executable, "-c", _CRASHING, root, call, str(number)], check=False
    )

    assert process.returncode == -signal.SIGKILL
    store = LocalStore(root)
    assert everything(store) == {"a": found}
    store.put("a", b"next", expect=store.get("a", limit=3000).version)
    assert everything(store) == {"a": b"next"}


def test_what_a_crash_left_is_removed_after_a_day(root: Path) -> None:
    store = LocalStore(root)
    store.put("a", b"")
    old, young = root / ".ckptsync.tmp/old", root / ".ckptsync.tmp/young"
    for left in (old, young):
        left.write_bytes(b"half an obj")
    two_days_ago = store.now() - timedelta(days=2)
    os.utime(old, (two_days_ago.timestamp(), two_days_ago.timestamp()))

    LocalStore(root).put("b", b"")

    assert not old.exists()
    assert young.exists()
    assert everything(store) == {"a": b"", "b": b""}


def test_a_writer_whose_file_was_swept_fails_and_may_try_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(root)
    rename = os.rename

    def swept_before(old: str, new: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        os.unlink(old, dir_fd=src_dir_fd)
        rename(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "rename", swept_before)
    with pytest.raises(Unavailable):
        store.put("a", b"x")
    monkeypatch.undo()

    store.put("a", b"x")
    assert everything(store) == {"a": b"x"}


_CREATING = """
import sys
from pathlib import Path
from ckptsync.errors import PreconditionFailed
from ckptsync.stores.base import Expect
from ckptsync.stores.local import LocalStore

store = LocalStore(Path(sys.argv[1]))
won = 0
for number in range(100):
    try:
        store.put(f"dir/{number}", b"", expect=Expect.ABSENT)
        won += 1
    except PreconditionFailed:
        pass
print(won)
"""


def test_racing_processes_exclude_each_other(root: Path) -> None:
    command = [sys.executable, "-c", _CREATING, str(root)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]

    won = [int(process.communicate()[0]) for process in processes]

    assert sum(won) == 100, won


def test_a_holder_that_never_lets_go_is_contention(root: Path) -> None:
    store = LocalStore(root, lock_patience=timedelta(milliseconds=20))
    store.put("a", b"old")
    with (root / ".ckptsync.lock").open("rb+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        for act in (
            lambda: store.put("a", b"new"),
            lambda: store.put("b", b"new", expect=Expect.ABSENT),
            lambda: store.delete(["a"]),
        ):
            with pytest.raises(Contention, match="locked"):
                act()
        assert everything(store) == {"a": b"old"}, "reading needs no lock"

    store.put("a", b"new")


def test_one_that_waited_for_a_removed_lock_file_takes_the_new_one(root: Path) -> None:
    path = root / "lock"
    directory = os.open(root, os.O_RDONLY)
    first, second = (LockFile("lock", patience=timedelta(seconds=30)) for _ in range(2))
    inside, done = threading.Event(), threading.Event()

    def wait_and_hold() -> None:
        with second.hold(directory):
            inside.set()
            done.wait()

    waiter = threading.Thread(target=wait_and_hold)
    with first.hold(directory):
        waiter.start()
        while open_descriptors_of(path) < 2:
            threading.Event().wait(0.001)
        path.unlink()
    try:
        assert inside.wait(10)
        with (
            pytest.raises(LockHeld),
            LockFile("lock", patience=timedelta(0)).hold(directory),
        ):
            pytest.fail("two hold the lock")
    finally:
        done.set()
        waiter.join()
        os.close(directory)


def open_descriptors_of(path: Path) -> int:
    links = [os.path.realpath(link) for link in _DESCRIPTORS.iterdir()]
    return links.count(str(path))


def test_a_version_is_what_the_bytes_are(root: Path) -> None:
    store = LocalStore(root)

    first = store.put("a", b"same")
    store.put("a", b"other")

    assert store.put("b", b"same") == first


def test_no_call_leaks_a_descriptor(root: Path, tmp_path: Path) -> None:
    store = LocalStore(root)
    (root / "link").symlink_to(tmp_path)
    store.put("a/b", b"hello")
    before = len(list(_DESCRIPTORS.iterdir()))

    for act in CALLS:
        for key_store in (store, LocalStore(tmp_path / "absent"), LocalStore(root / "a/b")):
            try:
                act(key_store)
            except StoreError:
                continue
    for key in ("a/b/c", "link/x", "a", "z/z/z"):
        try:
            store.get(key, limit=1)
        except StoreError:
            continue

    assert len(list(_DESCRIPTORS.iterdir())) == before
