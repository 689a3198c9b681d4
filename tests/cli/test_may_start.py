"""The gate before an engine: how long it waits, and who may ask."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ckptsync.cli.wiring import hurried
from ckptsync.config.load import parse
from ckptsync.state.database import Database, state_path
from tests.unprivileged import refused

_CONFIG = """
[daemon]
state_dir = "{home}/state"
[pipelines.orders]
storage_path = "{home}/data"
[pipelines.orders.sync]
bucket = "file://{home}/bucket"
"""

_LOADED = """
import threading
import ckptsync.cli.commands.may_start, ckptsync.cli.console, ckptsync.config.load
from ckptsync.cli.main import run
"""
"""What that user may not read by then, where Python lies in the home of another."""


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory that everybody may enter."""
    made = Path(tempfile.mkdtemp(prefix="ckptsync-test-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize(
    ("timeouts", "connect", "read"),
    [
        ("", 3, 10),
        ('connect_timeout = "10m"\nread_timeout = "10m"', 3, 10),
        ('connect_timeout = "1s"\nread_timeout = "2s"', 1, 2),
    ],
)
def test_a_bucket_that_hangs_does_not_hold_up_the_unit(
    timeouts: str, connect: int, read: int
) -> None:
    config = parse(_CONFIG.format(home="/srv") + timeouts, Path("config.toml"))

    sync = hurried(config.pipelines["orders"].sync)

    assert sync.connect_timeout == timedelta(seconds=connect)
    assert sync.read_timeout == timedelta(seconds=read)
    assert str(sync.bucket) == "file:///srv/bucket"


def test_who_may_not_read_the_state_is_told_so_and_not_that_there_is_none(home: Path) -> None:
    config = home / "config.toml"
    config.write_text(_CONFIG.format(home=home))
    (home / "bucket").mkdir()
    path = state_path(home / "state", "orders", f"file://{home}/bucket")
    Database(path).close()

    told = refused(
        _LOADED,
        "run(['-c', sys.argv[1], 'may-start', '--json'], threading.Event())",
        config,
    )

    error = json.loads(told)["error"]
    assert (error["kind"], error["exit_code"]) == ("PermissionRefused", 14)
    assert str(path.parent) in error["message"]
