"""What systemd is told of the process, and what it told the process at its start."""

import os
import socket
import time
from collections.abc import Mapping, MutableMapping
from datetime import timedelta
from typing import Final

import structlog

from ckptsync.escaping import escaped

log = structlog.get_logger()

_LONGEST_STATUS: Final = 800  # characters; systemd drops a message of more than 4,096 bytes
_PATIENCE: Final = 5.0  # seconds for a service manager that does not read


class Notifier:
    """Speaks to the service manager that started this process; without one it does nothing.

    No method raises: the first message that cannot be sent is logged. A status is shown on one
    line by `systemctl status`. Safe to share between threads.
    """

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        """Takes its variables out of the environment, so that no child process inherits them."""
        self._address = environment.pop("NOTIFY_SOCKET", "")
        self._watchdog_interval = _watchdog_interval(
            environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", None)
        )
        self._failed = False

    @property
    def watchdog_interval(self) -> timedelta | None:
        """How often to call `watchdog`: twice in the time that systemd allows; None if never."""
        return self._watchdog_interval

    def ready(self, status: str) -> None:
        """The start, or a reload, is complete."""
        self._send("READY=1", _status(status))

    def extend(self, by: timedelta) -> None:
        """The start goes on; whether it still does is to be said again within this time."""
        self._send(f"EXTEND_TIMEOUT_USEC={by // timedelta(microseconds=1)}")

    def status(self, text: str) -> None:
        self._send(_status(text))

    def reloading(self) -> None:
        """A reload begins; `ready` must follow."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1_000}")

    def stopping(self, status: str) -> None:
        self._send("STOPPING=1", _status(status))

    def watchdog(self) -> None:
        """The process is alive."""
        self._send("WATCHDOG=1")

    def _send(self, *assignments: str) -> None:
        if not self._address:
            return
        # A leading @ stands for the zero byte of an abstract name.
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(_PATIENCE)
                sender.sendto("\n".join(assignments).encode(), address)
        except OSError as error:
            if not self._failed:
                self._failed = True
                log.warning("systemd.unreachable", socket=self._address, error=str(error))


def under_systemd(environment: Mapping[str, str] = os.environ, *, stderr: int = 2) -> bool:
    """Whether what is written to stderr goes to the journal, or to where a unit's file says.

    Terminals of a desktop are children of units too, and inherit INVOCATION_ID.
    """
    try:
        facts = os.fstat(stderr)
    except OSError:
        return False
    if environment.get("JOURNAL_STREAM") == f"{facts.st_dev}:{facts.st_ino}":
        return True
    return "INVOCATION_ID" in environment and not os.isatty(stderr)


def _status(text: str) -> str:
    return f"STATUS={escaped(text)[:_LONGEST_STATUS]}"


def _watchdog_interval(allowed: str, process: str | None) -> timedelta | None:
    if process not in (None, str(os.getpid())) or not allowed.isdecimal() or int(allowed) == 0:
        return None
    return timedelta(microseconds=int(allowed)) / 2
