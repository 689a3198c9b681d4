import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptsync.errors import EngineRunning, IntegrityError, SourceError, Vanished
from ckptsync.model import Engine
from ckptsync.sources.candidates import Candidate, complete, rivals
from ckptsync.sources.digests import Digests
from ckptsync.sources.directory import Directory
from tests.sources.crashing import killed_at
from tests.sources.samples import Sample, make_digests, newest, read

NOW = datetime(2025, 1, 1, 12, tzinfo=UTC)
NOW_NS = int(NOW.timestamp()) * 10**9
SECOND = 10**9
QUIET = timedelta(seconds=30)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.fixture
def digests(tmp_path: Path) -> Digests:
    return make_digests(tmp_path)


def write(
    root: Path, name: str, *, age: float = 3600, files: dict[str, bytes] | None = None
) -> None:
    files = {"model.bin": name.encode()} if files is None else files
    (root / name).mkdir()
    for path, data in files.items():
        (root / name / path).parent.mkdir(parents=True, exist_ok=True)
        (root / name / path).write_bytes(data)
    at = NOW_NS - int(age * SECOND)
    for changed in [*(root / name).rglob("*"), root / name]:
        os.utime(changed, ns=(at, at))


def ids(root: Path, **options: str | timedelta) -> list[str]:
    layout = Directory(root, now=lambda: NOW, **options)  # type: ignore[arg-type] # by keyword
    return [checkpoint.engine.id for checkpoint in layout.checkpoints()]


def test_an_empty_root_has_no_checkpoints(root: Path) -> None:
    assert ids(root) == []


def test_checkpoints_are_sorted_by_the_number_in_their_name(root: Path) -> None:
    for name in ("checkpoint-1000", "checkpoint-200", "checkpoint-30"):
        write(root, name)

    assert ids(root) == ["checkpoint-30", "checkpoint-200", "checkpoint-1000"]


def test_names_without_a_number_are_sorted_by_time(root: Path) -> None:
    for age, name in [(100, "best"), (200, "alpha"), (150, "zeta")]:
        write(root, name, age=age)

    assert ids(root) == ["alpha", "zeta", "best"]


def test_what_the_layout_says_of_a_checkpoint(root: Path) -> None:
    write(root, "checkpoint-7", age=60)

    checkpoint = newest(Directory(root, now=lambda: NOW))

    assert (checkpoint.engine.layout, checkpoint.engine.id) == ("directory", "checkpoint-7")
    assert (checkpoint.engine.step, checkpoint.engine.lineage) == (7, None)
    assert checkpoint.at == NOW - timedelta(seconds=60)


@pytest.mark.parametrize(
    "name", ["checkpoint-3.tmp", "tmp-checkpoint-3", "3.orbax-checkpoint-tmp-1700000000"]
)
def test_a_temporary_name_is_not_a_checkpoint(root: Path, name: str) -> None:
    write(root, "checkpoint-2")
    write(root, name)

    assert ids(root) == ["checkpoint-2"]


@pytest.mark.parametrize("marker", ["_SUCCESS", "commit_success.txt"])
def test_where_one_directory_has_a_marker_all_need_one(root: Path, marker: str) -> None:
    write(root, "checkpoint-1", files={"a": b"1", marker: b""})
    write(root, "checkpoint-2")

    assert ids(root) == ["checkpoint-1"]


def test_a_marker_makes_waiting_needless(root: Path) -> None:
    write(root, "checkpoint-1", age=0, files={"a": b"1", "_SUCCESS": b""})

    assert ids(root) == ["checkpoint-1"]


def test_a_marker_of_ones_own_is_required_from_the_first(root: Path) -> None:
    write(root, "checkpoint-1", files={"a": b"1", "_SUCCESS": b""})
    assert ids(root, marker="DONE") == []

    write(root, "checkpoint-2", age=0, files={"a": b"1", "DONE": b""})
    assert ids(root, marker="DONE") == ["checkpoint-2"]


