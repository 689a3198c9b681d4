"""Asking the operator's own command whether the engine runs."""

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from ckptsync.errors import CannotTell

_PATIENCE: Final = 30  # seconds

_OURS: Final = frozenset(
    {"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}
)
"""What systemd says to this process alone."""

# pgrep says 1, 'systemctl is-active' 3. What sh, test, grep and pgrep all say of an error is 2.
_NOT_RUNNING: Final = frozenset({1, 3})


def engine_running(command: Sequence[str]) -> Callable[[], bool]:
    """A question that raises CannotTell unless the command answers yes or no."""

    def ask() -> bool:
        code = _exit_code(command)
        if code != 0 and code not in _NOT_RUNNING:
            raise _unclear(command, f"exited with {code}")
        return code == 0

    return ask


def environment_for_hooks(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in _OURS}


def _exit_code(command: Sequence[str]) -> int:
    try:
        return subprocess.run(  # noqa: S603 - the operator's command, without a shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=environment_for_hooks(os.environ),
            timeout=_PATIENCE,
            process_group=0,  # a Ctrl-C meant for us does not end it with half an answer
            check=False,
        ).returncode
    except subprocess.TimeoutExpired:
        raise _unclear(command, f"did not end within {_PATIENCE} s") from None
    except OSError as error:
        raise _unclear(command, f"could not be run: {error.strerror}") from error


def _unclear(command: Sequence[str], reason: str) -> CannotTell:
    return CannotTell(
        f"the hook engine_running, '{command[0]}', {reason}: whether the engine runs is unknown",
        hint="it has to exit with 0 if the engine runs, with 1 or 3 if it does not",
    )
