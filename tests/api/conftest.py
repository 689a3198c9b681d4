"""A host whose pipeline a daemon has, and a way to ask it."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ckptsync.api.client import Client
from ckptsync.api.local_socket import reachable
from ckptsync.api.server import Server
from tests.api.desk import PATIENCE, Desk, GatedMemory, running_server, serving
from tests.pipelines import Host, a_small_checkpoint


@pytest.fixture
def store() -> Iterator[GatedMemory]:
    """Open at the end, so that nothing stays held."""
    gated = GatedMemory()
    yield gated
    gated.gate.opened.set()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """With one checkpoint that was not pushed."""
    made = Host(home=tmp_path)
    made.checkpoint("1", a_small_checkpoint())
    return made


@pytest.fixture
def desk(host: Host, store: GatedMemory) -> Iterator[Desk]:
    """Its bugs are looked for at the end: a test that wants some takes them out."""
    with host.running(store) as pipeline:
        made = Desk(pipeline)
        yield made
        store.gate.opened.set()
        made.close()
        assert made.bugs == []


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """Of all tests, each with sockets of its own."""
    with running_server() as started:
        yield started


@pytest.fixture
def path(desk: Desk, tmp_path: Path, store: GatedMemory, server: Server) -> Iterator[Path]:
    """Of the socket that it serves."""
    with serving(desk, tmp_path / "state", server) as served:
        yield served
        store.gate.opened.set()


@pytest.fixture
def client(path: Path) -> Iterator[Client]:
    with Client(path.parent.parent, path.parent.name) as opened:
        yield opened


@pytest.fixture
def http(path: Path) -> Iterator[httpx.Client]:
    """For what no client of ours would ask."""
    with (
        reachable(path) as short,
        httpx.Client(
            transport=httpx.HTTPTransport(uds=short),
            base_url="http://ckptsync/ckptsync/v1",
            timeout=PATIENCE,
        ) as opened,
    ):
        yield opened
