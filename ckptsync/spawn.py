"""Running a command to its end: without a shell, in a group of its own, with bounded output."""

import fcntl
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO, Final

from ckptsync.errors import Cancelled
from ckptsync.units import format_duration

_KEPT: Final = 4096  # bytes of output
_TOO_MUCH: Final = 1 << 20  # bytes of output on the disk
_GLANCE: Final = 0.2  # seconds
_GRACE: Final = 5.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    how: str
    """The rest of a sentence: it ..."""
    code: int | None = None
    """Negative for a signal; None if it did not end by itself, or never began."""
    output: tuple[str, ...] = ()
    """The last lines of 4 KiB on stdout and stderr, without blank ones."""


def run(
    command: Sequence[str],
    environment: Mapping[str, str | bytes],
    *,
    timeout: timedelta,
    stop: threading.Event | None = None,
) -> Ended:
    """Run a command; if the time is up, end it with all that it started, within ten seconds more.

    What it leaves running when it ends by itself is left alone. Raises Cancelled if `stop` is set,
    and ends the command in the same way.
    """
    stop = stop or threading.Event()
    if stop.is_set():
        raise Cancelled(f"stopped before '{command[0]}' was run")
    try:
        with tempfile.TemporaryFile(buffering=0) as file:
            output = _Output(file)
            process = subprocess.Popen(  # noqa: S603 - the operator's command, without a shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # also leaves it no terminal to ask
            )
            return _attend(process, output, timeout, stop)
    except OSError as error:
        return Ended(how=f"could not be run: {error.strerror}")


def _attend(
    process: "subprocess.Popen[bytes]", output: "_Output", timeout: timedelta, stop: threading.Event
) -> Ended:
    """Raises Cancelled."""
    try:
        code = _wait(process, output, timeout, stop)
    except subprocess.TimeoutExpired:
        more = "and was stopped" if _end(process) else "nor when it was killed"
        how = f"did not end within {format_duration(timeout)}, {more}"
        return Ended(how=how, output=output.lines())
    except BaseException:
        _end(process)
        raise
    how = f"exited with {code}" if code >= 0 else f"was ended by signal {-code}"
    return Ended(how=how, code=code, output=output.lines())


def _wait(
    process: "subprocess.Popen[bytes]", output: "_Output", timeout: timedelta, stop: threading.Event
) -> int:
    """The exit code; negative for a signal. Raises TimeoutExpired, Cancelled."""
    deadline = time.monotonic() + timeout.total_seconds()
    while True:
        left = max(deadline - time.monotonic(), 0.0)
        try:
            return process.wait(min(left, _GLANCE))
        except subprocess.TimeoutExpired:
            if left <= _GLANCE:
                raise
        if stop.is_set():
            raise Cancelled("stopped while a command ran, and ended it")
        output.bound()


def _end(process: "subprocess.Popen[bytes]") -> bool:
    """End all that runs in its process group; False if the command itself cannot be ended.

    Its id is no other group's meanwhile: nobody asked yet how it ended.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):  # sudo runs as another user
            os.killpg(process.pid, number)
        deadline = time.monotonic() + _GRACE
        while _runs(process.pid) and time.monotonic() < deadline:
            time.sleep(_GLANCE / 4)
    return process.poll() is not None


def _runs(group: int) -> bool:
    """Whether any process of a group runs. In a container the dead may stay as zombies."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):  # it has ended since
            state, _parent, its_group = stat.read_bytes().rpartition(b")")[2].split()[:3]
            if int(its_group) == group and state not in {b"Z", b"X"}:
                return True
    return False


class _Output:
    """What is printed, in a file: whatever is left running would hold a pipe, or break with it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file.fileno()
        self._earlier = b""
        flags = fcntl.fcntl(file, fcntl.F_GETFL)
        fcntl.fcntl(file, fcntl.F_SETFL, flags | os.O_APPEND)  # so that it can be cut short

    def bound(self) -> None:
        """Give the disk back what nobody will read."""
        if os.fstat(self._file).st_size > _TOO_MUCH:
            self._earlier = self._tail()
            os.ftruncate(self._file, 0)

    def lines(self) -> tuple[str, ...]:
        text = self._tail().decode(errors="replace")
        return tuple(line for line in text.splitlines() if line.strip())

    def _tail(self) -> bytes:
        start = max(os.fstat(self._file).st_size - _KEPT, 0)
        return (self._earlier + os.pread(self._file, _KEPT, start))[-_KEPT:]
