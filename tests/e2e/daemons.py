"""Hosts with a daemon: `ckptsync run` as a real process, told of as a service manager is."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from ckptsync.api.client import Client
from ckptsync.daemon.snapshot import Snapshot
from tests.e2e.site import COMMAND, PATIENCE, Site

T = TypeVar("T")

_GLANCE: Final = 0.02  # seconds


class Daemon:
    """A running `ckptsync run`. What it says on stderr is in `log`, a line of JSON an event."""

    def __init__(self, site: Site, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.site = site
        self.process = process
        self._log = log
        self.said: list[str] = []
        """What the service manager was told so far, a message each."""

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def events(self) -> list[dict[str, Any]]:
        """The log, but for what is said last where it ends badly."""
        lines = self.log.rpartition("\n")[0].splitlines()  # the last may be half written
        return [json.loads(line) for line in lines if line.startswith("{")]

    @property
    def states(self) -> list[str]:
        """The first word of each message, without statuses and signs of life."""
        words = (each.partition("=")[0] for each in self.said)
        return [word for word in words if word not in ("STATUS", "WATCHDOG")]

    @property
    def status(self) -> str:
        """The newest that the service manager shows."""
        lines = (line for each in self.said for line in each.split("\n"))
        return [line for line in lines if line.startswith("STATUS=")][-1].removeprefix("STATUS=")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """As the loss of power would."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self) -> int:
        """As the service manager would; the exit code."""
        self.process.terminate()
        return self.ended()

    def ended(self) -> int:
        """Wait for its end; the exit code."""
        return self.process.wait(PATIENCE)

    def snapshot(self, name: str = "orders") -> Snapshot:
        """What it says of a pipeline, asked as commands ask it."""
        with Client(self.site.state, name) as client:
            return client.snapshot()

    def document(self, name: str = "orders") -> Any:
        """What `ckptsync status --json` says of a pipeline."""
        (pipeline,) = self.site.run("status", name, "--json").document["pipelines"]
        return pipeline

    def role(self) -> str:
        role: str = self.document()["role"]["role"]
        return role


@contextmanager
def daemon(
    site: Site,
    *arguments: str,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    ready: bool = True,
) -> Iterator[Daemon]:
    """Start it and wait until it is ready, or has ended; at the end it is killed."""
    if not site.config.exists():
        site.write_config()
    log = site.home / "daemon.log"
    with (
        tempfile.TemporaryDirectory(prefix="ckptsync-") as directory,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        log.open("ab") as stderr,
    ):
        address = f"{directory}/notify"
        manager.bind(address)
        manager.settimeout(_GLANCE)
        process = subprocess.Popen(
            [COMMAND, *options, "run", *arguments],
            env=site.environment({"NOTIFY_SOCKET": address, **(environment or {})}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
        running = Daemon(site, process, log)
        over = threading.Event()
        manager_at_work = threading.Thread(target=_listen, args=(manager, running.said, over))
        manager_at_work.start()
        try:
            if ready:
                eventually(lambda: "READY" in running.states or process.poll() is not None)
            yield running
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGCONT)  # SIGKILL alone would do; ptrace may not
                process.kill()
                process.wait()
            over.set()
            manager_at_work.join()
            assert site.secret is None or site.secret not in running.log, "a secret was logged"


def _listen(manager: socket.socket, said: list[str], over: threading.Event) -> None:
    """All the time, as a service manager does: nobody could say anything if its queue were full."""
    while not over.is_set():
        with contextlib.suppress(TimeoutError):
            said.append(manager.recv(65536).decode())


def eventually(ask: Callable[[], T | None], *, patience: float = PATIENCE) -> T:
    """What `ask` gives as soon as that is true. Raises AssertionError if it never is."""
    deadline = time.monotonic() + patience
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"it never came to pass: {answer!r}"
        time.sleep(_GLANCE)
