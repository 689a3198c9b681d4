"""One process at a time; a dead one holds nothing."""

import signal
from pathlib import Path

import pytest

from ckptsync.errors import Busy
from ckptsync.state.lock import PipelineLock, lock_path
from tests.state.processes import process
from tests.unprivileged import refused

HOLD = """
import sys, time
from pathlib import Path
from ckptsync.state.lock import PipelineLock
with PipelineLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return lock_path(tmp_path / "state", "orders")


def test_a_second_process_is_told_who_holds_it(path: Path) -> None:
    with process(HOLD, path) as child, pytest.raises(Busy, match=f"process {child.pid} is already"):
        PipelineLock(path).__enter__()


def test_a_killed_process_holds_it_no_longer(path: Path) -> None:
    with process(HOLD, path) as child:
        child.send_signal(signal.SIGKILL)
        child.wait()

    with PipelineLock(path):
        assert path.exists()


def test_it_excludes_its_own_process_too_and_can_be_taken_again(path: Path) -> None:
    lock = PipelineLock(path)
    with lock, pytest.raises(Busy):
        PipelineLock(path).__enter__()
    with lock:
        assert path.exists()


def test_it_is_let_go_when_the_block_raises(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), PipelineLock(path):
        raise ZeroDivisionError

    with PipelineLock(path):
        assert path.exists()


def test_a_place_that_cannot_be_written_is_a_matter_of_permission(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0)

    found = refused(
        "from ckptsync.state.lock import PipelineLock",
        "PipelineLock(Path(sys.argv[1])).__enter__()",
        tmp_path / "state" / "orders.lock",
    )

    assert found.startswith("PermissionRefused: cannot ")
