"""A database in a directory of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ckptsync.state.database import Database


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "orders" / "0123456789abcdef.sqlite"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    database = Database(path)
    yield database
    database.close()
