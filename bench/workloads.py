"""What is moved: checkpoints of random bytes, and a digest that tells whether all arrived."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30

_BLOCK: Final = MIB
_PER_DIRECTORY: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One checkpoint of files that are all alike."""

    name: str
    files: int
    size: int
    """Bytes of each file."""
    changing: int = 0
    """Files that differ in the next checkpoint; 0: there is no next one."""


FULL_SIZE: Final = (
    Workload(name="one-file", files=1, size=2 * GIB),
    Workload(name="shards", files=64, size=16 * MIB),
    Workload(name="small", files=10_000, size=8 * KIB, changing=100),
    Workload(name="many", files=200_000, size=KIB),
)
QUICK: Final = (
    Workload(name="one-file", files=1, size=40 * MIB),
    Workload(name="shards", files=4, size=2 * MIB),
    Workload(name="small", files=200, size=8 * KIB, changing=5),
    Workload(name="many", files=400, size=KIB),
)
ONLY_IN_FULL: Final = "many"
"""It takes longer than all others together."""


def by_name(*, quick: bool) -> Mapping[str, Workload]:
    return {workload.name: workload for workload in (QUICK if quick else FULL_SIZE)}


def write(workload: Workload, checkpoint: Path) -> None:
    """Make a new directory with the files of a workload."""
    checkpoint.mkdir(parents=True)
    for path in _paths(workload, checkpoint):
        path.parent.mkdir(exist_ok=True)
        _fill(path, workload.size)


def change(workload: Workload, checkpoint: Path) -> None:
    """Rewrite some of the files, spread over all of them, with other bytes of the same size."""
    step = workload.files // workload.changing
    for path in _paths(workload, checkpoint)[::step][: workload.changing]:
        _fill(path, workload.size)


def fingerprint(tree: Path) -> str:
    """The same for two trees if and only if they have the same files with the same bytes."""
    whole = hashlib.sha256()
    for path in sorted(path for path in tree.rglob("*") if not path.is_dir()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        whole.update(b"%b\0%b" % (bytes(path.relative_to(tree)), digest))
    return whole.hexdigest()


def _paths(workload: Workload, checkpoint: Path) -> list[Path]:
    return [
        checkpoint / f"{number // _PER_DIRECTORY:03}" / f"{number:06}.bin"
        for number in range(workload.files)
    ]


def _fill(path: Path, size: int) -> None:
    with path.open("wb", buffering=0) as file:
        for start in range(0, size, _BLOCK):
            file.write(os.urandom(min(_BLOCK, size - start)))
