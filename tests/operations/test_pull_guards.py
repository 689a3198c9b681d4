"""What a pull refuses to replace, and what an engine finds after one."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ckptsync.errors import (
    EngineRunning,
    Refused,
    SourceError,
    UnpushedWork,
    WrongRepository,
)
from ckptsync.operations.pull import Restored, Wish, pull
from ckptsync.operations.resolve import LATEST, Kept
from ckptsync.repository.head import Entry
from ckptsync.repository.repository import read_head
from ckptsync.sources.quarantine import Quarantine
from ckptsync.stores.base import ObjectStore
from ckptsync.stores.memory import MemoryStore
from tests.fakes import feldera_engine
from tests.fakes.feldera_engine import Engine, Sizes
from tests.fakes.stores import Crash
from tests.operations.looks import manifest_of
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
def running_engine(root: Path, *, checkpoints: int = 1) -> Iterator[None]:
    """In a process of its own, since a process does not lock out itself."""
    module, count = "tests.fakes.feldera_engine", f"--count={checkpoints}"
    command = [sys.executable, "-m", module, str(root), count, "--hold"]
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


def test_a_pull_that_an_engine_forestalls_is_no_going_back(host: Host, bucket: MemoryStore) -> None:
    """The engine starts while the checkpoint is fetched, and so goes on from its own."""
    host = replace(host, layout="feldera")
    with Engine(host.root, seed=1) as engine:
        first = engine.checkpoint()
        host.push(bucket)
        engine.checkpoint()
    second = host.push(bucket).entry
    engines = [running_engine(host.root, checkpoints=0)]

    with ExitStack() as started:

        def start(_moved: int) -> None:
            if engines:
                started.enter_context(engines.pop())

        with pytest.raises(EngineRunning, match="process"):
            host.pull(bucket, wanted(first), progress=start)

    assert engines == []
    require_going_on_from(host, bucket, second)


def test_a_pull_with_another_batch_in_the_way_is_no_going_back(
    host: Host, bucket: MemoryStore
) -> None:
    host = replace(host, layout="feldera")
    sizes = Sizes(traces=1, new_batches=2, merge_at=2)
    with Engine(host.root, seed=1, sizes=sizes) as engine:
        first = engine.checkpoint()
        host.push(bucket)
        for _ in range(3):  # until the first and its batches are deleted
            engine.checkpoint()
    latest = host.push(bucket).entry
    batches = [path for path in engine.written[first] if "/" not in path]
    in_the_way = next(host.root / path for path in batches if not (host.root / path).exists())
    in_the_way.write_bytes(b"another")

    with pytest.raises(SourceError, match="in the way"):
        host.pull(bucket, wanted(first))

    in_the_way.unlink()
    require_going_on_from(host, bucket, latest)


def require_going_on_from(host: Host, bucket: MemoryStore, latest: Entry) -> None:
    """The next checkpoint is pushed, on top of the latest."""
    with host.running(bucket) as pipeline:
        me = pipeline.state.identity.remembered()
    assert (me.publishing, me.restored) == (None, None)
    with Engine(host.root, seed=2) as engine:
        engine.checkpoint()
    assert host.push(bucket).entry.timeline == 1
    assert manifest_of(bucket).header.parent == latest.id


def die(_self: object) -> None:
    raise Crash


@pytest.mark.parametrize("layout", ["directory", "feldera"])
def test_nothing_is_pushed_while_a_pull_is_half_in_place_and_a_plain_pull_finishes_it(
    host: Host, bucket: MemoryStore, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    host = replace(host, layout=layout)
    if layout == "feldera":
        with Engine(host.root, seed=1) as engine:
            for _ in range(2):
                engine.checkpoint()
                host.push(bucket)
    else:
        for number in (1, 2):
            host.push_new(f"ckpt-{number}", bucket)
    first, latest = read_head(bucket).head.checkpoints
    monkeypatch.setattr(Quarantine, "sync", die)
    with pytest.raises(Crash):
        host.pull(bucket, wanted(first.engine_id))
    monkeypatch.undo()

    with pytest.raises(Refused, match=f"pull of checkpoint {first.id} was interrupted") as caught:
        host.push(bucket)
    assert "'ckptsync pull'" in (caught.value.hint or "")
    assert caught.value.exit_code == 13
    assert read_head(bucket).head.latest == latest.id

    assert host.restore(bucket, wanted(explicit=False)).entry == first

    assert host.push(bucket).entry == first
    assert read_head(bucket).head.latest == first.id


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


def test_another_pipelines_checkpoint_is_not_put_in_place_here(
    host: Host, bucket: MemoryStore, disk: Path
) -> None:
    host.push_new("ckpt-1", bucket)
    other = Host(home=disk / "other", pipeline="billing")
    other.home.mkdir(exist_ok=True)

    with pytest.raises(WrongRepository):
        other.pull(bucket)
    assert not other.root.exists()
