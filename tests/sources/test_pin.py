import os
import socket
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ckptsync.errors import PermissionRefused, SourceError, Vanished
from ckptsync.model import Engine, LocalCheckpoint
from ckptsync.sources import opening
from ckptsync.sources.pin import OpenFiles
from ckptsync.sources.rows import UNHELD, Row, Rows
from tests.sources.samples import PROJECT, read

CHECKPOINT = LocalCheckpoint(
    engine=Engine(layout="test", id="c1", step=1), at=datetime(2026, 1, 1, tzinfo=UTC)
)
MOVE_IT = "move it out of the checkpoint: only regular files and directories can be pushed"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root" / "c1"
    (folder / "nested" / "deeper").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "a file").write_bytes(b"one")
    (folder / "größe.bin").write_bytes(b"two")
    (folder / "nothing").touch()
    (folder / "nested" / "deeper" / "x").write_bytes(b"three")
    (tmp_path / "root" / "batch").write_bytes(b"four")
    return tmp_path / "root"


@pytest.fixture
def few_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "RESERVE", 10**9)


def pin(root: Path, **options: bool) -> OpenFiles:
    return OpenFiles(
        root, CHECKPOINT, tree="c1", loose=["batch"], immutable=options.get("immutable", False)
    )


def descriptors() -> int:
    """How many this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def contents(pinned: OpenFiles) -> dict[str, bytes]:
    return {file.path: read(pinned, file) for file in pinned.files}


EXPECTED = {
    "batch": b"four",
    "c1/a file": b"one",
    "c1/größe.bin": b"two",
    "c1/nested/deeper/x": b"three",
    "c1/nothing": b"",
}


def test_every_file_is_there_sorted_by_path(root: Path) -> None:
    with pin(root) as pinned:
        assert contents(pinned) == EXPECTED
        assert [file.path for file in pinned.files] == sorted(EXPECTED)
        assert [file.number for file in pinned.files] == list(range(5))
        assert pinned.files[3] == list(pinned.files)[3]
        assert pinned.directories == ["c1/empty"]
        pinned.confirm()


def test_numbers_beyond_the_files_are_refused(root: Path) -> None:
    with pin(root) as pinned, pytest.raises(IndexError):
        pinned.files[5]


def test_only_loose_and_hard_linked_files_are_shared(root: Path) -> None:
    os.link(root / "c1" / "a file", root / "link")

    with pin(root) as pinned:
        assert [file.path for file in pinned.files if file.shared] == ["batch", "c1/a file"]


def test_what_the_engine_deletes_can_still_be_read(root: Path) -> None:
    with pin(root) as pinned:
        for path in EXPECTED:
            (root / path).unlink()

        assert contents(pinned) == EXPECTED
        pinned.confirm()


@pytest.mark.usefixtures("few_descriptors")
def test_without_descriptors_to_spare_files_are_opened_as_they_are_read(root: Path) -> None:
    before = descriptors()
    with pin(root) as pinned:
        assert descriptors() == before + 1, "the root alone"
        assert contents(pinned) == EXPECTED
        pinned.confirm()


@pytest.mark.usefixtures("few_descriptors")
def test_without_descriptors_to_spare_a_deleted_file_is_noticed(root: Path) -> None:
    with pin(root) as pinned:
        (root / "c1" / "a file").unlink()

        with pytest.raises(Vanished, match="a file"):
            read(pinned, pinned.files[1])
        with pytest.raises(Vanished, match="a file"):
            pinned.confirm()


@pytest.mark.usefixtures("few_descriptors")
def test_without_descriptors_to_spare_a_replaced_file_is_noticed(root: Path) -> None:
    with pin(root) as pinned:
        (root / "new").write_bytes(b"eno")
        (root / "new").rename(root / "c1" / "a file")

        with pytest.raises(Vanished, match="changed after"):
            read(pinned, pinned.files[1])


@pytest.mark.parametrize("data", [b"eno", b"longer", b""])
def test_a_file_changed_in_place_is_noticed(root: Path, data: bytes) -> None:
    with pin(root) as pinned:
        (root / "c1" / "a file").write_bytes(data)

        with pytest.raises(Vanished, match="a file changed after it was opened"):
            pinned.confirm()


def test_a_file_that_became_shorter_is_noticed_while_reading(root: Path) -> None:
    with pin(root) as pinned:
        os.truncate(root / "c1" / "a file", 1)

        with pytest.raises(Vanished, match="ends at byte 1; it had 3"):
            read(pinned, pinned.files[1])


def test_a_missing_file_is_never_skipped(root: Path) -> None:
    (root / "batch").unlink()

    with pytest.raises(Vanished, match="batch"):
        pin(root)


def test_a_failed_pin_leaves_no_descriptor_open(root: Path) -> None:
    before = descriptors()
    (root / "c1" / "z").symlink_to("a file")

    with pytest.raises(SourceError):
        pin(root)

    assert descriptors() == before


def test_closing_gives_every_descriptor_back(root: Path) -> None:
    before = descriptors()

    with pin(root) as pinned:
        assert descriptors() == before + 6
    pinned.close()

    assert descriptors() == before


@pytest.fixture
def odd(request: pytest.FixtureRequest, root: Path) -> Iterator[Path]:
    path = root / "c1" / "odd"
    if request.param == "symlink":
        path.symlink_to("/etc/passwd")
    elif request.param == "directory symlink":
        path.symlink_to("nested")
    elif request.param == "fifo":
        os.mkfifo(path)
    else:
        with socket.socket(socket.AF_UNIX) as listening:
            here = Path.cwd()
            os.chdir(path.parent)  # the address of a socket may be 108 bytes long
            listening.bind("odd")
            os.chdir(here)
            yield path
            return
    yield path


@pytest.mark.parametrize("odd", ["symlink", "directory symlink", "fifo", "socket"], indirect=True)
def test_what_is_no_regular_file_is_refused_by_name(root: Path, odd: Path) -> None:
    with pytest.raises(SourceError, match=f"{odd} is a (symbolic link|special file)") as raised:
        pin(root)

    assert raised.value.hint == MOVE_IT


def test_a_loose_symlink_is_refused(root: Path) -> None:
    (root / "batch").unlink()
    (root / "batch").symlink_to("/etc/passwd")

    with pytest.raises(SourceError, match="batch is a symbolic link") as raised:
        pin(root)

    assert raised.value.hint == MOVE_IT


def test_a_loose_socket_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "batch").unlink()
    monkeypatch.chdir(root)  # the address of a socket may be 108 bytes long
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("batch")

        with pytest.raises(SourceError, match="batch is a special file") as raised:
            pin(root)

    assert raised.value.hint == MOVE_IT


def test_a_checkpoint_that_is_a_symlink_is_refused_and_has_not_vanished(root: Path) -> None:
    (root / "c1").rename(root / "elsewhere")
    (root / "c1").symlink_to("elsewhere")

    with pytest.raises(SourceError, match="c1 is a symbolic link") as raised:
        pin(root)

    assert not isinstance(raised.value, Vanished)


def test_a_loose_fifo_is_refused_and_does_not_block(root: Path) -> None:
    (root / "batch").unlink()
    os.mkfifo(root / "batch")

    with pytest.raises(SourceError, match="batch is not a regular file"):
        pin(root)


def test_a_name_that_is_not_utf8_is_refused(root: Path) -> None:
    Path(os.fsdecode(os.fsencode(root / "c1") + b"/\xff")).touch()

    with pytest.raises(SourceError, match=r"\\xff has a name that is not UTF-8"):
        pin(root)


def test_a_name_that_no_manifest_takes_is_refused(root: Path) -> None:
    (root / "c1" / "a\\b").touch()

    with pytest.raises(SourceError, match="backslash"):
        pin(root)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_file_of_another_user_is_a_refusal_that_names_it() -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        root.chmod(0o755)
        (root / "c1").mkdir()
        (root / "c1" / "secret").touch(mode=0o600)
        os.seteuid(65534)
        try:
            with pytest.raises(PermissionRefused, match="secret cannot be opened"):
                OpenFiles(root, CHECKPOINT, tree="c1", immutable=True)
        finally:
            os.seteuid(0)


def test_many_threads_may_read_at_once(root: Path) -> None:
    data = os.urandom(1 << 20)
    (root / "batch").write_bytes(data)
    wrong: list[int] = []

    with pin(root) as pinned:
        file = pinned.files[0]

        def check(start: int) -> None:
            for at in range(start, len(data) - 1000, 8000):
                piece = bytearray(1000)
                pinned.read_into(file, at, memoryview(piece))
                if piece != data[at : at + 1000]:
                    wrong.append(at)

        threads = [threading.Thread(target=check, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert not wrong


LIMITED = """
import sys, resource
from pathlib import Path
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 300))
from tests.sources.test_pin import contents, descriptors, pin
with pin(Path(sys.argv[1])) as pinned:
    print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], descriptors())
    assert len(contents(pinned)) == 505
    pinned.confirm()
"""


def test_the_soft_limit_is_raised_and_the_hard_one_respected(root: Path) -> None:
    for number in range(500):
        (root / "c1" / f"{number}").write_bytes(b"%d" % number)

    child = subprocess.run(
        [sys.executable, "-c", LIMITED, root],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
    )

    assert child.returncode == 0, child.stderr
    limit, in_use = map(int, child.stdout.split())
    assert limit == 300
    assert 10 < in_use <= 300 - opening.RESERVE + 2


def test_what_is_kept_of_a_file_is_small() -> None:
    row = Row(UNHELD, 0o644, False, 1 << 40, 1_700_000_000_000_000_000, 2, 3, 4)
    paths = [f"c1/{number:06}" for number in range(50_000)]
    rows = Rows()
    tracemalloc.start()
    for path in reversed(paths):
        rows.append(path, row)
    rows.sort()
    used, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert rows.paths == paths
    assert rows[49_999] == row
    assert used < 100 * len(paths)
    assert peak < 250 * len(paths)
