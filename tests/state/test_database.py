"""Committed is on disk, raised is undone, and what is wrong with the file is said."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ckptsync.errors import (
    Busy,
    IntegrityError,
    LocalDiskFull,
    PermissionRefused,
    UnsupportedFormat,
)
from ckptsync.state.database import Database, state_path
from ckptsync.state.lock import PipelineLock, lock_path
from tests.state.processes import process
from tests.unprivileged import refused

TABLE = "CREATE TABLE IF NOT EXISTS t (x INTEGER PRIMARY KEY)"

COMMIT_THEN_WAIT = """
import sys, time
from pathlib import Path
from ckptsync.state.database import Database
database = Database(Path(sys.argv[1]))
with database.transaction() as transaction:
    transaction.execute("CREATE TABLE t (x)")
    transaction.execute("INSERT INTO t VALUES (1)")
with database.transaction() as transaction:
    transaction.execute("INSERT INTO t VALUES (2)")
    print("inside", flush=True)
    time.sleep(600)
"""

OPEN = """
import sys
from pathlib import Path
from ckptsync.state.database import Database
database = Database(Path(sys.argv[1]))
with database.transaction() as transaction:
    transaction.execute("CREATE TABLE IF NOT EXISTS t (x)")
    transaction.execute("INSERT INTO t VALUES (1)")
"""


IMPORT = "from ckptsync.state.database import Database"


@pytest.fixture
def table(database: Database) -> Database:
    with database.transaction() as transaction:
        transaction.execute(TABLE)
    return database


def test_a_committed_transaction_is_there_when_opened_again(path: Path, table: Database) -> None:
    with table.transaction() as transaction:
        transaction.execute("INSERT INTO t VALUES (1)")
    table.close()

    again = Database(path)

    assert again.query("SELECT x FROM t WHERE x = ?", (1,)) == [(1,)]
    again.close()


def test_a_block_that_raises_leaves_nothing(table: Database) -> None:
    def interrupted() -> None:
        with table.transaction() as transaction:
            transaction.execute("INSERT INTO t VALUES (1)")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert table.query("SELECT x FROM t") == []


def test_an_inner_transaction_is_part_of_the_outer_one(table: Database) -> None:
    def nested() -> None:
        with table.transaction():
            with table.transaction() as inner:
                inner.execute("INSERT INTO t VALUES (1)")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nested()

    assert table.query("SELECT x FROM t") == []


def test_a_killed_process_leaves_what_it_committed_and_no_more(path: Path) -> None:
    with process(COMMIT_THEN_WAIT, path) as child:
        child.send_signal(signal.SIGKILL)
        child.wait()

    database = Database(path)
    assert database.query("SELECT x FROM t") == [(1,)]
    database.close()


def test_threads_do_not_mix_their_transactions(table: Database) -> None:
    def insert(start: int) -> None:
        for x in range(start, start + 50):
            with table.transaction() as transaction:
                transaction.execute("INSERT INTO t VALUES (?)", (x,))
                transaction.execute("DELETE FROM t WHERE x = ?", (x - 1,))

    threads = [threading.Thread(target=insert, args=(1000 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert table.query("SELECT x FROM t ORDER BY x") == [(1000 * n + 49,) for n in range(4)]


def test_processes_that_open_a_new_database_at_once_all_succeed(path: Path) -> None:
    children = [subprocess.Popen([sys.executable, "-c", OPEN, path]) for _ in range(6)]

    assert [child.wait() for child in children] == [0] * 6
    database = Database(path)
    assert len(database.query("SELECT x FROM t")) == 6
    database.close()


def test_only_this_user_may_read_it(path: Path, table: Database) -> None:
    old = os.umask(0)
    try:
        other = path.parent.parent / "other" / "x.sqlite"
        Database(other).close()
    finally:
        os.umask(old)

    assert stat.S_IMODE(other.stat().st_mode) == 0o600
    assert stat.S_IMODE(other.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.with_name(f"{path.name}-wal").stat().st_mode) == 0o600


def test_every_commit_is_synced(database: Database) -> None:
    assert database.query("PRAGMA synchronous") == [(2,)]
    assert database.query("PRAGMA journal_mode") == [("wal",)]


@pytest.mark.parametrize(
    "content", [b"not a database" * 100, b"SQLite format 3\0" + b"\xff" * 4096]
)
def test_a_damaged_database_is_said_to_be_and_what_to_do(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(content)

    with pytest.raises(IntegrityError, match="is damaged or not a database") as raised:
        Database(path)
    assert "put it back from a backup" in (raised.value.hint or "")
    assert path.read_bytes() == content


def test_damage_found_later_is_said_as_well(path: Path, table: Database) -> None:
    with table.transaction() as transaction:
        transaction.executemany("INSERT INTO t VALUES (?)", [(x,) for x in range(50_000)])
    table.close()
    content = bytearray(path.read_bytes())
    content[4096 * 3 :] = b"\xff" * len(content[4096 * 3 :])
    path.write_bytes(content)
    database = Database(path)

    with pytest.raises(IntegrityError, match="is damaged"):
        database.query("SELECT sum(x) FROM t")
    database.close()


def test_a_database_of_a_newer_version_is_left_alone(path: Path, database: Database) -> None:
    with database.transaction() as transaction:
        transaction.execute("PRAGMA user_version = 99")
    database.close()

    with pytest.raises(UnsupportedFormat, match="has format 99, this ckptsync knows formats up to"):
        Database(path)


def test_a_full_disk_is_said_to_be_and_undoes_the_transaction(table: Database) -> None:
    (size,) = table.query("PRAGMA page_count")[0]
    table.query(f"PRAGMA max_page_count = {size + 2}")

    with pytest.raises(LocalDiskFull, match="no space left"), table.transaction() as transaction:
        transaction.executemany("INSERT INTO t VALUES (?)", [(x,) for x in range(50_000)])

    assert table.query("SELECT count(*) FROM t") == [(0,)]


@pytest.mark.parametrize("inner", ["x.sqlite", "missing/x.sqlite"])
def test_a_place_that_cannot_be_written_is_a_matter_of_permission(
    tmp_path: Path, inner: str
) -> None:
    state_dir = tmp_path / "state"
    state_dir.mkdir(mode=0)

    found = refused(IMPORT, "Database(Path(sys.argv[1]))", state_dir / inner)

    assert found.startswith("PermissionRefused: cannot create /")


def test_a_database_of_another_user_is_a_matter_of_permission(
    path: Path, database: Database
) -> None:
    path.chmod(0)

    found = refused(IMPORT, "Database(Path(sys.argv[1]))", path)

    assert found.startswith("PermissionRefused: ")
    assert database.query("PRAGMA user_version") == [(1,)]


def test_a_database_of_another_kind_of_file_is_refused(path: Path) -> None:
    path.mkdir(parents=True)

    with pytest.raises(PermissionRefused, match="unable to open database file"):
        Database(path)


def test_a_lock_that_is_kept_is_said_to_be(
    path: Path, table: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ckptsync.state.database._BUSY_SECONDS", 0.05)
    other = Database(path)

    with (
        table.transaction(),
        pytest.raises(Busy, match="another process has kept it locked"),
        other.transaction(),
    ):
        pass
    other.close()


def test_a_mistake_of_ours_is_not_disguised(table: Database) -> None:
    with pytest.raises(sqlite3.OperationalError):
        table.query("SELECT nothing FROM nowhere")


def test_each_bucket_of_a_pipeline_has_its_own_database() -> None:
    paths = {
        state_path(Path("/state"), pipeline, bucket)
        for pipeline in ("a", "b")
        for bucket in ("s3://dr/x", "s3://dr/y")
    }

    assert len(paths) == 4
    assert state_path(Path("/state"), "a", "s3://dr/x") == Path("/state/a/f3ea6b701cb775cc.sqlite")


def test_a_file_too_large_for_the_process_is_no_damage(path: Path, table: Database) -> None:
    code = """
