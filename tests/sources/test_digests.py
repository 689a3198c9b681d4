import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ckptsync.errors import Cancelled, SourceError, Vanished
from ckptsync.hashing import Hash
from ckptsync.model import Engine, FileDigest, LocalCheckpoint
from ckptsync.sources.base import PinnedFile
from ckptsync.sources.digests import RECHECK_ONE_IN, Digests, one_in_many
from ckptsync.sources.pin import OpenFiles
from ckptsync.state.database import Database
from ckptsync.state.statcache import StatCache
from tests.sources.samples import CHUNK, always, digest_of, make_digests, never, opened

CHECKPOINT = LocalCheckpoint(
    engine=Engine(layout="test", id="c1", step=1), at=datetime(2026, 1, 1, tzinfo=UTC)
)
DIGEST = digest_of(b"content")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "c1").mkdir(parents=True)
    (tmp_path / "root" / "c1" / "file").write_bytes(b"content")
    os.utime(tmp_path / "root" / "c1" / "file", (1_700_000_000, 1_700_000_000))
    return tmp_path / "root"


def pin(root: Path, *, immutable: bool) -> OpenFiles:
    return OpenFiles(root, CHECKPOINT, tree="c1", immutable=immutable)


def learn(root: Path, digests: Digests, *, immutable: bool, digest: FileDigest = DIGEST) -> None:
    with pin(root, immutable=immutable) as pinned:
        digests.remember(pinned, pinned.files[0], digest)
        digests.flush()


def ask(root: Path, digests: Digests, *, immutable: bool) -> FileDigest | None:
    with pin(root, immutable=immutable) as pinned:
        return digests.known(pinned, pinned.files[0])


@pytest.mark.parametrize("immutable", [False, True])
def test_an_unchanged_file_is_known_to_the_next_process(
    root: Path, tmp_path: Path, immutable: bool
) -> None:
    learn(root, make_digests(tmp_path), immutable=immutable)

    assert ask(root, make_digests(tmp_path), immutable=immutable) == DIGEST


def test_a_file_is_not_known_before_it_was_read(root: Path, tmp_path: Path) -> None:
    assert ask(root, make_digests(tmp_path), immutable=True) is None


def test_a_changed_link_count_hides_a_mutable_file_only(root: Path, tmp_path: Path) -> None:
    digests = make_digests(tmp_path)
    learn(root, digests, immutable=False)
    os.link(root / "c1" / "file", root / "link")
    (root / "link").unlink()
    assert ask(root, digests, immutable=False) is None

    learn(root, digests, immutable=True)
    os.link(root / "c1" / "file", root / "link")
    (root / "link").unlink()
    assert ask(root, digests, immutable=True) == DIGEST


@pytest.mark.parametrize("immutable", [False, True])
def test_a_replaced_file_is_not_known(root: Path, tmp_path: Path, immutable: bool) -> None:
    digests = make_digests(tmp_path)
    learn(root, digests, immutable=immutable)

    (root / "new").write_bytes(b"CONTENT")
    os.utime(root / "new", (1_700_000_000, 1_700_000_000))
    (root / "new").rename(root / "c1" / "file")

    assert ask(root, digests, immutable=immutable) is None


def test_a_mutable_file_that_was_just_written_is_never_cached(root: Path, tmp_path: Path) -> None:
    now = time.time()
    digests = make_digests(tmp_path)

    for age, known in [(0.0, False), (1.5, False), (-3600.0, False), (60.0, True)]:
        os.utime(root / "c1" / "file", (now - age, now - age))
        learn(root, digests, immutable=False)
        assert (ask(root, digests, immutable=False) is not None) == known, age


def test_a_recheck_reads_again_and_confirms(root: Path, tmp_path: Path) -> None:
    learn(root, make_digests(tmp_path), immutable=True)
    digests = make_digests(tmp_path, recheck=always)

    assert ask(root, digests, immutable=True) is None
    with capture_logs() as logs:
        learn(root, digests, immutable=True)

    assert logs == []


def test_a_failed_recheck_drops_the_whole_cache_and_says_so(root: Path, tmp_path: Path) -> None:
    other = root / "c1" / "other"
    other.write_bytes(b"content")
    digests = make_digests(tmp_path)
    with pin(root, immutable=True) as pinned:
        for file in pinned.files:
            digests.remember(pinned, file, DIGEST)
    digests.flush()
    doubting = make_digests(tmp_path, recheck=lambda file: file.path == "c1/file")

    with pin(root, immutable=True) as pinned, capture_logs() as logs:
        assert doubting.known(pinned, pinned.files[0]) is None
        assert doubting.known(pinned, pinned.files[1]) == DIGEST
        with pytest.raises(Vanished, match="c1/file changed without a trace"):
            doubting.remember(pinned, pinned.files[0], digest_of(b"rotten!"))
        assert doubting.known(pinned, pinned.files[1]) is None

    assert [(log["event"], log["log_level"], log["path"]) for log in logs] == [
        ("statcache.mismatch", "critical", "c1/file")
    ]


