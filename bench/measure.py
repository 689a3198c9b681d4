"""Run one process to its end and say what it took."""

import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Final

_PATIENCE: Final = 3600.0  # seconds; a tool that takes longer hangs


class ToolFailed(Exception):
    """A tool ended with an error, or did not end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Of one process and the children it waited for."""

    seconds: float
    cpu_seconds: float
    peak_rss: int
    """Bytes. The kernel never reports less than the peak of this program, which starts it."""


def run(argv: Sequence[str], environment: Mapping[str, str], *, log: Path) -> Usage:
    """Run a command with nothing on its input. Raises ToolFailed with the end of what it said."""
    with log.open("wb") as output:
        started = perf_counter()
        process = subprocess.Popen(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        alarm = threading.Timer(_PATIENCE, process.kill)
        alarm.start()
        try:
            _, status, used = os.wait4(process.pid, 0)
            seconds = perf_counter() - started
            process.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            alarm.cancel()
    if process.returncode != 0:
        said = log.read_text(errors="replace")[-2000:]
        raise ToolFailed(f"{' '.join(argv)} ended with {process.returncode}:\n{said}")
    return Usage(
        seconds=seconds,
        cpu_seconds=used.ru_utime + used.ru_stime,
        peak_rss=used.ru_maxrss * 1024,
    )


def flush(directory: Path) -> float:
    """Have the kernel write out the filesystem of a directory; the seconds it took."""
    started = perf_counter()
    subprocess.run(["sync", "--file-system", directory], check=True)
    return perf_counter() - started
