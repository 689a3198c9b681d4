"""What a command learns of a daemon: what it said, or that it cannot be known."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO

import pytest

from ckptsync.api import client as clients
from ckptsync.api.client import Client, DaemonAway
from ckptsync.api.local_socket import LocalSocket, socket_path
from ckptsync.api.server import Server
from ckptsync.daemon.request import Phase
from ckptsync.errors import (
    AccessDenied,
    Cancelled,
    CannotTell,
    CkptsyncError,
    ConfigError,
    TimedOut,
)
from ckptsync.failure import Failure, Relayed
from ckptsync.model import ignore
from ckptsync.operations.orders import AcceptRollback, Push
from tests.api.desk import PATIENCE, Desk, GatedMemory, serving
from tests.pipelines import Host, a_small_checkpoint

_A_WHILE = timedelta(milliseconds=50)
_FOREVER = timedelta(seconds=PATIENCE)


def test_a_snapshot_arrives_as_it_was_taken(client: Client, desk: Desk) -> None:
    beyond_floats = 2**70 + 1
    desk.pipeline.state.identity.saw(revision=1, epoch=beyond_floats)
    desk.pause("orders")

    snapshot = client.snapshot()

    assert snapshot == desk.snapshot("orders")
    assert snapshot.epoch == beyond_floats
    assert snapshot.paused_since is not None


def test_an_order_is_carried_out_and_its_progress_followed(
    client: Client, store: GatedMemory
) -> None:
    store.gate.opened.set()
    moved: list[int] = []

    asked = client.submit(Push())
    document = client.await_(asked, progress=moved.append)

    assert document["checkpoint"]["engine_id"] == "1"
    assert sum(moved) == document["checkpoint"]["bytes"] > 0


def test_what_is_running_is_in_the_snapshot(client: Client, store: GatedMemory) -> None:
    asked = client.submit(Push())
    assert store.gate.reached.wait(PATIENCE)

    running = client.snapshot().running

    assert running is not None
    assert (running.id, running.state) == (asked.id, Phase.RUNNING)


def test_an_order_with_an_id_is_carried_out_once(client: Client, store: GatedMemory) -> None:
    store.gate.opened.set()
    first = client.await_(client.submit(Push(), id="7"), progress=ignore)

    again = client.submit(Push(), id="7")

    assert (again.state, again.result) == (Phase.DONE, first)


def test_a_failed_request_fails_here_as_it_did_there(client: Client) -> None:
    asked = client.submit(Push(engine_id="nonesuch"))

    with pytest.raises(Relayed, match="no complete checkpoint 'nonesuch'") as raised:
        client.await_(asked, progress=ignore)

    failure = Failure.of(raised.value)
    assert (failure.kind, failure.exit_code) == ("CheckpointNotFound", 10)
    assert failure.hint == "'ckptsync list' shows those that are there"


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("2 problems:\n  a\x1b\n  b", hint="mend", problems=["a\x1b", "b"]),
        AccessDenied("s3://b", "read", "é", "no"),
        CkptsyncError(""),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_refusal_arrives_unchanged(client: Client, desk: Desk, error: CkptsyncError) -> None:
    desk.refusal = error

    with pytest.raises(Relayed) as raised:
        client.reload()

    assert Failure.of(raised.value) == Failure.of(error)


def test_names_that_are_no_unicode_arrive_as_they_are(
    tmp_path: Path, store: GatedMemory, server: Server
) -> None:
    home = tmp_path / os.fsdecode(b"\xff")
    home.mkdir()
    (home / "data").mkdir()
    with (
        Host(home=home).running(store) as pipeline,
        serving(desk := Desk(pipeline), tmp_path / "state", server),
        Client(tmp_path / "state", "orders") as client,
    ):
        desk.refusal = CkptsyncError(f"cannot read {home}")
        with pytest.raises(Relayed) as refused:
            client.reload()
        with pytest.raises(Relayed) as failed:
            client.await_(client.submit(Push()), progress=ignore)

    assert str(refused.value) == f"cannot read {home}"
    assert str(failed.value).startswith(f"{home}/data: no complete checkpoint")
    assert desk.bugs == []


def test_every_call_reaches_the_daemon(client: Client, desk: Desk) -> None:
    client.pause()
    paused = client.snapshot().paused_since
    client.resume()
    client.reload()
    with pytest.raises(Relayed, match="no switchover of orders is under way"):
        client.cancel_switchover()

    assert paused is not None
    assert client.snapshot().paused_since is None
    assert desk.reloads == 1


def test_a_request_goes_on_when_its_time_is_up(client: Client, store: GatedMemory) -> None:
    asked = client.submit(Push())
    assert store.gate.reached.wait(PATIENCE)

    with pytest.raises(TimedOut, match="the push has not ended within 50ms; the daemon goes on"):
        client.await_(asked, progress=ignore, timeout=_A_WHILE)

    store.gate.opened.set()
    assert client.await_(asked, progress=ignore, timeout=_FOREVER)["already_synced"] is False


def test_whoever_follows_the_progress_can_leave(client: Client, store: GatedMemory) -> None:
    def leave(_moved: int) -> None:
        if store.gate.reached.is_set():
            raise Cancelled("enough")

    asked = client.submit(Push())
    with pytest.raises(Cancelled, match="enough"):
        client.await_(asked, progress=leave)

    store.gate.opened.set()
    assert client.await_(asked, progress=ignore)["checkpoint"]["engine_id"] == "1"


def test_a_daemon_that_is_stopped_says_so_to_those_who_wait(
    client: Client, desk: Desk, store: GatedMemory
) -> None:
    running = client.submit(Push())
    assert store.gate.reached.wait(PATIENCE)
    queued = client.submit(AcceptRollback())

    stopping = threading.Thread(target=desk.close)
    stopping.start()
    with pytest.raises(Relayed, match="ckptsync is stopping, so this accept-rollback was not"):
        client.await_(queued, progress=ignore)

    store.gate.opened.set()
    stopping.join()
    with pytest.raises(Relayed, match="stopped on request") as raised:
        client.await_(running, progress=ignore)
    assert Failure.of(raised.value).exit_code == Cancelled.exit_code


def test_where_no_daemon_ever_was_nobody_is_asked(tmp_path: Path) -> None:
    with pytest.raises(DaemonAway):
        Client(tmp_path, "orders")


def test_where_a_daemon_was_nobody_is_asked(tmp_path: Path) -> None:
    path = socket_path(tmp_path, "orders")
    left = LocalSocket(path)
    left.socket.close()
    with Client(tmp_path, "orders") as client:
        with pytest.raises(DaemonAway):
            client.snapshot()
        left.remove()
        with pytest.raises(DaemonAway):
            client.submit(Push())


def test_a_daemon_that_dies_leaves_it_unknown_what_was_done(tmp_path: Path) -> None:
    Host(home=tmp_path).checkpoint("1", a_small_checkpoint())
    with (
        _mortal(tmp_path) as (process, said),
        Client(tmp_path / "state", "orders") as client,
    ):
        asked = client.submit(Push())
        assert said.readline() == "held\n"

        def kill(_moved: int) -> None:
            process.kill()

        with pytest.raises(
            CannotTell,
            match="the daemon of pipeline 'orders' has ended: whether the push was done is unknown",
        ) as raised:
            client.await_(asked, progress=kill)
        process.wait()
        with pytest.raises(DaemonAway):
            client.submit(Push())
    assert raised.value.hint == "ckptsync status orders"


def test_a_daemon_that_was_started_anew_does_not_know_what_was_asked(
    tmp_path: Path, host: Host, store: GatedMemory, server: Server
) -> None:
    state = tmp_path / "state"
    with (
        host.running(store) as pipeline,
        serving(Desk(pipeline), state, server),
        Client(state, "orders") as client,
    ):
        asked = client.submit(Push())
        store.gate.opened.set()
    with (
        host.running(store) as pipeline,
        serving(Desk(pipeline), state, server),
        Client(state, "orders") as client,
        pytest.raises(CannotTell, match="started anew meanwhile: whether the push was done is unk"),
    ):
        client.await_(asked, progress=ignore)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<html></>",
        b"HTTP/1.1 500 No\r\nContent-Length: 21\r\n\r\nInternal Server Error",
        b'HTTP/1.1 409 No\r\nContent-Length: 12\r\n\r\n{"error": 7}',
        b"HTTP/1.1 409 No\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + b"[" * 50_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n\xff",
    ],
)
def test_an_answer_of_another_version_is_not_taken_for_one(tmp_path: Path, answer: bytes) -> None:
    with (
        _answering(tmp_path, answer),
        Client(tmp_path, "orders") as client,
        pytest.raises(CannotTell, match="is not understood: how it is doing is unknown"),
    ):
        client.snapshot()


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", b"\x00\x01\r\n\r\n"]
)
def test_half_an_answer_is_none(tmp_path: Path, answer: bytes) -> None:
    with (
        _answering(tmp_path, answer),
        Client(tmp_path, "orders") as client,
        pytest.raises(CannotTell, match="has ended: whether the push was begun is unknown"),
    ):
        client.submit(Push())


def test_a_daemon_that_is_stuck_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "_PATIENCE", 0.05)
    bound = LocalSocket(socket_path(tmp_path, "orders"))
    bound.socket.listen(0)  # one may wait to be let in; nobody ever is
    with closing(bound.socket), Client(tmp_path, "orders") as client:
        with pytest.raises(CannotTell, match="does not answer: how it is doing is unknown"):
            client.snapshot()
        with pytest.raises(CannotTell, match="is asked by too many at once: whether it is paused"):
            client.pause()


@contextmanager
def _mortal(home: Path) -> Iterator[tuple["subprocess.Popen[str]", IO[str]]]:
    """A daemon in a process of its own, and what it says after it began to listen."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.api.mortal", str(home)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "listening\n"
            yield process, process.stdout
        finally:
            process.kill()


@contextmanager
def _answering(state_dir: Path, answer: bytes) -> Iterator[None]:
    """Something in a daemon's place that answers one request with these bytes."""
    bound = LocalSocket(socket_path(state_dir, "orders"))
    bound.socket.listen()

    def serve() -> None:
        connection, _ = bound.socket.accept()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    with closing(bound.socket):
        yield
        thread.join()
