"""Hosts with a worker each, on one bucket."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ckptsync.operations.pipeline import StandbySettings
from ckptsync.stores.memory import MemoryStore
from tests.daemon.bench import Bench, Clock, bench
from tests.pipelines import Host


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    return MemoryStore(clock=clock)


@pytest.fixture
def primary(tmp_path: Path, store: MemoryStore, clock: Clock) -> Iterator[Bench]:
    """Host a; it is to be the primary, and nothing was done yet."""
    with bench(Host(home=tmp_path / "a"), store, clock) as made:
        yield made


@pytest.fixture
def standby(tmp_path: Path, store: MemoryStore, clock: Clock) -> Iterator[Bench]:
    """Host b; it is to be a standby, and nothing was done yet."""
    host = Host(
        home=tmp_path / "b",
        node="host-b",
        standby=StandbySettings(initially=True),
    )
    with bench(host, store, clock) as made:
        yield made
