"""Running a function in a child that is killed at its n-th change of the filesystem."""

import os
import signal
import warnings
from collections.abc import Callable
from typing import Any

from ckptsync.sources import disk

_CHANGES = ("rename", "replace", "unlink", "mkdir", "rmdir", "fsync", "fchmod", "utime", "pwrite")


def killed_at(change: int, action: Callable[[], object]) -> bool:
    """Run action in a child, with SIGKILL in place of this change; False if it ended before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork, if there are threads
        child = os.fork()
    if child == 0:
        _run(change, action)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    assert status == 0, f"the child failed with status {status}"
    return False


def _run(change: int, action: Callable[[], object]) -> None:
    left = change

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return real(*args, **kwargs)

        return call

    for name in _CHANGES:
        setattr(os, name, counted(getattr(os, name)))
    disk.exchange = counted(disk.exchange)
    real_open = os.open

    def opened(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        creating = counted(real_open) if flags & os.O_CREAT else real_open
        return int(creating(path, flags, *args, **kwargs))

    os.open = opened
    code = 1
    try:
        action()
        code = 0
    finally:
        os._exit(code)