def test_a_marker_deeper_inside_does_not_count(root: Path) -> None:
    write(root, "checkpoint-1", files={"inner/DONE": b""})

    assert ids(root, marker="DONE") == []


@pytest.mark.parametrize("path", ["model.bin", "inner/deep", "inner"])
def test_a_change_anywhere_inside_ends_the_quiet(root: Path, path: str) -> None:
    write(root, "checkpoint-1", files={"model.bin": b"1", "inner/deep": b"2"})
    at = NOW_NS - 29 * SECOND
    os.utime(root / "checkpoint-1" / path, ns=(at, at))

    assert ids(root) == []
    assert ids(root, quiet=timedelta(seconds=20)) == ["checkpoint-1"]


def test_a_marked_checkpoint_that_is_being_deleted_is_not_complete(root: Path) -> None:
    write(root, "checkpoint-1", files={"a": b"1", "b": b"2", "_SUCCESS": b""})
    (root / "checkpoint-1" / "a").unlink()
    now = NOW_NS - SECOND
    os.utime(root / "checkpoint-1", ns=(now, now))

    assert ids(root) == []


def test_hidden_directories_links_and_lost_and_found_are_not_ours(root: Path) -> None:
    write(root, "checkpoint-1")
    write(root, ".cache")
    write(root, "lost+found")
    (root / "latest").symlink_to("checkpoint-1")
    (root / "log.txt").touch()

    assert ids(root) == ["checkpoint-1"]


def test_a_checkpoint_taken_for_the_root_is_explained(root: Path) -> None:
    write(root, "checkpoint-1")

    with pytest.raises(SourceError, match=r"holds files, such as model\.bin") as raised:
        ids(root / "checkpoint-1")
    assert raised.value.hint is not None
    assert "storage_path" in raised.value.hint


def test_a_missing_root_is_an_error(root: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        ids(root / "typo")


def test_every_file_of_the_directory_is_pinned(root: Path) -> None:
    write(root, "checkpoint-1", files={"größe": b"1", "a b/c": b"2", "none": b""})
    (root / "checkpoint-1" / "void").mkdir()
    layout = Directory(root, quiet=timedelta(0))

    with layout.pin(newest(layout)) as pinned:
        assert {file.path: read(pinned, file) for file in pinned.files} == {
            "checkpoint-1/a b/c": b"2",
            "checkpoint-1/größe": b"1",
            "checkpoint-1/none": b"",
        }
        assert pinned.directories == ["checkpoint-1/void"]
        assert not any(file.shared for file in pinned.files)


def test_an_empty_checkpoint_is_a_directory(root: Path) -> None:
    write(root, "checkpoint-1", files={})
    layout = Directory(root, now=lambda: NOW)

    with layout.pin(newest(layout)) as pinned:
        assert (len(pinned.files), pinned.directories) == (0, ["checkpoint-1"])


def test_hard_links_of_a_database_are_shared_and_cached_whatever_links_come_and_go(
    root: Path,
) -> None:
    write(root, "checkpoint-1", files={"1.sst": b"1", "MANIFEST": b"2"})
    os.link(root / "checkpoint-1" / "1.sst", root.parent / "1.sst")
    layout = Directory(root, now=lambda: NOW)

    def key() -> bytes | None:
        with layout.pin(newest(layout)) as pinned:
            assert [file.shared for file in pinned.files] == [True, False]
            return pinned.stat_key(pinned.files[0])

    before = key()
    os.link(root.parent / "1.sst", root.parent / "another")
    assert key() == before is not None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: (path / "inner" / "b").unlink(),
        lambda path: (path / "c").touch(),
        lambda path: (path / "a").write_bytes(b"changed"),
        shutil.rmtree,
    ],
)
def test_a_checkpoint_that_changed_since_it_was_listed_has_vanished(
    root: Path, spoil: Callable[[Path], object]
) -> None:
    write(root, "checkpoint-1", files={"a": b"1", "inner/b": b"2"})
    layout = Directory(root, now=lambda: NOW)
    checkpoint = newest(layout)

    spoil(root / "checkpoint-1")

    with pytest.raises(Vanished):
        layout.pin(checkpoint)


