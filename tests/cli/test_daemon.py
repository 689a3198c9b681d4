"""What status tells of a daemon, asked through a real socket."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from ckptsync.api.app import create_app
from ckptsync.api.local_socket import LocalSocket, socket_path
from ckptsync.api.routes import pipeline_routes
from ckptsync.api.server import Server
from ckptsync.cli import daemon
from ckptsync.daemon.request import Phase, RequestState
from ckptsync.daemon.snapshot import Asked, Contact, Snapshot
from ckptsync.errors import Busy, CannotTell, CkptsyncError, Unavailable
from ckptsync.failure import Failure, Relayed
from ckptsync.model import CheckpointId, Role
from ckptsync.operations.orders import Order

NOW: Final = datetime(2026, 11, 20, 12, tzinfo=UTC)
AWAY: Final = Failure.of(Unavailable("s3://dr/orders", "read", "head.json", "timed out"))
QUIET: Final = Snapshot(
    pipeline="orders",
    node="host-a",
    version="0.1.0",
    pid=4711,
    started_at=NOW - timedelta(hours=3),
    role=Role.PRIMARY,
    since=NOW - timedelta(hours=3),
    reason=None,
    problem=None,
    epoch=1,
    paused_since=None,
    contact=Contact(answered_at=None, failure=None),
    running=None,
    queued=(),
    last_start_failure=None,
    last_push_failure=None,
    last_pull_failure=None,
    next_push_at=None,
    next_pull_at=None,
    warm=None,
    pulling=None,
    switching=None,
)


@dataclass(frozen=True, slots=True)
class _Daemon:
    """Of one pipeline, that is asked only how it is doing."""

    told: Snapshot | CkptsyncError

    def snapshot(self, pipeline: str) -> Snapshot:
        if isinstance(self.told, CkptsyncError):
            raise self.told
        return replace(self.told, pipeline=pipeline)

    def submit(self, pipeline: str, order: Order, *, id: str | None) -> RequestState:
        raise AssertionError(f"{pipeline} was asked for {order} as {id}")

    def find(self, pipeline: str, id: str) -> RequestState | None:
        raise AssertionError(f"{pipeline} was asked for {id}")

    def cancel_switchover(self, pipeline: str) -> None:
        raise AssertionError(pipeline)

    def pause(self, pipeline: str) -> None:
        raise AssertionError(pipeline)

    def resume(self, pipeline: str) -> None:
        raise AssertionError(pipeline)

    def reload(self) -> None:
        raise AssertionError


@contextmanager
def _running(state_dir: Path, told: Snapshot | CkptsyncError) -> Iterator[None]:
    bugs: list[BaseException] = []
    server = Server(fail=bugs.append)
    server.start()
    door = LocalSocket(socket_path(state_dir, "orders"))
    routes = pipeline_routes(_Daemon(told), "orders")
    server.serve("orders", create_app(routes, fail=bugs.append), door.socket)
    try:
        yield
    finally:
        door.remove()
        server.close()
    assert bugs == []


def _asked(kind: str, *, moved: int = 0) -> Asked:
    return Asked(
        id=f"the {kind}",
        kind=kind,
        state=Phase.RUNNING,
        created_at=NOW - timedelta(minutes=2),
        started_at=NOW - timedelta(minutes=1, seconds=30),
        finished_at=None,
        moved=moved,
        result=None,
        failure=None,
    )


def test_what_a_daemon_says_is_told(tmp_path: Path) -> None:
    with _running(tmp_path, QUIET):
        said = daemon.ask(tmp_path, "orders")

    assert said == QUIET
    assert dict(daemon.facts(said, NOW)) == {
        "daemon": "process 4711, ckptsync 0.1.0, started 3h ago",
        "contact": "the bucket was not asked yet",
    }


def test_its_work_and_its_troubles_are_told() -> None:
    busy = replace(
        QUIET,
        contact=Contact(answered_at=NOW - timedelta(minutes=5), failure=AWAY),
        running=_asked("push", moved=3 << 20),
        queued=(_asked("pull"), _asked("activate")),
        pulling=CheckpointId("0001-00000001-0123456789ab"),
        next_push_at=NOW + timedelta(hours=1),
        next_pull_at=NOW + timedelta(milliseconds=999),
        last_start_failure=AWAY,
        last_push_failure=AWAY,
    )

    told = dict(daemon.facts(busy, NOW))
    document = daemon.document(busy)["daemon"]

    assert told["contact"] == f"the bucket does not answer, and last did 5m ago: {AWAY.message}"
    assert told["running"] == "push, started 1m30s ago, 3 MiB so far"
    assert told["queued"] == "pull, activate"
    assert told["pulling"] == "0001-00000001-0123456789ab"
    assert told["next push"] == "in 1h"
    assert told["next pull"] == "now"
    assert told["failed start"] == told["failed push"] == AWAY.message
    assert "failed pull" not in told
    assert document["running"]["moved_bytes"] == 3 << 20
    assert [each["kind"] for each in document["queued"]] == ["pull", "activate"]
    problems = {document[f"{what}_problem"]["message"] for what in ("start", "push", "bucket")}
    assert problems == {AWAY.message}
    assert document["push_problem"] == AWAY.document()
    assert datetime.fromisoformat(document["next_push_at"]) == busy.next_push_at


def test_without_a_daemon_it_is_not_running(tmp_path: Path) -> None:
    absent = daemon.ask(tmp_path / "nonesuch", "orders")
    (tmp_path / "orders").mkdir()
    silent = daemon.ask(tmp_path, "orders")
    door = LocalSocket(socket_path(tmp_path, "orders"))
    door.socket.close()  # as a daemon that was killed leaves it
    killed = daemon.ask(tmp_path, "orders")

    assert (absent, silent, killed) == (None, None, None)
    assert list(daemon.facts(None, NOW)) == [("daemon", "not running")]
    assert daemon.document(None) == {"daemon": None, "daemon_problem": None}


def test_a_daemon_that_fails_is_not_called_absent(tmp_path: Path) -> None:
    with _running(tmp_path, Busy("its database is locked")):
        said = daemon.ask(tmp_path, "orders")

    assert isinstance(said, Relayed)
    assert list(daemon.facts(said, NOW)) == [("daemon", "unknown: its database is locked")]
    assert daemon.document(said)["daemon"] is None
    assert daemon.document(said)["daemon_problem"]["kind"] == "Busy"


def test_a_daemon_that_hangs_up_is_not_called_absent(tmp_path: Path) -> None:
    door = LocalSocket(socket_path(tmp_path, "orders"))
    door.socket.listen()

    def hang_up() -> None:
        door.socket.accept()[0].close()

    with door.socket, ThreadPoolExecutor(1) as pool:
        hanging_up = pool.submit(hang_up)
        said = daemon.ask(tmp_path, "orders")
        hanging_up.result()

    assert isinstance(said, CannotTell)
