"""What arrives at a socket such as systemd's."""

import os
import socket
import tempfile
import time
from collections.abc import Iterator, MutableMapping
from datetime import timedelta
from pathlib import Path

import pytest
import structlog

from ckptsync.daemon.systemd import Notifier, under_systemd


class Manager:
    """Listens as systemd does."""

    def __init__(self, name: str) -> None:
        self.environment: MutableMapping[str, str] = {"NOTIFY_SOCKET": name, "PATH": "/bin"}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(name.replace("@", "\0"))
        self._socket.settimeout(30)

    def heard(self) -> list[str]:
        return self._socket.recv(4_096).decode().split("\n")

    def heard_nothing(self) -> bool:
        self._socket.setblocking(False)
        try:
            self._socket.recv(4_096)
        except BlockingIOError:
            return True
        return False

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest) -> Iterator[Manager]:
    # Short, since a socket's path has 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="ckptsync") as directory:
        abstract = f"@ckptsync-{os.getpid()}-{time.monotonic_ns()}"
        name = abstract if request.param == "abstract" else str(Path(directory) / "notify")
        manager = Manager(name)
        yield manager
        manager.close()


def test_each_message_arrives_as_systemd_wants_it(manager: Manager) -> None:
    notifier = Notifier(manager.environment)

    notifier.status("waiting")
    assert manager.heard() == ["STATUS=waiting"]
    notifier.extend(timedelta(seconds=30))
    assert manager.heard() == ["EXTEND_TIMEOUT_USEC=30000000"]
    notifier.ready("2 pipelines")
    assert manager.heard() == ["READY=1", "STATUS=2 pipelines"]
    notifier.watchdog()
    assert manager.heard() == ["WATCHDOG=1"]
    notifier.stopping("ending a push")
    assert manager.heard() == ["STOPPING=1", "STATUS=ending a push"]


def test_a_reload_carries_the_time_at_which_it_began(manager: Manager) -> None:
    notifier = Notifier(manager.environment)

    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
    notifier.reloading()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000

    reloading, at = manager.heard()
    assert reloading == "RELOADING=1"
    assert before <= int(at.removeprefix("MONOTONIC_USEC=")) <= after


def test_a_status_cannot_forge_a_message(manager: Manager) -> None:
    Notifier(manager.environment).status("pushing a\nREADY=1\r\x1b[2K\udc80é")

    assert manager.heard() == [r"STATUS=pushing a\x0aREADY=1\x0d\x1b[2K\xdc80é"]


def test_a_long_status_is_cut_to_what_systemd_takes(manager: Manager) -> None:
    Notifier(manager.environment).ready("🦀" * 10_000)

    ready, status = manager.heard()
    assert ready == "READY=1"
    assert status == "STATUS=" + "🦀" * 800


def test_its_variables_leave_the_environment(manager: Manager) -> None:
    manager.environment.update(WATCHDOG_USEC="30000000", WATCHDOG_PID=str(os.getpid()))

    notifier = Notifier(manager.environment)

    assert manager.environment == {"PATH": "/bin"}
    assert notifier.watchdog_interval == timedelta(seconds=15)
    notifier.watchdog()
    assert manager.heard() == ["WATCHDOG=1"]


def test_by_default_they_leave_that_of_the_process(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.environment["NOTIFY_SOCKET"])

    Notifier().status("here")

    assert manager.heard() == ["STATUS=here"]
    assert "NOTIFY_SOCKET" not in os.environ


def test_without_a_service_manager_nothing_is_said(manager: Manager) -> None:
    notifier = Notifier({})

    with structlog.testing.capture_logs() as logged:
        notifier.ready("x")
        notifier.watchdog()

    assert logged == []
    assert notifier.watchdog_interval is None
    assert manager.heard_nothing()


def test_a_manager_that_is_gone_is_told_of_once_and_heard_again_later(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "n"))
    notifier = Notifier(manager.environment)
    manager.close()

    with structlog.testing.capture_logs() as logged:
        for _ in range(3):
            notifier.watchdog()
    (tmp_path / "n").unlink()
    again = Manager(str(tmp_path / "n"))
    notifier.status("back")

    assert [entry["event"] for entry in logged] == ["systemd.unreachable"]
    assert "refused" in logged[0]["error"]
    assert again.heard() == ["STATUS=back"]
    again.close()


@pytest.mark.parametrize("name", ["/" + "x" * 200, "/nonesuch/notify", "vsock:2:1234"])
def test_an_address_that_leads_nowhere_is_no_reason_to_fail(name: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": name})

    with structlog.testing.capture_logs() as logged:
        notifier.ready("x")

    assert [entry["log_level"] for entry in logged] == ["warning"]


@pytest.mark.parametrize(
    ("usec", "pid", "interval"),
    [
        ("3000000", None, timedelta(seconds=1.5)),
        ("3000000", "ours", timedelta(seconds=1.5)),
        ("3000000", "1", None),
        ("3000000", "", None),
        ("0", None, None),
        ("-1", None, None),
        ("soon", None, None),
        (None, "ours", None),
    ],
)
def test_the_watchdog_is_fed_twice_in_its_time_if_it_is_meant_for_this_process(
    usec: str | None, pid: str | None, interval: timedelta | None
) -> None:
    process = str(os.getpid()) if pid == "ours" else pid
    given = {"WATCHDOG_USEC": usec, "WATCHDOG_PID": process}

    notifier = Notifier({key: value for key, value in given.items() if value is not None})

    assert notifier.watchdog_interval == interval


def test_the_journal_is_known_by_its_device_and_inode(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("w") as journal, (tmp_path / "other").open("w") as other:
        facts = os.fstat(journal.fileno())
        environment = {"JOURNAL_STREAM": f"{facts.st_dev}:{facts.st_ino}"}

        assert under_systemd(environment, stderr=journal.fileno())
        assert not under_systemd(environment, stderr=other.fileno())
        assert not under_systemd({"JOURNAL_STREAM": "nonsense"}, stderr=journal.fileno())
        assert not under_systemd({}, stderr=journal.fileno())


def test_a_unit_that_logs_to_a_file_is_under_systemd_and_a_terminal_in_a_unit_is_not(
    tmp_path: Path,
) -> None:
    environment = {"INVOCATION_ID": "0" * 32}
    master, terminal = os.openpty()
    try:
        with (tmp_path / "log").open("w") as file:
            assert under_systemd(environment, stderr=file.fileno())
        assert not under_systemd(environment, stderr=terminal)
    finally:
        os.close(master)
        os.close(terminal)


def test_a_closed_stderr_is_no_journal() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)

    assert not under_systemd({"INVOCATION_ID": "0" * 32}, stderr=writing)
