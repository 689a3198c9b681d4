"""Every store, started when a test first asks for it."""

import secrets
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import settings

from ckptsync.stores.base import ObjectStore
from ckptsync.stores.local import LocalStore
from ckptsync.stores.memory import MemoryStore
from ckptsync.stores.s3 import S3Options, S3Store
from tests import servers
from tests.servers import S3Server

settings.register_profile("ckptsync", deadline=None)  # a busy machine is no failure
settings.load_profile("ckptsync")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--live",
        metavar="s3://bucket/prefix",
        help="test a real bucket too, with the SDK's own credentials and region",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the real bucket out where none was given."""
    if config.getoption("--live"):
        return
    live = [item for item in items if _is_live(item)]
    items[:] = [item for item in items if not _is_live(item)]
    config.hook.pytest_deselected(items=live)


def _is_live(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and (
        hasattr(item, "callspec") and item.callspec.params.get("store") == "live"
    )


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with servers.moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with servers.seaweedfs(tmp_path_factory.mktemp("weed")) as server:
        yield server


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with servers.rclone(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture(params=["memory", "local", "s3-moto", "s3-seaweedfs", "live"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    """Each store in turn, empty."""
    with closing(_store(request, tmp_path)) as opened:
        yield opened
        if request.param == "live":
            opened.delete([info.key for info in opened.walk("")])


def _store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    kind: str = request.param
    prefix = secrets.token_hex(8)
    if kind == "memory":
        return MemoryStore()
    if kind == "local":
        root = tmp_path / "bucket"
        root.mkdir()
        return LocalStore(root)
    if kind == "live":
        live = urlsplit(request.config.getoption("--live"))
        return S3Store(
            S3Options(bucket=live.netloc, prefix=f"{live.path.strip('/')}/{prefix}".lstrip("/"))
        )
    server: S3Server = request.getfixturevalue(kind.removeprefix("s3-"))
    return S3Store(server.options(prefix))
