"""What a pull refuses to replace, and what an engine finds after one."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ckptsync.errors import (
    EngineRunning,
    Refused,
    SourceError,
    UnpushedWork,
)
from ckptsync.operations.pull import Restored, Wish, pull
from ckptsync.operations.resolve import LATEST, Kept
from ckptsync.stores.base import ObjectStore
from ckptsync.stores.memory import MemoryStore
from tests.fakes import feldera_engine
from tests.fakes.feldera_engine import Engine
from tests.pipelines import (
    PACK_BELOW,
    Host,
    a_small_checkpoint,
    contents,
    noise,
    wanted,
)


def test_work_that_no_bucket_has_is_not_replaced(two_pushed: ObjectStore, host: Host) -> None:
    host.checkpoint("ckpt-3", a_small_checkpoint(3))
    before = contents(host.root)

    with pytest.raises(UnpushedWork, match="ckpt-3") as caught:
        host.pull(two_pushed)

    assert caught.value.exit_code == 13
    assert contents(host.root) == before
    assert isinstance(host.pull(two_pushed, wanted(explicit=False)), Kept)
    assert isinstance(host.pull(two_pushed, wanted("ckpt-1", force=True)), Restored)


def test_a_checkpoint_written_anew_under_a_name_that_was_pushed_is_not_replaced(
    two_pushed: ObjectStore, host: Host
) -> None:
    (host.root / "ckpt-2" / "chunk").write_bytes(noise(PACK_BELOW, "retrained"))

    with pytest.raises(UnpushedWork, match="ckpt-2"):
        host.pull(two_pushed, wanted("ckpt-1"))


def test_what_is_replaced_by_force_goes_to_quarantine(
    two_pushed: ObjectStore, host: Host, other: Host
) -> None:
    other.checkpoint("ckpt-2", {"mine": b"mine"})

    other.restore(two_pushed, wanted(force=True))

    assert contents(other.root / "ckpt-2") == contents(host.root / "ckpt-2")
    (kept,) = (other.work / "quarantine").glob("*/ckpt-2/mine")
    assert kept.read_bytes() == b"mine"


def test_where_it_cannot_be_told_whether_an_engine_runs_the_operator_must_say_so(
    two_pushed: ObjectStore, other: Host
) -> None:
    with pytest.raises(Refused, match="cannot tell whether an engine runs") as caught:
        other.pull(two_pushed, Wish(checkpoint=LATEST, explicit=False))

    assert caught.value.hint is not None
    assert "--engine-stopped" in caught.value.hint
    assert not other.root.exists()


@contextmanager
def running_engine(root: Path) -> Iterator[None]:
    """In a process of its own, since a process does not lock out itself."""
    command = [sys.executable, "-m", "tests.fakes.feldera_engine", str(root), "--count=1", "--hold"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "done\n":
            assert process.poll() is None
        yield
        process.communicate("\n")


def test_under_a_running_engine_nothing_is_replaced(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    host, other = replace(host, layout="feldera"), replace(other, layout="feldera")
    with Engine(host.root, seed=1) as engine:
        engine.checkpoint()
    host.push(bucket)
    with running_engine(other.root):
        before = contents(other.root)

        with pytest.raises(EngineRunning) as caught:
            other.pull(bucket, wanted(force=True))

        assert caught.value.exit_code == 13
        assert contents(other.root) == before


def test_a_checkpoint_of_another_layout_is_refused(two_pushed: ObjectStore, other: Host) -> None:
    with pytest.raises(Refused, match="pushed with layout 'directory'"):
        replace(other, layout="feldera").pull(two_pushed)

    assert not list(other.root.glob("*"))


def test_a_work_directory_on_another_filesystem_is_refused(
    two_pushed: ObjectStore, other: Host, tmp_path: Path
) -> None:
    if tmp_path.stat().st_dev == other.home.parent.stat().st_dev:
        pytest.skip("there is only one filesystem here")
    with other.running(two_pushed) as pipeline:
        elsewhere = replace(pipeline, work_path=tmp_path / "work")

        with pytest.raises(SourceError, match="another filesystem"):
            pull(elsewhere, wanted(), progress=lambda _: None)

    assert not list(other.root.glob("*"))


# The engine


@pytest.fixture
def engine_with_three(host: Host) -> Iterator[Engine]:
    with Engine(host.root, seed=3) as engine:
        for _ in range(3):
            engine.checkpoint()
        yield engine


def test_an_engine_resumes_from_what_was_restored(
    host: Host, other: Host, bucket: MemoryStore, engine_with_three: Engine
) -> None:
    host, other = replace(host, layout="feldera"), replace(other, layout="feldera")
    report = host.push(bucket)
    id = report.entry.engine_id

    other.restore(bucket)

    resumed = feldera_engine.resume(other.root)
    assert resumed is not None
    assert (resumed.uuid, str(resumed.step)) == (id, report.entry.step)
    assert feldera_engine.contents(other.root, id) == engine_with_three.written[id]
    with Engine(other.root, seed=4) as resumed_engine:
        newer = resumed_engine.checkpoint()
    assert feldera_engine.contents(other.root, newer) == resumed_engine.written[newer]


def test_going_back_and_forth_leaves_what_an_engine_would_have_written(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    host, other = replace(host, layout="feldera"), replace(other, layout="feldera")
    pushed: list[str] = []
    with Engine(host.root, seed=5) as engine:
        for _ in range(4):
            engine.checkpoint()
            pushed.append(host.push(bucket).entry.engine_id)
        for id in (pushed[2], pushed[0], pushed[3]):
            other.restore(bucket, wanted(id))

            resumed = feldera_engine.resume(other.root)
            assert resumed is not None
            assert resumed.uuid == id
            assert feldera_engine.contents(other.root, id) == engine.written[id]
    shutil.rmtree(other.work)