def test_whether_the_engine_runs_is_asked_of_the_hook(root: Path) -> None:
    assert Directory(root).engine_running() is None
    assert Directory(root, engine_running=lambda: True).engine_running() is True
    assert Directory(root, engine_running=lambda: False).engine_running() is False


def a_sample(tmp_path: Path, files: dict[str, bytes]) -> Sample:
    source = tmp_path / "source"
    source.mkdir()
    write(source, "checkpoint-5", files=files)
    (source / "checkpoint-5" / "void").mkdir()
    layout = Directory(source, quiet=timedelta(0))
    return Sample(layout, newest(layout))


def tree(directory: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() if path.is_file() else None
        for path in directory.rglob("*")
    }


PUBLISHED = {"a": b"1", "inner": None, "inner/b": b"2", "inner/twin": b"2", "void": None}
FILES = {path: data for path, data in PUBLISHED.items() if data is not None}


def publish(sample: Sample, work: Path, root: Path, digests: Digests) -> None:
    sample.publish(Directory(root), work, root, digests)


def test_a_checkpoint_is_put_beside_the_others(
    root: Path, tmp_path: Path, digests: Digests
) -> None:
    sample = a_sample(tmp_path, FILES)
    write(root, "checkpoint-4")

    publish(sample, tmp_path / "work", root, digests)

    assert tree(root / "checkpoint-5") == PUBLISHED
    assert ids(root) == ["checkpoint-4", "checkpoint-5"], "needs no quiet time"
    assert not (tmp_path / "work").exists()


def test_what_is_newer_goes_to_quarantine_or_the_engine_would_resume_from_it(
    root: Path, tmp_path: Path, digests: Digests
) -> None:
    sample = a_sample(tmp_path, FILES)
    write(root, "checkpoint-4")
    write(root, "checkpoint-6")
    newer = tree(root / "checkpoint-6")

    publish(sample, tmp_path / "work", root, digests)

    assert ids(root) == ["checkpoint-4", "checkpoint-5"]
    (kept,) = (tmp_path / "work" / "quarantine").iterdir()
    assert tree(kept / "checkpoint-6") == newer


def test_newer_ones_that_have_a_marker_make_way_for_one_without(
    root: Path, tmp_path: Path, digests: Digests
) -> None:
    sample = a_sample(tmp_path, FILES)
    write(root, "checkpoint-4")
    write(root, "checkpoint-6", files={"a": b"6", "_SUCCESS": b""})
    write(root, "checkpoint-7", files={"a": b"7", "_SUCCESS": b""})

    publish(sample, tmp_path / "work", root, digests)

    assert ids(root) == ["checkpoint-4", "checkpoint-5"]
    (kept,) = (tmp_path / "work" / "quarantine").iterdir()
    assert ids(kept) == ["checkpoint-6", "checkpoint-7"]


def test_what_no_marker_hides_any_more_makes_way_too(
    root: Path, tmp_path: Path, digests: Digests
) -> None:
    sample = a_sample(tmp_path, FILES)
    write(root, "checkpoint-6", files={"a": b"6", "_SUCCESS": b""})
    write(root, "checkpoint-7", files={"a": b"half written"})

    publish(sample, tmp_path / "work", root, digests)

    assert ids(root) == ["checkpoint-5"]


def test_what_has_no_marker_stays_where_one_with_a_marker_is_published(
    root: Path, tmp_path: Path, digests: Digests
) -> None:
    sample = a_sample(tmp_path, {**FILES, "_SUCCESS": b""})
    write(root, "tensorboard")
    write(root, "checkpoint-6", files={"a": b"6", "_SUCCESS": b""})

    publish(sample, tmp_path / "work", root, digests)

    assert ids(root) == ["checkpoint-5"]
    assert (root / "tensorboard").exists()