def test_what_was_believed_before_the_cache_was_disproved_never_gets_back_into_it(
    root: Path, tmp_path: Path
) -> None:
    for name in ("other", "third"):
        (root / "c1" / name).write_bytes(b"content")
    digests = make_digests(tmp_path)
    with pin(root, immutable=True) as pinned:
        for file in pinned.files:
            digests.remember(pinned, file, DIGEST)
    digests.flush()
    doubting = make_digests(tmp_path, recheck=lambda file: file.path == "c1/file")

    with pin(root, immutable=True) as pinned, capture_logs() as logs:
        file, other, third = pinned.files
        stale = doubting.known(pinned, other)
        assert stale == DIGEST
        assert doubting.known(pinned, file) is None
        doubting.remember(pinned, third, DIGEST)
        with ThreadPoolExecutor(1) as another_thread, pytest.raises(Vanished):
            another_thread.submit(doubting.remember, pinned, file, digest_of(b"rotten!")).result()
        with pytest.raises(Vanished):
            doubting.remember(pinned, other, stale)
        with pytest.raises(Vanished):
            doubting.flush()

    assert opened[0].query("SELECT count(*) FROM stat_cache") == [(0,)]
    assert len(logs) == 1, "said once"


def test_about_one_file_in_256_is_rechecked() -> None:
    file = PinnedFile(number=0, path="x", size=1, mode=0, mtime_ns=0, shared=False)

    chosen = sum(one_in_many(file) for _ in range(100 * RECHECK_ONE_IN))

    assert 40 < chosen < 200


def test_use_keeps_an_entry_alive(root: Path, tmp_path: Path) -> None:
    day = 86_400.0
    database = Database(tmp_path / "state.sqlite")
    opened.append(database)

    def at(days: int) -> Digests:
        cache = StatCache(database, now=lambda: days * day)
        return Digests(cache, Hash.BLAKE3, CHUNK, recheck=never)

    learn(root, at(0), immutable=True)
    for days in (20, 40, 60):
        digests = at(days)
        assert ask(root, digests, immutable=True) == DIGEST
        digests.flush()


def test_many_files_are_written_in_batches_without_a_flush(tmp_path: Path) -> None:
    (tmp_path / "root" / "c1").mkdir(parents=True)
    for number in range(4100):
        (tmp_path / "root" / "c1" / str(number)).touch()
    digests = make_digests(tmp_path)
    with pin(tmp_path / "root", immutable=True) as pinned:
        for file in pinned.files:
            digests.remember(pinned, file, digest_of(b""))

    assert opened[0].query("SELECT count(*) FROM stat_cache") == [(4096,)]


@settings(deadline=None)
@given(size=st.integers(0, 5 * 1000), chunk_size=st.integers(1, 2000))
def test_a_path_has_the_digest_of_its_bytes(
    tmp_path_factory: pytest.TempPathFactory, size: int, chunk_size: int
) -> None:
    directory = tmp_path_factory.mktemp("of_path")
    data = os.urandom(size)
    (directory / "file").write_bytes(data)
    moved: list[int] = []

    digests = make_digests(directory, chunk_size=chunk_size)

    assert digests.of_path(directory / "file", progress=moved.append) == digest_of(data, chunk_size)
    assert sum(moved) == size


def test_a_large_file_is_read_in_pieces(tmp_path: Path) -> None:
    data = os.urandom((3 << 20) + 17)
    (tmp_path / "file").write_bytes(data)
    digests = make_digests(tmp_path, chunk_size=2 << 20)
    moved: list[int] = []

    found = digests.of_path(tmp_path / "file", progress=moved.append)

    assert found == digest_of(data, 2 << 20)
    assert max(moved) <= 1 << 20


def test_reading_a_path_can_be_stopped(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100)

    def stop(_moved: int) -> None:
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        make_digests(tmp_path).of_path(tmp_path / "file", progress=stop)


def test_what_is_no_file_has_no_digest(tmp_path: Path) -> None:
    digests = make_digests(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("state.sqlite")

    with pytest.raises(SourceError, match="not a regular file"):
        digests.of_path(tmp_path / "fifo")
    with pytest.raises(SourceError, match="symbolic link"):
        digests.of_path(tmp_path / "link")
    with pytest.raises(SourceError, match="not a regular file"):
        digests.of_path(tmp_path)
    with pytest.raises(Vanished):
        digests.of_path(tmp_path / "absent")