import resource, signal, sys
from pathlib import Path
from ckptsync.errors import CkptsyncError
from ckptsync.state.database import Database
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
database = Database(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    with database.transaction() as transaction:
        transaction.executemany("INSERT INTO t VALUES (?)", [(x,) for x in range(50_000)])
except CkptsyncError as error:
    print(type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)

    assert done.stdout.strip() in {"CkptsyncError", "LocalDiskFull"}, done.stderr
    assert table.query("SELECT count(*) FROM t") == [(0,)]


def test_one_in_memory_begins_empty_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        database = Database.in_memory()
        with database.transaction() as transaction:
            transaction.execute("CREATE TABLE t (x)")
            transaction.execute("INSERT INTO t VALUES (1)")
        assert database.query("SELECT x FROM t") == [(1,)]
        database.close()

    assert list(tmp_path.iterdir()) == []


def test_a_page_that_nobody_reads_is_found_damaged_by_who_asks(path: Path) -> None:
    database = Database(path)
    with database.transaction() as transaction:
        transaction.execute("CREATE TABLE t (x)")
        transaction.executemany("INSERT INTO t VALUES (?)", [("x" * 3000,)] * 50)
    database.require_sound()
    database.close()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + b"\xa5" * 4096 + data[len(data) // 2 + 4096 :])

    database = Database(path)
    with pytest.raises(IntegrityError, match=str(path)):
        database.require_sound()
    database.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what is another user's")
def test_what_root_makes_in_the_state_of_another_user_is_that_users(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, 12345, 23456)
    lock = lock_path(state, "orders")

    with PipelineLock(lock):
        Database(state_path(state, "orders", "s3://dr/orders")).close()

    made = list(state.rglob("*"))
    assert len(made) >= 3
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(12345, 23456)}
