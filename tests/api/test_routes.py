"""The interface as any client sees it, over a real socket."""

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from ckptsync.api.app import BODY_LIMIT
from ckptsync.api.local_socket import reachable
from ckptsync.api.routes import LONGEST_WAIT
from ckptsync.errors import (
    AccessDenied,
    Busy,
    Cancelled,
    CannotTell,
    CheckpointNotFound,
    CkptsyncError,
    ConfigError,
    Fenced,
    IntegrityError,
    PrimaryActive,
    TimedOut,
)
from ckptsync.failure import Failure
from tests.api.desk import PATIENCE, Desk, GatedMemory

_ORDERS: Final = "/pipelines/orders"
_REQUESTS: Final = f"{_ORDERS}/requests"
_PUSH: Final = {"order": "push"}


def test_an_order_is_accepted_at_once_and_its_outcome_can_be_waited_for(
    http: httpx.Client, store: GatedMemory
) -> None:
    accepted = http.post(_REQUESTS, json=_PUSH)
    request = accepted.json()
    assert accepted.status_code == 202
    assert (request["kind"], request["result"], request["failure"]) == ("push", None, None)

    store.gate.opened.set()
    done = _wait(http, request["id"])

    assert done["state"] == "done"
    assert done["moved"] == done["result"]["checkpoint"]["bytes"]
    assert (done["result"]["pipeline"], done["result"]["already_synced"]) == ("orders", False)


def test_a_request_under_way_is_told_at_once_unless_somebody_waits(
    http: httpx.Client, store: GatedMemory
) -> None:
    request = _push(http)
    assert store.gate.reached.wait(PATIENCE)

    running = http.get(f"{_REQUESTS}/{request}").json()
    snapshot = http.get(_ORDERS).json()

    assert (running["state"], running["finished_at"]) == ("running", None)
    assert snapshot["running"] == running
    assert snapshot["queued"] == []


def test_those_who_wait_hold_nobody_up(http: httpx.Client, path: Path, store: GatedMemory) -> None:
    request = _push(http)
    assert store.gate.reached.wait(PATIENCE)
    crowd = 60  # more than there are threads
    heads = b"GET /ckptsync/v1%s/%s?wait=30 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    waiting = [_connected(path) for _ in range(crowd)]
    for each in waiting:
        each.sendall(heads % (_REQUESTS.encode(), request.encode()))

    assert http.get(_ORDERS).json()["running"]["id"] == request
    assert http.post(f"{_ORDERS}/pause").status_code == 204
    store.gate.opened.set()

    assert [b'"state":"done"' in _answer(each) for each in waiting] == [True] * crowd


def test_what_was_asked_for_with_an_id_is_not_asked_for_again(
    http: httpx.Client, store: GatedMemory
) -> None:
    first = http.post(_REQUESTS, json=_PUSH, params={"id": "from-cron:1"}).json()
    store.gate.opened.set()
    _wait(http, first["id"])

    again = http.post(_REQUESTS, json=_PUSH, params={"id": "from-cron:1"}).json()

    assert again["id"] == "from-cron:1"
    assert again["state"] == "done"


def test_a_request_that_failed_tells_why(http: httpx.Client) -> None:
    request = http.post(_REQUESTS, json={"order": "push", "engine_id": "nonesuch"}).json()

    failed = _wait(http, request["id"])

    assert (failed["state"], failed["result"]) == ("failed", None)
    assert failed["failure"]["kind"] == "CheckpointNotFound"
    assert failed["failure"]["exit_code"] == 10
    assert "no complete checkpoint 'nonesuch'" in failed["failure"]["message"]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "no JSON object"),
        (b"{}", '"order" has to be one of'),
        (b'{"order": "push", "forced": true}', "push has no forced"),
        (b'{"order": "push", "new_timeline": "yes"}', "push: new_timeline: "),
    ],
)
def test_a_malformed_order_is_refused_and_does_nothing(
    http: httpx.Client, store: GatedMemory, body: bytes, problem: str
) -> None:
    refused = http.post(_REQUESTS, content=body)

    assert refused.status_code == 400
    assert problem in _failure(refused)["message"]
    assert list(store.walk("")) == []


