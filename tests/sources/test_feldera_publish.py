import errno
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ckptsync.errors import EngineRunning, IntegrityError, LocalDiskFull, SourceError
from ckptsync.sources import disk, pidlock
from ckptsync.sources.digests import Digests
from ckptsync.sources.feldera import Feldera
from tests.fakes.feldera_engine import Engine, Resumed, Sizes, contents, resume
from tests.sources.crashing import killed_at
from tests.sources.samples import PROJECT, Sample, digest_of, make_digests, newest

ENGINE = [sys.executable, "-m", "tests.fakes.feldera_engine"]
SMALL = Sizes(traces=1, new_batches=2, batch_bytes=100, state_bytes=50)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / "work"


@pytest.fixture
def digests(tmp_path: Path) -> Digests:
    return make_digests(tmp_path)


@pytest.fixture
def primary(tmp_path: Path) -> Iterator[Engine]:
    with Engine(tmp_path / "primary", seed=1, sizes=SMALL) as engine:
        engine.run(3)
        yield engine


@pytest.fixture
def sample(primary: Engine) -> Sample:
    layout = Feldera(primary.root)
    return Sample(layout, newest(layout))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The storage of an engine that was stopped: an earlier life, with a journal."""
    with Engine(tmp_path / "storage", seed=2, sizes=SMALL) as engine:
        engine.run(3)
        (engine.root / "status.json").write_text("{}")
    return engine.root


def publish(sample: Sample, work: Path, root: Path, digests: Digests) -> None:
    sample.publish(Feldera(root), work, root, digests)


def uuid_of(found: Resumed | None) -> str | None:
    return None if found is None else found.uuid


def state_of(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def require_published(sample: Sample, written: dict[str, str], root: Path) -> None:
    found = resume(root)
    assert found is not None
    assert (found.uuid, found.step) == (sample.engine.id, sample.engine.step)
    assert found.journal == ()
    assert contents(root, found.uuid) == written
    assert [checkpoint.engine for checkpoint in Feldera(root).checkpoints()] == [sample.engine]
    batches = {name for name in written if "/" not in name}
    assert {path.name for path in root.glob("w*.feldera")} == batches


def test_an_engine_resumes_from_what_was_published_into_an_empty_directory(
    primary: Engine, sample: Sample, work: Path, tmp_path: Path, digests: Digests
) -> None:
    root = tmp_path / "fresh"

    publish(sample, work, root, digests)

    require_published(sample, primary.written[sample.engine.id], root)
    assert not work.exists(), "nothing was in the way"
    with Engine(root, seed=3, sizes=SMALL) as engine:
        engine.run(3)
    assert resume(root) is not None


def test_modes_and_times_are_those_of_the_primary(
    sample: Sample, work: Path, tmp_path: Path, digests: Digests
) -> None:
    publish(sample, work, tmp_path / "fresh", digests)

    for file in sample.files:
        facts = (tmp_path / "fresh" / file.path).stat()
        assert (facts.st_mode & 0o777, facts.st_mtime_ns) == (file.mode, file.mtime_ns)


def test_what_was_there_goes_to_quarantine_whole(
    primary: Engine, sample: Sample, work: Path, root: Path, digests: Digests
) -> None:
    before, resumed = state_of(root), resume(root)
    assert resumed is not None
    assert resumed.journal != ()

    publish(sample, work, root, digests)

    require_published(sample, primary.written[sample.engine.id], root)
    assert (root / "status.json").exists()
    (kept,) = (work / "quarantine").iterdir()
    assert resume(kept) == resumed, "the engine could go on from the quarantine"
    del before["status.json"], before["feldera.pidlock"]
    assert state_of(kept) == before


def test_publishing_again_changes_nothing(
    primary: Engine, sample: Sample, work: Path, root: Path, digests: Digests
) -> None:
    publish(sample, work, root, digests)
    shutil.rmtree(work)
    before = {path: path.stat().st_ino for path in root.rglob("*")}

    publish(sample, work, root, digests)

    require_published(sample, primary.written[sample.engine.id], root)
    assert {path: path.stat().st_ino for path in root.rglob("*")} == before
    assert not work.exists()


def test_a_checkpoint_that_is_in_place_loses_the_journal_of_what_followed(
    sample: Sample, work: Path, primary: Engine, digests: Digests
) -> None:
    primary.stop()
    journal = sorted(path.name for path in (primary.root / "steps.bin").iterdir())
    assert journal

    publish(sample, work, primary.root, digests)

    require_published(sample, primary.written[sample.engine.id], primary.root)
    (kept,) = (work / "quarantine").iterdir()
    assert sorted(path.name for path in (kept / "steps.bin").iterdir()) == journal


def test_batches_that_are_already_there_stay(
    sample: Sample, work: Path, primary: Engine, digests: Digests, tmp_path: Path
) -> None:
    root = tmp_path / "standby"
    publish(sample, work, root, digests)
    here = {path.name: path.stat().st_ino for path in root.glob("w*.feldera")}
    primary.checkpoint()
    later = Sample(Feldera(primary.root), newest(Feldera(primary.root)))

    publish(later, work, root, digests)

    require_published(later, primary.written[later.engine.id], root)
    stayed = [name for name, inode in here.items() if (root / name).stat().st_ino == inode]
    assert stayed == list(here)


def test_a_batch_of_that_name_with_other_content_stops_it_before_anything_changed(
    sample: Sample, work: Path, root: Path, digests: Digests
) -> None:
    name = next(file.path for file in sample.files if "/" not in file.path)
    (root / name).write_bytes(b"x" * 100)
    before = state_of(root)

    with pytest.raises(SourceError, match=f"{name} is in the way"):
        publish(sample, work, root, digests)

    assert state_of(root) == before


def test_it_says_that_it_begins_before_anything_changed_and_never_if_it_refuses(
    sample: Sample, work: Path, root: Path, digests: Digests
) -> None:
    seen: list[object] = []
    staging = sample.pull(work, root, digests, on_begin=lambda: seen.append(state_of(root)))
    batch = root / next(file.path for file in sample.files if "/" not in file.path)
    batch.write_bytes(b"x" * 100)
    with pytest.raises(SourceError):
        Feldera(root).publish(staging, root)
    with pidlock.held(root), pytest.raises(EngineRunning):
        Feldera(root).publish(staging, root)
    assert seen == []

    batch.unlink()
    before = state_of(root)
    Feldera(root).publish(staging, root)
    assert seen == [before]


def test_a_damaged_copy_of_the_checkpoint_is_mended(
    primary: Engine, sample: Sample, work: Path, tmp_path: Path, digests: Digests
) -> None:
    root = tmp_path / "fresh"
    publish(sample, work, root, digests)
    damaged = root / sample.engine.id / "z1-0-0000.dat"
    damaged.write_bytes(b"rotten")
    (root / sample.engine.id / "extra").touch()

    publish(sample, work, root, digests)

    require_published(sample, primary.written[sample.engine.id], root)
    (kept,) = (work / "quarantine").iterdir()
    assert (kept / sample.engine.id / "z1-0-0000.dat").read_bytes() == b"rotten"


def test_where_directories_cannot_be_exchanged_a_damaged_copy_is_mended_too(
    primary: Engine,
    sample: Sample,
    work: Path,
    tmp_path: Path,
    digests: Digests,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = tmp_path / "fresh"
    publish(sample, work, root, digests)
    (root / sample.engine.id / "CHECKPOINT").unlink()
    monkeypatch.setattr(disk, "exchange", lambda _one, _other: False)

    publish(sample, work, root, digests)

    require_published(sample, primary.written[sample.engine.id], root)


def test_a_running_engine_is_never_published_over(
    sample: Sample, work: Path, root: Path, digests: Digests
) -> None:
    command = [*ENGINE, str(root), "--count", "0", "--hold"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT
    ) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["started\n", "done\n"]
        before = state_of(root)

        with pytest.raises(EngineRunning, match=f"held by process {process.pid}") as raised:
            publish(sample, work, root, digests)

        assert raised.value.hint is not None
        assert state_of(root) == before
        process.communicate("stop\n")


def test_no_engine_can_start_while_it_publishes(
    sample: Sample, work: Path, root: Path, digests: Digests, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [*ENGINE, str(root), "--count", "0"]
    errors: list[str] = []
    real = disk.rename_over

    def while_publishing(aside: Path, target: Path) -> None:
        layout = Feldera(root)
        assert layout.engine_running() is True, "asking does not drop the lock either"
        started = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT)
        errors.append(started.stderr)
        real(aside, target)

    monkeypatch.setattr(disk, "rename_over", while_publishing)
    publish(sample, work, root, digests)

    assert len(errors) == 3
    assert all("StorageLocked" in error for error in errors)
    assert Feldera(root).engine_running() is False


@pytest.mark.parametrize(
    "path",
    [
        "state.json",
        "checkpoints.feldera",
        "activated.feldera",
        "feldera.pidlock",
        "other/x.feldera",
        "../x.feldera",
        "/etc/x.feldera",
        "w0//x.feldera",
    ],
)
def test_a_manifest_cannot_put_a_file_where_none_belongs(
    sample: Sample, work: Path, root: Path, digests: Digests, path: str
) -> None:
    staging = sample.pull(work, root, digests)
    before = state_of(root)
    sample.files.append(replace(sample.files[0], path=path))

    with pytest.raises(IntegrityError, match="manifest"):
        Feldera(root).publish(staging, root)

    assert state_of(root) == before


@pytest.mark.parametrize("directory", ["void", "other/void", "..", "/etc"])
def test_a_manifest_cannot_make_a_directory_outside_the_checkpoint(
    sample: Sample, work: Path, root: Path, digests: Digests, directory: str
) -> None:
    sample.directories = (directory,)
    staging = sample.pull(work, root, digests)
    before = state_of(root)

    with pytest.raises(IntegrityError, match="manifest"):
        Feldera(root).publish(staging, root)

    assert state_of(root) == before


@pytest.mark.parametrize(
    ("id", "metadata"),
    [
        ("..", '{"uuid":"01a1f82d-0458-7000-8d5d-1276e2f183ce","fingerprint":1}'),
        ("01a1f82d-0458-7000-8d5d-1276e2f183ce", None),
        ("01a1f82d-0458-7000-8d5d-1276e2f183ce", "{"),
        ("01a1f82d-0458-7000-8d5d-1276e2f183ce", "{}],[{}"),
        ("01a1f82d-0458-7000-8d5d-1276e2f183ce", '{"uuid":"\ud800","fingerprint":1}'),
        (
            "01a1f82d-0458-7000-8d5d-1276e2f183ce",
            '{"uuid":"01a1f82d-0458-7000-8d5d-1276e2f183cf","fingerprint":1}',
        ),
    ],
)
def test_a_manifest_that_does_not_describe_the_checkpoint_is_refused(
    sample: Sample, work: Path, root: Path, digests: Digests, id: str, metadata: str | None
) -> None:
    sample.engine = replace(sample.engine, id=id, metadata=metadata)
    before = state_of(root)

    with pytest.raises(IntegrityError, match=r"checkpoint|manifest"):
        publish(sample, work, root, digests)

    assert state_of(root) == before


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("CHECKPOINT", "lacks CHECKPOINT"),
        ("state.json", r"lacks state\.json"),
        ("pspine-0-0000.integral.dat", "which its manifest does not name"),
        ("z1-0-0000.dat", "which its manifest does not name"),
        ("batch", "which its manifest does not name"),
    ],
)
def test_a_manifest_without_what_the_engine_needs_is_refused_before_anything_changed(
    sample: Sample, work: Path, root: Path, digests: Digests, lost: str, said: str
) -> None:
    batch = next(file.path for file in sample.files if "/" not in file.path)
    path = batch if lost == "batch" else f"{sample.engine.id}/{lost}"
    sample.files = [file for file in sample.files if file.path != path]
    before = state_of(root)

    with pytest.raises(IntegrityError, match=said) as raised:
        publish(sample, work, root, digests)

    assert state_of(root) == before
    assert raised.value.hint == "pull another one with --checkpoint ID"


def without_dependencies(sample: Sample) -> None:
    sample.files = [file for file in sample.files if not file.path.endswith("/dependencies.json")]


def test_a_checkpoint_of_an_older_engine_is_known_by_what_its_traces_name(
    primary: Engine, sample: Sample, work: Path, root: Path, digests: Digests
) -> None:
    without_dependencies(sample)
    batch = next(file for file in sample.files if "/" not in file.path)
    sample.files.remove(batch)
    with pytest.raises(IntegrityError, match=f"needs {batch.path}"):
        publish(sample, work, root, digests)

    sample.files.append(batch)
    publish(sample, work, root, digests)

    assert {path.name for path in root.glob("w*.feldera")} == {
        name for name in primary.written[sample.engine.id] if "/" not in name
    }


def test_batches_that_nothing_names_are_refused(sample: Sample, root: Path) -> None:
    without_dependencies(sample)
    files = [file for file in sample.files if "pspine-batches" not in file.path]

    with pytest.raises(IntegrityError, match="no file that says which are needed"):
        Feldera(root).require_restorable(sample.engine, files, ())


@pytest.mark.parametrize("content", [b"", b"{", b'{"batches":["../x"]}', b'{"batches":7}'])
def test_damaged_dependencies_are_refused_before_anything_changed(
    sample: Sample, work: Path, root: Path, digests: Digests, content: bytes
) -> None:
    path = f"{sample.engine.id}/dependencies.json"
    number = next(at for at, file in enumerate(sample.files) if file.path == path)
    sample.files[number] = replace(
        sample.files[number], size=len(content), digest=digest_of(content).digest
    )
    sample.data[path] = content
    before = state_of(root)

    with pytest.raises(IntegrityError, match=r"dependencies\.json is not as the engine writes it"):
        publish(sample, work, root, digests)

    assert state_of(root) == before


def test_whatever_is_pinned_may_be_restored(primary: Engine) -> None:
    layout = Feldera(primary.root)
    (primary.root / newest(layout).engine.id / "void").mkdir()
    for checkpoint in layout.checkpoints():
        sample = Sample(layout, checkpoint)
        layout.require_restorable(sample.engine, sample.files, sample.directories)


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_restored_directories_can_be_written_by_their_owner_alone(
    sample: Sample, work: Path, tmp_path: Path, digests: Digests, umask: int
) -> None:
    root = tmp_path / "fresh"
    before = os.umask(umask)
    try:
        publish(sample, work, root, digests)
    finally:
        os.umask(before)

    modes = {path.stat().st_mode & 0o777 for path in (root, root / sample.engine.id)}
    assert modes == {0o755 & ~umask}


Scenario = Callable[[Path, Sample], None]


def fresh(_root: Path, _sample: Sample) -> None:
    pass


def an_earlier_life(root: Path, _sample: Sample) -> None:
    with Engine(root, seed=2, sizes=SMALL) as engine:
        engine.run(3)


def the_same_but_damaged(root: Path, sample: Sample) -> None:
    an_earlier_life(root, sample)
    (root / sample.engine.id).mkdir()
    (root / sample.engine.id / "CHECKPOINT").write_text("not empty")


@pytest.mark.parametrize("scenario", [fresh, an_earlier_life, the_same_but_damaged])
def test_a_crash_at_any_step_leaves_the_old_checkpoint_or_the_new_one(
    primary: Engine, sample: Sample, tmp_path: Path, digests: Digests, scenario: Scenario
) -> None:
    written = primary.written[sample.engine.id]
    template = tmp_path / "template"
    template.mkdir()
    scenario(template, sample)
    old = resume(template)
    old_contents = {} if old is None else contents(template, old.uuid)
    seen: set[str | None] = set()
    change, killed = 0, True
    while killed:
        root, work = tmp_path / f"root-{change}", tmp_path / f"work-{change}"
        shutil.copytree(template, root)
        staging = sample.pull(work, root, digests)

        killed = killed_at(change, partial(Feldera(root).publish, staging, root))

        if catalog_may_be_read(root):
            found = resume(root)
            seen.add(uuid_of(found))
            if found is not None and found.uuid == sample.engine.id:
                assert found.journal == (), "the journal of another checkpoint"
                assert contents(root, found.uuid) == written
            else:
                assert uuid_of(found) == uuid_of(old)
                require_engine_keeps(root, tmp_path / "started", found, old_contents)
        publish(sample, work, root, digests)
        require_published(sample, written, root)
        require_nothing_lost(template, root, work)
        shutil.rmtree(root)
        shutil.rmtree(work)
        change += 1

    assert change > 20
    assert seen == {uuid_of(old), sample.engine.id}


def catalog_may_be_read(root: Path) -> bool:
    """In a fresh root a folder comes before the catalog: there an engine refuses to start."""
    return (root / "checkpoints.feldera").exists() or not list(root.glob("*-*-*-*-*/"))


def require_engine_keeps(
    root: Path, copy: Path, found: Resumed | None, old_contents: dict[str, str]
) -> None:
    """What an engine deletes as it starts is not what it resumes from."""
    shutil.copytree(root, copy)
    with Engine(copy, seed=9, sizes=SMALL):
        assert uuid_of(resume(copy)) == uuid_of(found)
        if found is not None:
            assert contents(copy, found.uuid) == old_contents
    shutil.rmtree(copy)


def require_nothing_lost(template: Path, root: Path, work: Path) -> None:
    everywhere = {
        path.read_bytes() for path in [*root.rglob("*"), *work.rglob("*")] if is_file(path)
    }
    for path in template.rglob("*"):
        if is_file(path):
            assert path.read_bytes() in everywhere, f"{path.name} is lost"


def is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def test_a_disk_that_fills_up_at_any_write_leaves_the_old_checkpoint_with_its_journal(
    primary: Engine, sample: Sample, root: Path, tmp_path: Path, digests: Digests
) -> None:
    old = resume(root)
    assert old is not None
    assert old.journal != ()
    failures = 0
    for number in itertools.count():
        here, work = tmp_path / f"root-{number}", tmp_path / f"work-{number}"
        shutil.copytree(root, here)
        staging = sample.pull(work, here, digests)
        with disk_full_after(number), suppress(LocalDiskFull):
            Feldera(here).publish(staging, here)
            break
        failures += 1
        found = resume(here)
        assert found is not None
        if found.uuid == sample.engine.id:
            assert found.journal == ()
        else:
            assert found == old
    require_published(sample, primary.written[sample.engine.id], here)
    assert failures > 5


@contextmanager
def disk_full_after(writes: int) -> Iterator[None]:
    """Whatever takes space fails from this write on."""
    left = writes

    def limited(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            if left == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            left -= 1
            return real(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("pwrite", "copy_file_range", "mkdir"):
            patch.setattr(os, name, limited(getattr(os, name)))
        yield


def test_the_catalog_is_json_that_the_engine_reads(
    sample: Sample, work: Path, root: Path, digests: Digests
) -> None:
    publish(sample, work, root, digests)

    assert sample.engine.metadata is not None
    listed = json.loads((root / "checkpoints.feldera").read_bytes())
    assert listed == [json.loads(sample.engine.metadata)]
    assert (root / "checkpoints.feldera").stat().st_mode & 0o777 == 0o644
