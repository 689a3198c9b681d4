"""Which process something was done by, and whether that one still lives."""

import os
from pathlib import Path


def this_process() -> str:
    """Names the running process; a later one of the same number has another name."""
    return f"{_boot()}:{os.getpid()}:{_started(os.getpid())}"


def lives(process: str) -> bool:
    boot, number, started = process.split(":")
    return boot == _boot() and started == _started(int(number))


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _started(number: int) -> str | None:
    """In clock ticks since the boot; None if there is no such process."""
    try:
        text = Path(f"/proc/{number}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold spaces; the start is the 22nd field, the 20th after it.
    return text.rpartition(")")[2].split()[19]
