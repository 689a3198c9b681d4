"""Where the bench works: in memory if there is room, and in memory that was touched before."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.workloads import GIB, KIB, MIB, Workload

SHARED_MEMORY: Final = Path("/dev/shm")
IN_MEMORY: Final = "tmpfs"
"""The type of the filesystem there, where fsync costs nothing."""
_BLOCK: Final = 4 * KIB  # what the smallest file takes
_SLACK: Final = 2 * GIB  # for the programs themselves


def room_for(workload: Workload) -> int:
    """Bytes for the files, the server's copy, the pulled one, and one that was replaced."""
    on_disk = max(workload.size, _BLOCK)
    return 4 * workload.files * on_disk


@contextmanager
def work_directory(needed: int, *, asked: Path | None = None) -> Iterator[Path]:
    """A new directory below the one asked for, or in memory if there is room for `needed` bytes.

    Raises OSError if there is room nowhere.
    """
    parent = asked or (SHARED_MEMORY if _fits_in_memory(needed) else Path(tempfile.gettempdir()))
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise OSError(f"{parent} has {free // MIB} MiB free, but {needed // MIB} MiB are needed")
    with tempfile.TemporaryDirectory(prefix="ckptsync-bench-", dir=parent) as directory:
        yield Path(directory)


def warm(directory: Path, size: int) -> None:
    """Have `size` bytes of memory touched once: a virtual machine's first touch is slow."""
    block = bytes(MIB)
    path = directory / "warm"
    with path.open("wb", buffering=0) as file:
        for _ in range(size // MIB):
            file.write(block)
    path.unlink()


def filesystem(path: Path) -> str:
    """The type of the filesystem that a path lies on, as in /proc/mounts."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    types = {fields[1]: fields[2] for fields in mounts}
    path = path.resolve()
    return next(types[str(at)] for at in (path, *path.parents) if str(at) in types)


def _fits_in_memory(needed: int) -> bool:
    if not os.access(SHARED_MEMORY, os.W_OK):
        return False
    available = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
    spare = int(available[1]) * 1024 if available else 0
    return needed + _SLACK < min(spare, shutil.disk_usage(SHARED_MEMORY).free)
