"""What is due by itself, and when: tables."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from ckptsync.daemon.duty import Duty, Pace, Standing, duty_of, seconds_until
from ckptsync.daemon.pacing import Attempts
from ckptsync.model import Role
from ckptsync.operations.orders import KINDS

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PACE = Pace(
    push_interval=timedelta(minutes=5),
    pull_interval=timedelta(seconds=10),
    fence_check_interval=timedelta(seconds=5),
)
BY_HAND = replace(PACE, push_interval=None)
PLAIN = Standing(
    role=None,
    paused=False,
    engine_unstopped=False,
    activation_retriable=False,
    handing_over=False,
    activation_unfinished=False,
    first_pull_due=False,
)


@pytest.mark.parametrize(
    ("role", "duty"),
    [
        (None, Duty.START),
        (Role.PRIMARY, Duty.LOOK),
        (Role.STANDBY, Duty.POLL),
        (Role.ACTIVATING, Duty.ACTIVATE),
        (Role.ACTIVATION_FAILED, None),
        (Role.RELEASED, Duty.HAND_OVER),
        (Role.FENCED, None),
        (Role.UNFENCED, Duty.RECONNECT),
        (Role.DIVERGED, None),
        (Role.STOPPED, None),
    ],
)
def test_every_role_has_its_duty(role: Role | None, duty: Duty | None) -> None:
    assert duty_of(replace(PLAIN, role=role), PACE) is duty


@pytest.mark.parametrize(
    ("standing", "pace", "duty"),
    [
        (replace(PLAIN, role=Role.PRIMARY, paused=True), PACE, None),
        (replace(PLAIN, role=Role.PRIMARY), BY_HAND, None),
        (replace(PLAIN, role=Role.PRIMARY, handing_over=True), PACE, Duty.HAND_OVER),
        (replace(PLAIN, role=Role.PRIMARY, handing_over=True), BY_HAND, Duty.HAND_OVER),
        (replace(PLAIN, role=Role.STANDBY, paused=True), PACE, None),
        (
            replace(PLAIN, role=Role.ACTIVATION_FAILED, activation_retriable=True),
            PACE,
            Duty.ACTIVATE,
        ),
        (replace(PLAIN, role=Role.STANDBY, activation_unfinished=True), PACE, Duty.ACTIVATE),
        (replace(PLAIN, role=Role.PRIMARY, first_pull_due=True), BY_HAND, Duty.FIRST_PULL),
        (replace(PLAIN, role=Role.FENCED, engine_unstopped=True), PACE, Duty.STOP_ENGINE),
    ],
)
def test_some_duties_depend_on_more_than_the_role(
    standing: Standing, pace: Pace, duty: Duty | None
) -> None:
    assert duty_of(standing, pace) is duty


def test_a_pause_ends_pushing_and_polling_and_nothing_else() -> None:
    for role, *flags in product([None, *Role], *[[False, True]] * 5):
        plain = Standing(
            role=role,
            paused=False,
            engine_unstopped=flags[0],
            activation_retriable=flags[1],
            handing_over=flags[2],
            activation_unfinished=flags[3],
            first_pull_due=flags[4],
        )
        duty = duty_of(plain, PACE)
        paused = duty_of(replace(plain, paused=True), PACE)

        assert paused is (None if duty in (Duty.LOOK, Duty.POLL) else duty), plain


def test_no_duty_is_called_as_an_order_is() -> None:
    assert not {str(duty) for duty in Duty} & KINDS.keys()


@pytest.mark.parametrize("duty", Duty)
def test_what_was_never_tried_is_due_at_once(duty: Duty) -> None:
    assert seconds_until(duty, Attempts(), PACE, now=NOW, chance=1.0) == 0.0


@pytest.mark.parametrize("duty", Duty)
def test_what_failed_waits_longer_each_time_and_never_less_than_half(duty: Duty) -> None:
    attempts = Attempts()
    for failures, seconds in enumerate([1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300], 1):
        attempts = attempts.failed(NOW)
        assert attempts.failures == failures
        assert seconds_until(duty, attempts, PACE, now=NOW, chance=1.0) == seconds
        assert seconds_until(duty, attempts, PACE, now=NOW, chance=0.0) == seconds / 2


@pytest.mark.parametrize("duty", Duty)
def test_the_time_since_a_failure_counts(duty: Duty) -> None:
    attempts = Attempts().failed(NOW).failed(NOW).failed(NOW)
    later = NOW + timedelta(seconds=3)

    assert seconds_until(duty, attempts, PACE, now=later, chance=1.0) == 1.0
    assert seconds_until(duty, attempts, PACE, now=later, chance=0.0) == 0.0


@pytest.mark.parametrize(
    ("duty", "attempts", "seconds"),
    [
        (Duty.LOOK, Attempts().succeeded(NOW), 300.0),
        (Duty.LOOK, Attempts().found_nothing(NOW), 5.0),
        (Duty.POLL, Attempts().found_nothing(NOW), 10.0),
        *(
            (duty, Attempts().found_nothing(NOW), 1.0)
            for duty in Duty
            if duty not in (Duty.LOOK, Duty.POLL)
        ),
    ],
)
def test_no_duty_follows_itself_at_once(duty: Duty, attempts: Attempts, seconds: float) -> None:
    assert seconds_until(duty, attempts, PACE, now=NOW, chance=0.0) == seconds
