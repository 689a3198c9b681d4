"""Processes that are killed at one of their writes to the disk, as the OOM killer would.

What a kill leaves between two writes is what it leaves just before the second: so a process is
killed before each of its writes in turn, and in the middle of those that write data.
"""

import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ckptsync.sources import disk
from ckptsync.state.database import Database

_WRITES: Final = (
    "copy_file_range",
    "fchmod",
    "fsync",
    "ftruncate",
    "link",
    "mkdir",
    "posix_fallocate",
    "rename",
    "replace",
    "rmdir",
    "unlink",
    "utime",
)


class _Countdown:
    """Kills this process at the write with a certain number, counted from 0."""

    def __init__(self, number: int) -> None:
        self._left = number
        self._lock = threading.Lock()

    def tick(self, last_deed: Callable[[], object] = lambda: None) -> None:
        with self._lock:
            if self._left == 0:
                last_deed()
                os.kill(os.getpid(), signal.SIGKILL)
            self._left -= 1


def killed(number: int, act: Callable[[], object]) -> bool:
    """Run `act` in a child that dies at this write; False if it came to its end before.

    Call where there is one thread. Raises AssertionError if the child fails otherwise.
    """
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            _arm(_Countdown(number))
            act()
            code = 0
        except BaseException:  # noqa: BLE001 - whatever it is, this process ends here
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, f"the child failed before write {number}"
    return False


def in_fresh_interpreter(module: str, *arguments: str) -> str:
    """Run a module where no thread of other tests lives; its output.

    Raises AssertionError with all that it said if it fails.
    """
    command = [sys.executable, "-W", "error", "-m", module, *arguments]
    here = Path(__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=here)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
    return done.stdout


def _arm(countdown: _Countdown) -> None:
    """Make every write of this process count. There is no way back."""
    for name in _WRITES:
        setattr(os, name, _counted(getattr(os, name), countdown))
    os.open = _counted_open(os.open, countdown)
    os.write = _counted_write(os.write, countdown)
    os.pwrite = _counted_write(os.pwrite, countdown)
    disk.exchange = _counted(disk.exchange, countdown)
    disk.sync_filesystem = _counted(disk.sync_filesystem, countdown)
    Database.transaction = _counted_transaction(countdown)  # type: ignore[method-assign]  # the point


def _counted(call: Callable[..., Any], countdown: _Countdown) -> Callable[..., Any]:
    def write(*args: Any, **kwargs: Any) -> Any:
        countdown.tick()
        return call(*args, **kwargs)

    return write


def _counted_open(call: Callable[..., int], countdown: _Countdown) -> Callable[..., int]:
    def open_(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if flags & os.O_CREAT:
            countdown.tick()
        return call(path, flags, *args, **kwargs)

    return open_


def _counted_write(call: Callable[..., int], countdown: _Countdown) -> Callable[..., int]:
    def write(descriptor: int, data: Any, *args: Any) -> int:
        half = memoryview(data)[: len(data) // 2]
        countdown.tick(lambda: call(descriptor, half, *args))
        return call(descriptor, data, *args)

    return write


def _counted_transaction(countdown: _Countdown) -> Callable[..., Any]:
    """SQLite writes by itself: here the commit is the write, if it has anything to write."""
    original = Database.transaction

    @contextmanager
    def transaction(self: Database) -> Iterator[Any]:
        with original(self) as connection:
            before = connection.total_changes
            yield connection
            if connection.total_changes > before:
                countdown.tick()

    return transaction
