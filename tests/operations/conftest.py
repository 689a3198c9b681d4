"""A place for files, in memory where there is one: these tests sync thousands of them."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ckptsync.stores.local import LocalStore
from ckptsync.stores.memory import MemoryStore
from tests.pipelines import Host

_IN_MEMORY = Path("/dev/shm")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    if not _IN_MEMORY.is_dir():
        yield tmp_path
        return
    made = Path(tempfile.mkdtemp(prefix="ckptsync-test-", dir=_IN_MEMORY))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def host(disk: Path) -> Host:
    return Host(home=disk / "host-a")


@pytest.fixture
def other(disk: Path) -> Host:
    """A second machine, with nothing on its disk."""
    return Host(home=disk / "host-b", node="host-b")


@pytest.fixture
def bucket() -> MemoryStore:
    return MemoryStore("s3://dr/orders")


@pytest.fixture
def directory_bucket(disk: Path) -> LocalStore:
    root = disk / "bucket"
    root.mkdir()
    return LocalStore(root)
