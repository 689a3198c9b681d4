"""Emptying a storage root: the engine finds nothing to resume from, and nothing is lost."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from ckptsync.errors import EngineRunning, SourceError
from ckptsync.sources.base import Layout
from ckptsync.sources.directory import Directory
from ckptsync.sources.feldera import Feldera
from ckptsync.sources.pidlock import PIDLOCK
from ckptsync.sources.publish import set_aside
from tests.fakes.feldera_engine import CATALOG, Engine, RefusesToStart, Sizes, resume
from tests.sources.crashing import killed_at
from tests.sources.samples import PROJECT

SMALL = Sizes(traces=1, new_batches=2, batch_bytes=100, state_bytes=50)
COORDINATOR = "coordinator/ckptsync/kept"


def directory(root: Path) -> Layout:
    return Directory(root, quiet=timedelta(0))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / "work"


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """Of a Feldera engine that was stopped in the middle of its life."""
    with Engine(tmp_path / "storage", seed=2, sizes=SMALL) as engine:
        engine.run(3)
        (engine.root / "status.json").write_text("{}")
        (engine.root / "status.json.mut").write_text("{")
        (engine.root / "activated.feldera").write_text("null")
        (engine.root / "datafusion-tmp").mkdir()
        (engine.root / COORDINATOR).mkdir(parents=True)
    return engine.root


@pytest.fixture
def trainers(tmp_path: Path) -> Path:
    """Of a trainer that keeps a file that names the newest."""
    root = tmp_path / "storage"
    for number in (1, 2, 10):
        (root / f"ckpt-{number}").mkdir(parents=True)
        (root / f"ckpt-{number}" / "model").write_text(f"{number}")
    (root / "ckpt-11.tmp").mkdir()
    (root / "latest").write_text("ckpt-10")
    (root / ".hidden").mkdir()
    (root / "lost+found").mkdir()
    return root


def state_of(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def names(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()}


def test_an_engine_starts_from_nothing_in_a_vacated_root(storage: Path, work: Path) -> None:
    before, resumed = state_of(storage), resume(storage)

    kept = set_aside(Feldera(storage), storage, work)

    assert names(storage) == {PIDLOCK, "coordinator"}
    assert resume(storage) is None
    assert kept is not None
    assert kept.parent == work / "quarantine"
    assert resume(kept) == resumed, "the engine could go on from the quarantine"
    assert {**state_of(kept), PIDLOCK: b""} == before
    with Engine(storage, seed=3, sizes=SMALL) as engine:
        engine.run(1)
    assert (storage / COORDINATOR).is_dir()


def test_a_trainer_finds_nothing_in_a_vacated_root(trainers: Path, work: Path) -> None:
    before = names(trainers)

    kept = set_aside(directory(trainers), trainers, work)

    assert names(trainers) == {".hidden", "lost+found"}
    assert kept is not None
    assert names(kept) | names(trainers) == before
    assert (kept / "ckpt-10" / "model").read_text() == "10"


@pytest.mark.parametrize("make", [Feldera, directory])
def test_where_there_is_nothing_nothing_is_made(
    make: Callable[[Path], Layout], tmp_path: Path, work: Path
) -> None:
    root = tmp_path / "storage"
    assert set_aside(make(root), root, work) is None
    assert not root.exists()

    root.mkdir()
    assert set_aside(make(root), root, work) is None
    assert not work.exists()


def test_the_storage_of_a_running_engine_is_never_vacated(storage: Path, work: Path) -> None:
    command = [sys.executable, "-m", "tests.fakes.feldera_engine", str(storage)]
    with subprocess.Popen(
        [*command, "--count=0", "--hold"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        before = state_of(storage)

        with pytest.raises(EngineRunning, match=f"held by process {process.pid}"):
            set_aside(Feldera(storage), storage, work)

        assert state_of(storage) == before
        process.communicate("stop\n")


def test_what_the_hook_says_is_heeded(trainers: Path, work: Path) -> None:
    layout = Directory(trainers, engine_running=lambda: True)
    before = state_of(trainers)

    with pytest.raises(EngineRunning, match="says the hook"):
        set_aside(layout, trainers, work)

    assert state_of(trainers) == before
    assert not work.exists()


def test_a_work_directory_that_others_may_write_is_refused(trainers: Path, work: Path) -> None:
    work.mkdir()
    work.chmod(0o777)
    before = state_of(trainers)

    with pytest.raises(SourceError, match="can be written by others"):
        set_aside(directory(trainers), trainers, work)

    assert state_of(trainers) == before


def test_a_kill_at_any_step_lets_no_engine_start_from_a_part(storage: Path, tmp_path: Path) -> None:
    before, old = state_of(storage), resume(storage)
    refused = 0
    for number in count():
        root, work = tmp_path / f"root-{number}", tmp_path / f"work-{number}"
        shutil.copytree(storage, root)

        killed = killed_at(number, partial(set_aside, Feldera(root), root, work))

        try:
            assert resume(root) in ((old,) if (root / CATALOG).exists() else (None,))
        except RefusesToStart:
            refused += 1
        else:
            assert names(root) == {PIDLOCK, "coordinator"} or names(root) == names(storage)
        assert everything(root, work) == before, "something is lost"

        set_aside(Feldera(root), root, work)

        assert names(root) == {PIDLOCK, "coordinator"}
        assert everything(root, work) == before
        if not killed:
            assert refused >= 5
            return


def test_a_kill_at_any_step_leaves_a_trainer_the_newest_or_nothing(
    trainers: Path, tmp_path: Path
) -> None:
    before = state_of(trainers)
    seen: set[str | None] = set()
    for number in count():
        root, work = tmp_path / f"root-{number}", tmp_path / f"work-{number}"
        shutil.copytree(trainers, root)

        killed = killed_at(number, partial(set_aside, directory(root), root, work))

        if any(root.glob("ckpt-*")):
            seen.update(each.engine.id for each in directory(root).checkpoints()[-1:])
        else:
            seen.add(None)
        set_aside(directory(root), root, work)
        assert names(root) == {".hidden", "lost+found"}
        assert everything(root, work) == before
        if not killed:
            assert seen == {"ckpt-10", None}
            return


def everything(root: Path, work: Path) -> dict[str, bytes]:
    """What is in a root and in all the quarantines of its work directory."""
    found = state_of(root)
    for kept in work.glob("quarantine/*"):
        found |= state_of(kept)
    return found
