import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptsync.errors import PermissionRefused, SourceError, Vanished
from ckptsync.sources.feldera import Feldera
from ckptsync.sources.feldera_files import parse_catalog
from tests.fakes.feldera_engine import Engine, Resumed, Sizes, contents, read_record, resume
from tests.sources.samples import PROJECT, newest, read, sha256_of

ENGINE = [sys.executable, "-m", "tests.fakes.feldera_engine"]

Edit = Callable[[Path, str], None]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "storage"


@pytest.fixture
def engine(root: Path) -> Iterator[Engine]:
    with Engine(root) as engine:
        yield engine


def ids(layout: Feldera) -> list[str]:
    return [checkpoint.engine.id for checkpoint in layout.checkpoints()]


def test_a_root_without_an_engine_has_no_checkpoints(tmp_path: Path) -> None:
    assert Feldera(tmp_path).checkpoints() == []


def test_the_two_that_the_engine_keeps_are_listed_oldest_first(engine: Engine) -> None:
    written = [engine.checkpoint() for _ in range(5)]

    assert ids(Feldera(engine.root)) == written[-2:]


def test_what_the_engine_says_of_a_checkpoint_is_exact(engine: Engine) -> None:
    id = engine.checkpoint()
    entry = json.loads((engine.root / "checkpoints.feldera").read_bytes())[0]

    found = newest(Feldera(engine.root)).engine

    assert found.metadata is not None
    assert json.loads(found.metadata) == entry
    assert found.fingerprint == entry["fingerprint"] == 0xF1E2_D3C4_B5A6_9788
    assert (found.layout, found.id, found.step) == ("feldera", id, entry["steps"])
    assert (found.records, found.lineage) == (entry["processed_records"], "1760000000")
    assert found.platform_version is None


def test_a_checkpoint_whose_outputs_have_not_drained_is_not_complete(engine: Engine) -> None:
    first = engine.checkpoint()
    second = engine.commit()
    layout = Feldera(engine.root)
    assert ids(layout) == [first]

    engine.complete(second)

    assert ids(layout) == [first, second]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda root, id: (root / id / "state.json").unlink(),
        lambda root, id: (root / id / "CHECKPOINT").unlink(),
        lambda root, id: (root / id / "z1-0-0000.dat").unlink(),
        lambda root, id: next(root.glob("w*.feldera")).unlink(),
        lambda root, id: shutil.rmtree(root / id),
        lambda root, id: (root / "checkpoints.feldera").write_text("[]"),
    ],
    ids=["state.json", "CHECKPOINT", "state file", "batch", "folder", "catalog entry"],
)
def test_a_checkpoint_that_lacks_anything_is_not_complete(engine: Engine, spoil: Edit) -> None:
    id = engine.checkpoint()

    spoil(engine.root, id)

    assert ids(Feldera(engine.root)) == []


def test_every_file_and_nothing_mutable_is_pinned(engine: Engine) -> None:
    id = engine.checkpoint()
    (engine.root / "status.json").write_text("{}")
    (engine.root / id / "state.json.mut").write_text("half")
    (engine.root / "w0-unfinished.feldera.mut").write_text("half")

    with Feldera(engine.root).pin(newest(Feldera(engine.root))) as pinned:
        assert sha256_of(pinned) == engine.written[id]
        shared = {file.path for file in pinned.files if file.shared}
        pinned.confirm()

    assert shared == {name for name in engine.written[id] if "/" not in name}
    assert len(shared) == 6


def test_a_batch_that_two_traces_name_is_pinned_once(engine: Engine) -> None:
    id = engine.checkpoint()
    path = engine.root / id / "dependencies.json"
    needs = json.loads(path.read_bytes())
    path.write_text(json.dumps(needs | {"batches": needs["batches"] * 2}))

    with Feldera(engine.root).pin(newest(Feldera(engine.root))) as pinned:
        assert sorted(set(pinned.paths)) == pinned.paths


def dependencies_v1(root: Path, id: str) -> None:
    path = root / id / "dependencies.json"
    path.write_text(json.dumps(json.loads(path.read_bytes())["batches"]))


def no_dependencies(root: Path, id: str) -> None:
    (root / id / "dependencies.json").unlink()


