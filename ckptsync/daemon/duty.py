"""What a daemon does for a pipeline by itself, and when: decided from its role. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from ckptsync.daemon.pacing import Attempts, seconds_to_poll, seconds_to_push
from ckptsync.model import Role

_AT_MOST_EVERY: Final = timedelta(seconds=1)
"""For what is due as soon as the role asks for it, should it change nothing."""


class Duty(StrEnum):
    """The words are not those of orders: to ask for the one is not to ask for the other."""

    START = "start"
    """Find out what this node is."""
    FIRST_PULL = "first-pull"
    """Bring what a primary is to start its engine from."""
    LOOK = "look"
    """See whether the engine wrote a checkpoint that is to be pushed."""
    POLL = "poll"
    ACTIVATE = "resume-activation"
    HAND_OVER = "hand-over"
    """Wait for another node to take over, or go on here."""
    STOP_ENGINE = "stop-engine"
    RECONNECT = "reconnect"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    push_interval: timedelta | None
    """None: pushes are made on request only."""
    pull_interval: timedelta
    fence_check_interval: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a pipeline's next duty follows from."""

    role: Role | None
    """None before the start has found it."""
    paused: bool
    engine_unstopped: bool
    """It is fenced, and on_fenced has not succeeded yet."""
    activation_retriable: bool
    """It failed for a reason that may pass, or for one that is not known any more."""
    handing_over: bool
    """A switchover was interrupted."""
    activation_unfinished: bool
    """It may have taken the epoch."""
    first_pull_due: bool


def duty_of(standing: Standing, pace: Pace) -> Duty | None:
    """A pause ends pushing and polling; what somebody asked for before goes on."""
    match standing.role:
        case None:
            return Duty.START
        case Role.PRIMARY if standing.handing_over:
            return Duty.HAND_OVER
        case Role.PRIMARY if standing.first_pull_due:
            return Duty.FIRST_PULL
        case Role.PRIMARY:
            pushes = pace.push_interval is not None and not standing.paused
            return Duty.LOOK if pushes else None
        case Role.STANDBY if standing.activation_unfinished:
            return Duty.ACTIVATE  # its claim got no answer; it may be in head
        case Role.STANDBY:
            return None if standing.paused else Duty.POLL
        case Role.ACTIVATING:
            return Duty.ACTIVATE
        case Role.ACTIVATION_FAILED:
            return Duty.ACTIVATE if standing.activation_retriable else None
        case Role.RELEASED:
            return Duty.HAND_OVER
        case Role.FENCED:
            return Duty.STOP_ENGINE if standing.engine_unstopped else None
        case Role.UNFENCED:
            return Duty.RECONNECT
        case Role.DIVERGED | Role.STOPPED:
            return None


def seconds_until(
    duty: Duty, attempts: Attempts, pace: Pace, *, now: datetime, chance: float
) -> float:
    """How long to wait before a duty is done again; 0 if it is due. `chance` is from 0 to 1."""
    match duty:
        case Duty.LOOK if pace.push_interval is not None:
            return seconds_to_push(attempts, pace.push_interval, now=now, chance=chance)
        case Duty.POLL:
            return seconds_to_poll(attempts, pace.pull_interval, now=now, chance=chance)
        case _:
            return seconds_to_poll(attempts, _AT_MOST_EVERY, now=now, chance=chance)
