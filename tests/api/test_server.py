"""The server's thread and its sockets."""

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Request
from structlog.testing import capture_logs

from ckptsync.api import server as servers
from ckptsync.api.app import bounded_body, create_app
from ckptsync.api.local_socket import LocalSocket, reachable, socket_path
from ckptsync.api.server import Server
from tests.api.desk import PATIENCE


class _Site:
    """A server whose sockets answer `/` with what their pipeline's function returns."""

    def __init__(self, home: Path) -> None:
        self.bugs: list[BaseException] = []
        self.server = Server(fail=self.bugs.append)
        self._home = home
        self._doors: dict[str, LocalSocket] = {}

    def open(self, pipeline: str, answer: Callable[..., Any]) -> None:
        routes = APIRouter()
        routes.add_api_route("/", answer, methods=["GET", "POST"])
        door = LocalSocket(socket_path(self._home, pipeline))
        self._doors[pipeline] = door
        self.server.serve(pipeline, create_app(routes, fail=self.bugs.append), door.socket)

    def shut(self, pipeline: str) -> None:
        self._doors.pop(pipeline).remove()
        self.server.drop(pipeline)

    def path(self, pipeline: str) -> Path:
        return socket_path(self._home, pipeline)

    def get(self, pipeline: str) -> httpx.Response:
        with _client(self.path(pipeline)) as client:
            return client.get("/")


@contextmanager
def _client(path: Path) -> Iterator[httpx.Client]:
    with (
        reachable(path) as short,
        httpx.Client(
            transport=httpx.HTTPTransport(uds=short), base_url="http://ckptsync", timeout=PATIENCE
        ) as client,
    ):
        yield client


@contextmanager
def _connected(path: Path) -> Iterator[socket.socket]:
    with reachable(path) as short, socket.socket(socket.AF_UNIX) as client:
        client.connect(short)
        yield client


@pytest.fixture
def site(tmp_path: Path) -> Iterator[_Site]:
    made = _Site(tmp_path)
    made.server.start()
    yield made
    made.server.close()
    assert made.bugs == []


def test_each_socket_serves_its_own(site: _Site) -> None:
    site.open("one", lambda: "1")
    site.open("two", lambda: "2")

    assert (site.get("one").json(), site.get("two").json()) == ("1", "2")


def test_sockets_come_and_go_without_each_other(site: _Site) -> None:
    asked, answered = threading.Event(), threading.Event()

    def slow() -> str:
        asked.set()
        assert answered.wait(PATIENCE)
        return "late"

    site.open("one", slow)
    site.open("two", lambda: "2")
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(site.get, "one")
        assert asked.wait(PATIENCE)

        site.shut("two")
        site.open("three", lambda: "3")

        with pytest.raises(FileNotFoundError), _connected(site.path("two")):
            pass
        assert site.get("three").json() == "3"
        answered.set()
        assert late.result().json() == "late"


def test_a_socket_that_is_shut_by_what_it_was_asked_still_answers(site: _Site) -> None:
    def shut_and_open() -> str:
        site.shut("one")
        site.open("one", lambda: "again")
        return "done"

    site.open("one", shut_and_open)

    assert site.get("one").json() == "done"
    assert site.get("one").json() == "again"


def test_closing_waits_for_nobody_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_PATIENCE", 0)
    reading = threading.Event()

    async def read(request: Request) -> bytes:
        reading.set()
        return await bounded_body(request)

    site = _Site(tmp_path)
    site.server.start()
    site.open("one", lambda: "1")
    site.open("two", read)
    with _client(site.path("one")) as idle, _connected(site.path("two")) as stalled:
        assert idle.get("/").json() == "1"
        stalled.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
        assert reading.wait(PATIENCE)

        site.server.close()
        site.server.close()

        assert site.server._thread not in threading.enumerate()
        with pytest.raises(ConnectionRefusedError), _connected(site.path("one")):
            pass
    assert site.bugs == []


def test_a_server_that_never_served_is_closed_too() -> None:
    Server(fail=lambda bug: pytest.fail(str(bug))).close()


def test_signals_are_left_to_the_daemon(site: _Site) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    site.open("one", lambda: "1")
    site.get("one")

    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_bug_is_told_and_not_printed(site: _Site, capfd: pytest.CaptureFixture[str]) -> None:
    bug = ZeroDivisionError("division by zero")

    def broken() -> str:
        raise bug

    site.open("one", broken)

    assert site.get("one").status_code == 500
    assert site.get("one").status_code == 500, "it goes on until the daemon ends it"

    assert site.bugs == [bug, bug]
    assert capfd.readouterr() == ("", "")
    site.bugs.clear()


def test_what_happens_outside_of_any_request_is_told_too(site: _Site) -> None:
    def happen(**context: Any) -> None:
        loop = site.server._loop
        happened = threading.Event()

        def call() -> None:
            loop.call_exception_handler(context)
            happened.set()

        loop.call_soon_threadsafe(call)
        assert happened.wait(PATIENCE)

    with capture_logs() as logs:
        happen(message="cannot accept", exception=OSError(24, "Too many open files"))
        happen(message="odd")
    assert site.bugs == []
    happen(message="never retrieved", exception=(bug := ZeroDivisionError()))

    assert [(each["event"], each["error"]) for each in logs] == [
        ("api.misfortune", "[Errno 24] Too many open files"),
        ("api.misfortune", "odd"),
    ]
    assert site.bugs == [bug]
    site.bugs.clear()
