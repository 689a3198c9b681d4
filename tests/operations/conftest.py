"""A place for files, in memory where there is one: these tests sync thousands of them."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ckptsync.stores.base import ObjectStore
from ckptsync.stores.local import LocalStore
from ckptsync.stores.memory import MemoryStore
from tests.pipelines import PACK_BELOW, Host, a_small_checkpoint, noise

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


@pytest.fixture
def about_to_push(host: Host, bucket: MemoryStore) -> Host:
    """A host with one checkpoint in the bucket and the next on its disk."""
    host.push_new("ckpt-1", bucket)
    host.checkpoint("ckpt-2", {**a_small_checkpoint(1), "new": b"new"})
    return host


@pytest.fixture(params=["memory", "local"])
def two_pushed(
    request: pytest.FixtureRequest, host: Host, bucket: MemoryStore, directory_bucket: LocalStore
) -> ObjectStore:
    """Two checkpoints of the host that differ in two files."""
    store: ObjectStore = bucket if request.param == "memory" else directory_bucket
    for number in (1, 2):
        files = {**a_small_checkpoint(), "differs": noise(PACK_BELOW, number)}
        host.checkpoint(f"ckpt-{number}", {**files, "small": noise(9, number)})
        host.push(store)
    return store
