"""What is written is read back; what cannot be meant is refused with the accepted forms."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptsync.units import format_age, format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500ms", timedelta(milliseconds=500)),
        ("30s", timedelta(seconds=30)),
        ("1.5s", timedelta(seconds=1.5)),
        ("15m", timedelta(minutes=15)),
        ("1h30m", timedelta(minutes=90)),
        ("36h", timedelta(hours=36)),
        ("1w", timedelta(days=7)),
        ("1w1d", timedelta(days=8)),
        ("1d2h3m4s5ms", timedelta(days=1, hours=2, minutes=3, seconds=4, milliseconds=5)),
        ("0s", timedelta(0)),
    ],
)
def test_a_duration_is_read(text: str, expected: timedelta) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    "text", ["", "5", "m", "-5s", "5 s", "5x", "30m1h", "1h1h", "1e3s", "٣s", "5s\n", "1.s", "NaNs"]
)
def test_what_is_no_duration_is_refused_with_the_accepted_forms(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a duration: write it as 500ms, 30s, 15m"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["999999999999999d", "0.000000001s"])
def test_a_duration_that_cannot_be_held_exactly_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"too long|finer than"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=10**14))
def test_a_formatted_duration_is_read_back_to_the_millisecond(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)

    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0s"),
        (0.25, "250ms"),
        (59.9996, "1m"),
        (90, "1m30s"),
        (62.345, "1m2.345s"),
        (5400, "1h30m"),
        (86400, "1d"),
        (-90, "-1m30s"),
    ],
)
def test_a_duration_is_written_shortly(seconds: float, expected: str) -> None:
    assert format_duration(timedelta(seconds=seconds)) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0s ago"),
        (0.4, "0s ago"),
        (12, "12s ago"),
        (125, "2m5s ago"),
        (7199, "1h59m ago"),
        (90000, "1d1h ago"),
        (-180, "in 3m"),
        (-0.4, "0s ago"),
    ],
)
def test_an_age_has_two_units_at_most(seconds: float, expected: str) -> None:
    assert format_age(timedelta(seconds=seconds)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4096B", 4096),
        ("100k", 100_000),
        ("100K", 100_000),
        ("100M", 100_000_000),
        ("100MB", 100_000_000),
        ("64MiB", 64 << 20),
        ("4Gi", 4 << 30),
        ("1.5 KiB", 1536),
        ("2T", 2 * 10**12),
        ("1PiB", 1 << 50),
    ],
)
def test_a_size_is_read(text: str, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize(
    "text", ["", "MiB", "-1", "1m", "1 ", "1iB", "64 MiBs", "1e6", "٣", "0x10"]
)
def test_what_is_no_size_is_refused_with_the_accepted_forms(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a size: write it as 64MiB"):
        parse_size(text)


def test_a_part_of_a_byte_is_refused() -> None:
    with pytest.raises(ValueError, match="whole number of bytes"):
        parse_size("0.1KiB")


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1024 * 1024 - 1, "1 MiB"),
        (96 << 20, "96 MiB"),
        (5 << 60, "5120 PiB"),
    ],
)
def test_a_size_is_written_for_a_person(size: int, expected: str) -> None:
    assert format_size(size) == expected


@given(st.integers(min_value=0, max_value=1023), st.integers(min_value=0, max_value=5))
def test_a_round_size_is_read_back_exactly(count: int, power: int) -> None:
    size = count * 1024**power

    assert parse_size(format_size(size)) == size