@pytest.mark.parametrize("make_old", [dependencies_v1, no_dependencies])
def test_the_batches_of_older_engines_checkpoints_are_found(engine: Engine, make_old: Edit) -> None:
    id = engine.checkpoint()
    make_old(engine.root, id)
    layout = Feldera(engine.root)

    with layout.pin(newest(layout)) as pinned:
        shared = {file.path for file in pinned.files if file.shared}
    assert shared == {name for name in engine.written[id] if "/" not in name}

    (engine.root / min(shared)).unlink()
    assert ids(layout) == []


def test_the_step_comes_from_the_state_where_the_catalog_has_none(engine: Engine) -> None:
    id = engine.checkpoint()
    path = engine.root / "checkpoints.feldera"
    path.write_text(json.dumps([{"uuid": id, "fingerprint": 2**64 - 1}]))

    found = newest(Feldera(engine.root)).engine

    state = json.loads((engine.root / id / "state.json").read_bytes())
    assert (found.step, found.records) == (state["step"], state["processed_records"])
    assert found.fingerprint == 2**64 - 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        '[{"uuid"',
        "{}",
        "[1]",
        "\0" * 64,
        "\xff",
        '[{"uuid":"x","fingerprint":1}]',
        '[{"uuid":"01a1f82d-0458-7000-8d5d-1276e2f183ce","fingerprint":18446744073709551616}]',
    ],
)
def test_a_torn_catalog_is_an_error_that_says_where(engine: Engine, text: str) -> None:
    engine.checkpoint()
    (engine.root / "checkpoints.feldera").write_text(text, encoding="latin-1")

    with pytest.raises(SourceError, match=r"checkpoints\.feldera is not as the engine writes it"):
        Feldera(engine.root).checkpoints()


@pytest.mark.parametrize("name", ["dependencies.json", "state.json"])
def test_a_torn_file_of_a_checkpoint_is_an_error_that_says_where(engine: Engine, name: str) -> None:
    id = engine.checkpoint()
    (engine.root / id / name).write_text("{")

    with pytest.raises(SourceError, match=f"{id}/{name} is not as the engine writes it"):
        Feldera(engine.root).checkpoints()


@pytest.mark.parametrize(
    "name", ["../secret.feldera", "checkpoints.feldera", "activated.feldera", "state.json", ""]
)
@pytest.mark.parametrize("listed_in", ["dependencies.json", "pspine-batches-0-0000.integral.dat"])
def test_what_is_no_batch_is_never_pushed_as_one(engine: Engine, name: str, listed_in: str) -> None:
    id = engine.checkpoint()
    (engine.root.parent / "secret.feldera").touch()
    (engine.root / id / "dependencies.json").unlink()
    field = "files" if "pspine" in listed_in else "batches"
    (engine.root / id / listed_in).write_text(json.dumps({field: [name]}))

    with pytest.raises(SourceError, match=f"{listed_in} .* not the name of a batch"):
        Feldera(engine.root).checkpoints()


def test_a_lost_catalog_is_not_an_empty_one(engine: Engine) -> None:
    engine.checkpoint()
    (engine.root / "checkpoints.feldera").unlink()

    with pytest.raises(SourceError, match="is missing, but there are checkpoints"):
        Feldera(engine.root).checkpoints()


def test_a_missing_root_is_an_error_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist") as raised:
        Feldera(tmp_path / "typo").checkpoints()

    assert not isinstance(raised.value, Vanished)
    assert raised.value.hint is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_an_unreadable_root_is_a_refusal(engine: Engine) -> None:
    os.seteuid(65534)
    try:
        with pytest.raises(PermissionRefused):
            Feldera(engine.root).checkpoints()
    finally:
        os.seteuid(0)


def test_reading_writes_nothing_into_the_root(engine: Engine) -> None:
    engine.checkpoint()
    layout = Feldera(engine.root)
    before = {path: path.stat() for path in engine.root.rglob("*")}

    with layout.pin(newest(layout)) as pinned:
        sha256_of(pinned)
    layout.engine_running()

    after = {path: path.stat() for path in engine.root.rglob("*")}
    assert {path: (facts.st_ctime_ns, facts.st_mtime_ns) for path, facts in before.items()} == {
        path: (facts.st_ctime_ns, facts.st_mtime_ns) for path, facts in after.items()
    }


def test_a_checkpoint_collected_before_it_is_pinned_has_vanished(engine: Engine) -> None:
    layout = Feldera(engine.root)
    engine.checkpoint()
    old = newest(layout)
    engine.run(3)

    with pytest.raises(Vanished):
        layout.pin(old)


