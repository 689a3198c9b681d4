"""Hosts for each test."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.e2e.pair import Pair
from tests.e2e.site import Site
from tests.servers import S3Server


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A host with a directory for a bucket."""
    return Site.on_disk(tmp_path / "host-a")


@pytest.fixture
def s3_site(tmp_path: Path, seaweedfs: S3Server) -> Site:
    """A host with a bucket of a real server."""
    return Site.on_s3(tmp_path / "host-a", seaweedfs, secrets.token_hex(8))


@pytest.fixture(params=["directory", "s3"])
def any_site(request: pytest.FixtureRequest) -> Site:
    """A host with each kind of bucket."""
    site: Site = request.getfixturevalue("site" if request.param == "directory" else "s3_site")
    return site


MakePair = Callable[[str], Pair]
"""Of the kind of the bucket."""


@pytest.fixture
def make_pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakePair]:
    """Two hosts that share a bucket of a kind."""
    with ExitStack() as made:

        def make(bucket: str) -> Pair:
            if bucket == "directory":
                pair = Pair.on_disk(tmp_path)
            else:
                server: S3Server = request.getfixturevalue("seaweedfs")
                pair = Pair.on_s3(tmp_path, server, secrets.token_hex(8))
            made.enter_context(closing(pair.store))
            return pair

        yield make