def test_a_body_that_is_too_long_is_refused(http: httpx.Client, store: GatedMemory) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(2 * BODY_LIMIT // 1024):
            yield b" " * 1024

    told = http.post(_REQUESTS, content=json.dumps(_PUSH).ljust(BODY_LIMIT + 1))
    streamed = http.post(_REQUESTS, content=parts())
    fits = http.post(_REQUESTS, content=json.dumps(_PUSH).ljust(BODY_LIMIT))

    for refused in (told, streamed):
        assert refused.status_code == 413
        assert f"longer than {BODY_LIMIT} bytes" in _failure(refused)["message"]
    assert fits.status_code == 202


@pytest.mark.parametrize(
    ("method", "target", "status", "problem"),
    [
        ("GET", "/pipelines/other", 404, "/pipelines/other: Not Found"),
        ("POST", "/pipelines/other/requests", 404, "Not Found"),
        ("GET", "/openapi.json", 404, "Not Found"),
        ("GET", "/docs", 404, "Not Found"),
        ("GET", f"{_REQUESTS}/nonesuch", 404, "there is no such request, or not any more"),
        ("GET", f"{_REQUESTS}/nonesuch?wait=-1", 400, "wait: Input should be greater"),
        ("GET", f"{_REQUESTS}/nonesuch?wait={LONGEST_WAIT + 1}", 400, "wait: Input should be less"),
        ("GET", f"{_REQUESTS}/nonesuch?wait=nan", 400, "wait: "),
        ("POST", f"{_REQUESTS}?id=a/b", 400, "id: String should match"),
        ("POST", f"{_REQUESTS}?id=.", 400, "id: String should match"),
        ("DELETE", _ORDERS, 405, "Method Not Allowed"),
        ("GET", "/reload", 405, "Method Not Allowed"),
    ],
)
def test_what_there_is_not_is_told_as_every_failure_is(
    http: httpx.Client, method: str, target: str, status: int, problem: str
) -> None:
    refused = http.request(method, target)

    assert refused.status_code == status
    failure = _failure(refused)
    assert (failure["kind"], failure["exit_code"]) == ("UsageError", 2)
    assert problem in failure["message"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("a\nb", problems=["a", "b"]), 400),
        (CheckpointNotFound("none", hint="make one"), 404),
        (AccessDenied("s3://b", "read", "head.json", "no"), 403),
        (Fenced("another"), 409),
        (PrimaryActive("it lives"), 409),
        (TimedOut("too long"), 504),
        (CannotTell("who knows"), 503),
        (Busy("another process"), 503),
        (Cancelled("stopping"), 503),
        (IntegrityError("rotten"), 500),
        (CkptsyncError("it failed"), 500),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_a_failure_arrives_as_it_is_with_a_fitting_status(
    http: httpx.Client, desk: Desk, error: CkptsyncError, status: int
) -> None:
    desk.refusal = error

    refused = http.post("/reload")

    assert refused.status_code == status
    assert _failure(refused) == Failure.of(error).document()


def test_a_bug_is_told_to_the_client_and_to_the_daemon(http: httpx.Client, desk: Desk) -> None:
    desk.refusal = bug = ZeroDivisionError("division by zero")

    refused = http.post("/reload")

    assert refused.status_code == 500
    assert _failure(refused) == {
        "kind": "Bug",
        "message": "this is a bug of ckptsync: ZeroDivisionError",
        "hint": "report it with the log of the daemon",
        "exit_code": 70,
        "problems": [],
    }
    assert desk.bugs == [bug]
    desk.bugs.clear()


def test_a_pause_lasts_until_it_is_ended(http: httpx.Client) -> None:
    assert http.get(_ORDERS).json()["paused_since"] is None

    assert http.post(f"{_ORDERS}/pause").status_code == 204
    assert http.get(_ORDERS).json()["paused_since"] is not None

    assert http.post(f"{_ORDERS}/resume").status_code == 204
    assert http.get(_ORDERS).json()["paused_since"] is None


def test_there_must_be_a_switchover_to_cancel(http: httpx.Client) -> None:
    refused = http.post(f"{_ORDERS}/switchover/cancel")

    assert refused.status_code == 409
    assert _failure(refused)["kind"] == "NothingToDo"


def test_the_daemon_is_asked_to_reload(http: httpx.Client, desk: Desk) -> None:
    assert http.post("/reload").status_code == 204
    assert desk.reloads == 1


def test_an_answer_does_not_say_what_serves_it(http: httpx.Client) -> None:
    assert "server" not in http.get(_ORDERS).headers


def test_a_client_that_leaves_in_the_middle_of_its_order_is_no_bug(
    path: Path, http: httpx.Client, desk: Desk, store: GatedMemory
) -> None:
    head = b"POST /ckptsync/v1%s HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{"
    for _ in range(3):
        with _connected(path) as client:
            client.sendall(head % _REQUESTS.encode())

    assert http.get(_ORDERS).status_code == 200
    assert desk.bugs == []
    assert list(store.walk("")) == []


def test_a_client_that_leaves_while_it_waits_leaves_its_request_alone(
    path: Path, http: httpx.Client, store: GatedMemory
) -> None:
    request = _push(http)
    assert store.gate.reached.wait(PATIENCE)
    head = b"GET /ckptsync/v1%s/%s?wait=30 HTTP/1.1\r\nHost: x\r\n\r\n"
    with _connected(path) as client:
        client.sendall(head % (_REQUESTS.encode(), request.encode()))

    store.gate.opened.set()

    assert _wait(http, request)["state"] == "done"


def test_noise_is_answered_and_nothing_is_printed(
    path: Path, http: httpx.Client, capfd: pytest.CaptureFixture[str]
) -> None:
    with _connected(path) as client:
        client.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert _answer(client).startswith(b"HTTP/1.1 400 ")

    assert http.get(_ORDERS).status_code == 200
    assert capfd.readouterr() == ("", "")


def test_many_orders_at_once_are_one_push(http: httpx.Client, store: GatedMemory) -> None:
    ready = threading.Barrier(8)

    def ask(_: int) -> str:
        ready.wait(PATIENCE)
        return _push(http)

    with ThreadPoolExecutor(8) as pool:
        requests = set(pool.map(ask, range(8)))
    store.gate.opened.set()

    assert len(requests) == 1
    assert _wait(http, requests.pop())["state"] == "done"


def _push(http: httpx.Client) -> str:
    id: str = http.post(_REQUESTS, json=_PUSH).json()["id"]
    return id


def _wait(http: httpx.Client, request: str) -> Any:
    """Long enough for anything that is under way."""
    return http.get(f"{_REQUESTS}/{request}", params={"wait": LONGEST_WAIT}).json()


def _failure(refused: httpx.Response) -> Any:
    assert set(refused.json()) == {"error"}
    return refused.json()["error"]


def _connected(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(PATIENCE)
    with reachable(path) as short:
        client.connect(short)
    return client


def _answer(client: socket.socket) -> bytes:
    """All that comes before the server closes the connection."""
    with client:
        answer = b""
        while part := client.recv(1 << 16):
            answer += part
        return answer