def test_a_checkpoint_written_again_under_its_name_has_another_fingerprint(root: Path) -> None:
    layout = Directory(root, quiet=timedelta(0))
    write(root, "checkpoint-5")
    before = newest(layout).engine
    shutil.rmtree(root / "checkpoint-5")
    write(root, "checkpoint-5", age=60)

    after = newest(layout).engine

    assert (before.id, before.step) == (after.id, after.step)
    assert before.fingerprint != after.fingerprint


def test_a_restored_checkpoint_has_the_fingerprint_it_was_pushed_with(
    root: Path, tmp_path: Path, digests: Digests
) -> None:
    sample = a_sample(tmp_path, FILES)

    publish(sample, tmp_path / "work", root, digests)

    assert newest(Directory(root, quiet=timedelta(0))).engine == sample.engine


def test_an_identical_checkpoint_is_left_alone(
    root: Path, tmp_path: Path, digests: Digests
) -> None:
    sample = a_sample(tmp_path, FILES)
    publish(sample, tmp_path / "work", root, digests)
    before = (root / "checkpoint-5").stat().st_ino

    publish(sample, tmp_path / "work", root, digests)

    assert (root / "checkpoint-5").stat().st_ino == before


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: (path / "a").write_bytes(b"x"),
        lambda path: (path / "extra").touch(),
        lambda path: (path / "inner" / "b").unlink(),
        lambda path: (path / "void").rmdir(),
        lambda path: (path / "void" / "more").mkdir(),
        lambda path: (path / "link").symlink_to("inner"),
        lambda path: (path / "a").chmod(0o600),
    ],
)
def test_another_checkpoint_of_that_name_goes_to_quarantine(
    root: Path, tmp_path: Path, digests: Digests, spoil: Callable[[Path], object]
) -> None:
    sample = a_sample(tmp_path, FILES)
    publish(sample, tmp_path / "work", root, digests)
    spoil(root / "checkpoint-5")
    spoilt = tree(root / "checkpoint-5")

    publish(sample, tmp_path / "work", root, digests)

    assert tree(root / "checkpoint-5") == PUBLISHED
    if spoilt != PUBLISHED:
        (kept,) = (tmp_path / "work" / "quarantine").iterdir()
        assert tree(kept / "checkpoint-5") == spoilt


def test_a_running_engine_is_never_published_over(
    root: Path, tmp_path: Path, digests: Digests
) -> None:
    staging = a_sample(tmp_path, FILES).pull(tmp_path / "work", root, digests)

    with pytest.raises(EngineRunning, match="hook engine_running"):
        Directory(root, engine_running=lambda: True).publish(staging, root)

    assert list(root.iterdir()) == []


def test_it_says_that_it_begins_before_anything_changed(
    root: Path, tmp_path: Path, digests: Digests
) -> None:
    write(root, "checkpoint-5")
    write(root, "checkpoint-6")
    before, seen = tree(root), list[object]()
    staging = a_sample(tmp_path, FILES).pull(
        tmp_path / "work", root, digests, on_begin=lambda: seen.append(tree(root))
    )

    with pytest.raises(EngineRunning):
        Directory(root, engine_running=lambda: True).publish(staging, root)
    assert seen == []

    Directory(root).publish(staging, root)
    assert seen == [before]


@pytest.mark.parametrize("path", ["../x", "checkpoint-5/../../x", "other/x", "/etc/x", "x"])
def test_a_manifest_cannot_lead_out_of_the_checkpoint(
    root: Path, tmp_path: Path, digests: Digests, path: str
) -> None:
    sample = a_sample(tmp_path, FILES)
    staging = sample.pull(tmp_path / "work", root, digests)
    sample.files.append(replace(sample.files[0], path=path))

    with pytest.raises(IntegrityError, match="manifest"):
        Directory(root).publish(staging, root)


