"""The operator's own commands, and what they are told."""

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

import structlog

from ckptsync import spawn
from ckptsync.errors import CannotTell, HookFailed

log = structlog.get_logger()


class Hook(StrEnum):
    ENGINE_RUNNING = "engine_running"
    """Exits with 0 if the engine runs, with 1 or 3 if it does not; anything else says neither."""
    PRE_PUSH = "pre_push"
    PRE_ACTIVATE = "pre_activate"
    """May veto an activation."""
    ON_ACTIVATE = "on_activate"
    """Starts the engine."""
    ON_FENCED = "on_fenced"
    """Stops the engine: another node took over."""
    ON_RELEASE = "on_release"
    """Lets the engine take a checkpoint and stop: another node is to take over."""
    ON_ROLE_CHANGE = "on_role_change"


# pgrep says 1, 'systemctl is-active' 3. What sh, test, grep and pgrep all say of an error is 2.
_ANSWERS: Final[Mapping[int | None, bool]] = {0: True, 1: False, 3: False}
_ANSWER_WITHIN: Final = timedelta(seconds=30)

_OURS: Final = frozenset(
    {"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}
)
"""What systemd says to this process alone."""

_LONGEST_FACT: Final = 4096  # characters; one of 128 KiB would keep the kernel from running it
_LONGEST_LINE: Final = 200  # characters of an error


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Any thread may run a hook at any time.

    If its time is up, or this process has to stop, a command is ended with all that it started.
    What it leaves running when it ends by itself is left alone.
    """

    commands: Mapping[Hook, tuple[str, ...]]
    timeout: timedelta
    """For each to end."""
    environment: Mapping[str, str]
    """Of every command, beside that of this process."""

    def has(self, hook: Hook) -> bool:
        return hook in self.commands

    def run(
        self, hook: Hook, facts: Mapping[str, str], *, stop: threading.Event | None = None
    ) -> None:
        """Run a hook to its end; does nothing where it is not configured.

        A fact `role` becomes CKPTSYNC_ROLE; its text may be shortened, and loses what no variable
        can hold. Raises HookFailed unless the command exits with 0 in time; Cancelled within
        seconds after `stop` is set.
        """
        if not self.has(hook):
            return
        ended = self._run(hook, facts, self.timeout, stop)
        if ended.code == 0:
            log.info("hook.done", hook=hook, output=ended.output)
            return
        if ended.output:
            log.error("hook.failed", hook=hook, output=ended.output)
        raise HookFailed(self._story(hook, ended))

    def engine_running(self, *, stop: threading.Event | None = None) -> bool:
        """Ask the hook of this name. Raises CannotTell unless it says yes or no; Cancelled."""
        hook = Hook.ENGINE_RUNNING
        ended = self._run(hook, {}, min(self.timeout, _ANSWER_WITHIN), stop)
        if ended.code in _ANSWERS:
            return _ANSWERS[ended.code]
        raise CannotTell(
            f"whether the engine runs is unknown: {self._story(hook, ended)}",
            hint="it has to exit with 0 if the engine runs, with 1 or 3 if it does not",
        )

    def _run(
        self,
        hook: Hook,
        facts: Mapping[str, str],
        timeout: timedelta,
        stop: threading.Event | None,
    ) -> spawn.Ended:
        environment: dict[str, str | bytes] = {
            **{name: value for name, value in os.environ.items() if name not in _OURS},
            **self.environment,
            "CKPTSYNC_HOOK": str(hook),
            **{f"CKPTSYNC_{name.upper()}": _variable(fact) for name, fact in facts.items()},
        }
        return spawn.run(self.commands[hook], environment, timeout=timeout, stop=stop)

    def _story(self, hook: Hook, ended: spawn.Ended) -> str:
        said = f": {ended.output[-1][:_LONGEST_LINE]}" if ended.output else ""
        return f"the hook {hook}, '{self.commands[hook][0]}', {ended.how}{said}"


def _variable(fact: str) -> bytes:
    # A fact may come from a bucket or from a request, and must not keep a command from running.
    return fact.replace("\0", "\N{REPLACEMENT CHARACTER}")[:_LONGEST_FACT].encode(errors="replace")