def test_a_checkpoint_that_is_half_deleted_is_not_pinned(engine: Engine) -> None:
    """The engine had dropped it from the catalog, then unlinked some files of the folder."""
    layout = Feldera(engine.root)
    id = engine.checkpoint()
    checkpoint = newest(layout)
    (engine.root / id / "z1-0-0001.dat").unlink()
    with pytest.raises(Vanished, match=r"z1-0-0001\.dat"):
        layout.pin(checkpoint)

    no_dependencies(engine.root, id)
    (engine.root / "checkpoints.feldera").write_text("[]")
    with pytest.raises(Vanished, match="dropped checkpoint"):
        layout.pin(checkpoint)


def test_everything_may_be_deleted_during_a_long_read(engine: Engine) -> None:
    layout = Feldera(engine.root)
    id = engine.checkpoint()

    with layout.pin(newest(layout)) as pinned:
        first = read(pinned, pinned.files[0])
        engine.run(20)
        assert not (engine.root / id).exists()
        shutil.rmtree(engine.root)

        assert sha256_of(pinned) == engine.written[id]
        assert read(pinned, pinned.files[0]) == first
        pinned.confirm()


def test_an_engine_in_another_process_is_seen(root: Path) -> None:
    layout = Feldera(root)
    command = [*ENGINE, str(root), "--count", "1", "--hold"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        assert process.stdout.readline() == "done\n"
        assert layout.engine_running() is True
        assert layout.engine_running() is True, "asking does not drop the lock"
        process.communicate("stop\n")

    assert layout.engine_running() is False


def test_asking_for_the_engine_never_creates_the_lock(tmp_path: Path) -> None:
    assert Feldera(tmp_path).engine_running() is False
    assert list(tmp_path.iterdir()) == []


def test_every_pinned_checkpoint_is_one_that_was_written(root: Path, tmp_path: Path) -> None:
    """An engine at full speed deletes what is listed, opened and read."""
    record = tmp_path / "record"
    root.mkdir()
    command = [*ENGINE, str(root), "--count", "600"]
    command += ["--batch-bytes", "64", "--record", str(record)]
    layout, checked, vanished = Feldera(root), 0, 0
    seen: dict[str, dict[str, str]] = {}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=PROJECT) as engine:
        while engine.poll() is None:
            for checkpoint in layout.checkpoints():
                try:
                    with layout.pin(checkpoint) as pinned:
                        found = sha256_of(pinned)
                        pinned.confirm()
                except Vanished:
                    vanished += 1
                    continue
                seen[checkpoint.engine.id] = found
                checked += 1
    assert engine.returncode == 0

    written = read_record(record)
    assert len(written) == 600
    for id, found in seen.items():
        assert found == written[id]
    assert len(seen) > 20, f"only {len(seen)} were caught; {checked} read, {vanished} vanished"


def test_the_fake_engine_goes_on_where_it_stopped(root: Path) -> None:
    with Engine(root, sizes=Sizes(merge_at=5)) as first:
        first.run(7)
        first.commit()
    (root / "scratch").mkdir()
    (root / "w0-orphan.feldera").touch()

    with Engine(root, seed=2) as second:
        found = resume(root)
        assert isinstance(found, Resumed)
        assert found.uuid == list(first.written)[-1]
        assert not (root / "scratch").exists()
        assert not (root / "w0-orphan.feldera").exists()
        second.run(3)

    assert contents(root, newest(Feldera(root)).engine.id) == list(second.written.values())[-1]


@settings(deadline=None)
@given(
    entries=st.lists(
        st.fixed_dictionaries(
            {
                "uuid": st.uuids().map(str),
                "fingerprint": st.integers(0, 2**64 - 1),
                "steps": st.none() | st.integers(0, 2**64 - 1),
            },
            optional={"identifier": st.none() | st.text(), "later": st.lists(st.floats())},
        ),
        max_size=4,
    ),
    indent=st.none() | st.integers(0, 3),
)
def test_the_text_of_a_catalog_entry_is_kept(
    entries: list[dict[str, object]], indent: int | None
) -> None:
    document = json.loads(json.dumps(entries).replace("Infinity", "1").replace("NaN", "2"))
    text = json.dumps(document, indent=indent)

    found = parse_catalog(text.encode(), "here")

    assert [json.loads(entry.text) for entry in found] == document
    assert all(entry.text in text for entry in found)
    assert [entry.fingerprint for entry in found] == [entry["fingerprint"] for entry in document]