@pytest.mark.parametrize("id", ["", ".", "..", "a/b", "/"])
def test_a_manifest_cannot_name_a_checkpoint_that_leads_elsewhere(
    root: Path, tmp_path: Path, digests: Digests, id: str
) -> None:
    sample = a_sample(tmp_path, FILES)
    sample.engine = replace(sample.engine, id=id)
    staging = sample.pull(tmp_path / "work", root, digests)

    with pytest.raises(IntegrityError, match="cannot name a directory"):
        Directory(root).publish(staging, root)


@pytest.mark.parametrize(
    "id", [".hidden", "lost+found", "ckpt.tmp", "tmp-1", "a.orbax-checkpoint-tmp-3"]
)
def test_a_manifest_cannot_name_a_checkpoint_that_no_trainer_resumes_from(
    root: Path, id: str
) -> None:
    with pytest.raises(IntegrityError, match="no trainer resumes from") as raised:
        Directory(root).require_restorable(Engine(layout="directory", id=id, step=1), [], (id,))

    assert raised.value.hint is not None
    assert "--checkpoint" in raised.value.hint


def test_a_manifest_that_holds_nothing_is_refused(root: Path) -> None:
    layout, engine = Directory(root), Engine(layout="directory", id="ckpt-1", step=1)
    with pytest.raises(IntegrityError, match="names nothing"):
        layout.require_restorable(engine, [], ())

    layout.require_restorable(engine, [], ("ckpt-1",))


@given(
    names=st.lists(st.sampled_from([".x", "lost+found", "a.tmp", "a", "checkpoint-1"]), unique=True)
)
def test_what_is_pushed_may_be_restored_and_what_is_never_listed_may_not(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        layout = Directory(Path(directory), quiet=timedelta(0))
        for name in names:
            (Path(directory) / name).mkdir()
        listed = {checkpoint.engine.id for checkpoint in layout.checkpoints()}
    for name in names:
        engine = Engine(layout="directory", id=name, step=1)
        with nullcontext() if name in listed else pytest.raises(IntegrityError):
            layout.require_restorable(engine, [], (name,))


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_restored_directories_can_be_written_by_their_owner_alone(
    root: Path, tmp_path: Path, digests: Digests, umask: int
) -> None:
    sample = a_sample(tmp_path, FILES)
    root.rmdir()
    before = os.umask(umask)
    try:
        publish(sample, tmp_path / "work", root, digests)
    finally:
        os.umask(before)

    made = [root, *(path for path in root.rglob("*") if path.is_dir())]
    assert len(made) == 4
    assert {path.stat().st_mode & 0o777 for path in made} == {0o755 & ~umask}


@pytest.mark.parametrize("occupied", [False, True])
def test_a_crash_at_any_step_leaves_the_old_directory_or_the_new_one(
    root: Path, tmp_path: Path, digests: Digests, occupied: bool
) -> None:
    sample = a_sample(tmp_path, FILES)
    old = {"a": b"old", "inner": None, "inner/b": b"2"}
    seen: set[bool] = set()
    change, killed = 0, True
    while killed:
        work, here = tmp_path / f"work-{change}", root / str(change)
        here.mkdir()
        if occupied:
            write(here, "checkpoint-5", files={"a": b"old", "inner/b": b"2"})
        staging = sample.pull(work, here, digests)

        killed = killed_at(change, partial(Directory(here).publish, staging, here))

        found = tree(here / "checkpoint-5")
        assert found in (PUBLISHED, old if occupied else {})
        seen.add(found == PUBLISHED)
        publish(sample, work, here, digests)
        assert tree(here / "checkpoint-5") == PUBLISHED
        if occupied:
            kept = [tree(path) for path in work.glob("quarantine/*/checkpoint-5")]
            assert old in kept
        change += 1

    assert change > 10
    assert seen == {False, True}


@pytest.mark.parametrize(
    "directory", ["other/void", "checkpoint-50", "checkpoint-5/../other", "..", "/", "/etc", ""]
)
def test_a_manifest_cannot_make_a_directory_outside_the_checkpoint(
    root: Path, tmp_path: Path, digests: Digests, directory: str
) -> None:
    sample = a_sample(tmp_path, FILES)
    sample.directories = (*sample.directories, directory)
    staging = sample.pull(tmp_path / "work", root, digests)
    root.rmdir()

    with pytest.raises(IntegrityError, match="manifest"):
        Directory(root).publish(staging, root)

    assert not root.exists()


@pytest.mark.parametrize("name", [b"ckpt\\1", b"ckpt-\xff1"])
def test_an_empty_checkpoint_whose_name_no_manifest_can_hold_is_an_error(
    root: Path, name: bytes
) -> None:
    (root / os.fsdecode(name)).mkdir()
    layout = Directory(root, quiet=timedelta(0))

    with pytest.raises(SourceError, match="no manifest can hold it"):
        layout.pin(newest(layout))


def candidate(name: str, *, age: float = 3600, marked: float | None = None) -> Candidate:
    return Candidate(
        name=name,
        changed_ns=NOW_NS - int(age * SECOND),
        written_ns=NOW_NS - int(age * SECOND),
        marked_ns=None if marked is None else NOW_NS - int(marked * SECOND),
    )


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("checkpoint-500", 500),
        ("epoch=1-step=090", 90),
        ("global_step12", 12),
        ("42", 42),
        ("ckpt_20261120_095500", 20261120095500),
        ("2026-11-20T09-55-00", 20261120095500),
        ("2026-11-20", 20261120),
        ("run-20261120-step-7", 7),
        ("20261120095500-final", 20261120095500),
        ("20261345", 20261345),
        ("model", NOW_NS),
        ("01a1f82d-0458-7000-8d5d-1276e2f183ce", NOW_NS),
        ("a94a8fe5ccb19ba61c4c0873d391e987982fbbd3", NOW_NS),
        ("9" * 30, NOW_NS),
    ],
)
def test_the_step_is_the_last_number_of_a_name_or_its_time(name: str, step: int) -> None:
    assert candidate(name, age=0).step == step


@settings(deadline=None)
@given(
    found=st.lists(
        st.builds(
            candidate,
            st.sampled_from(["a-1", "a-2", "b.tmp", "c"]),
            age=st.floats(-100, 100),
            marked=st.none() | st.floats(-100, 100),
        )
    ),
    marker_required=st.booleans(),
)
def test_nothing_that_may_still_change_is_complete(
    found: list[Candidate], marker_required: bool
) -> None:
    chosen = complete(found, marker_required=marker_required, quiet=QUIET, now=NOW)

    assert [one.step for one in chosen] == sorted(one.step for one in chosen)
    marked = [one for one in found if one.marked_ns is not None and not one.name.endswith(".tmp")]
    for one in chosen:
        assert not one.name.endswith(".tmp")
        if one.marked_ns is None:
            assert NOW - one.at >= QUIET
            assert not marked
            assert not marker_required
        else:
            assert NOW - one.at >= QUIET or one.changed_ns <= one.marked_ns + 2 * SECOND


@settings(deadline=None)
@given(
    found=st.lists(
        st.builds(
            candidate,
            st.sampled_from(["a-1", "a-2", "a-3", "b.tmp", "c", "d"]),
            age=st.floats(-100, 100),
            marked=st.none() | st.floats(-100, 100),
        ),
        min_size=1,
        unique_by=lambda one: one.name,
    ),
    marker_required=st.booleans(),
)
def test_without_those_in_its_place_it_is_the_newest_or_lacks_a_marker(
    found: list[Candidate], marker_required: bool
) -> None:
    wanted = found[0]

    others = rivals(wanted, found[1:], marker_required=marker_required)

    assert wanted not in others
    assert len(set(others)) == len(others)
    assert all(one.rank >= wanted.rank and not one.name.endswith(".tmp") for one in others)
    rest = [one for one in found if one not in others]
    later = NOW + timedelta(days=1)
    left = complete(rest, marker_required=marker_required, quiet=timedelta(0), now=later)
    if wanted in left:
        assert left[-1] == wanted
    else:
        assert all(one.rank < wanted.rank for one in left)
