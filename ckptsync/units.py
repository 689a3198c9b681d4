"""Durations and sizes as a person writes and reads them."""

import re
from datetime import timedelta
from decimal import Decimal
from typing import Final

_NUMBER: Final = r"[0-9]{1,15}(?:\.[0-9]{1,9})?"

_SECONDS: Final = {
    "w": Decimal(604_800),
    "d": Decimal(86_400),
    "h": Decimal(3_600),
    "m": Decimal(60),
    "s": Decimal(1),
    "ms": Decimal("0.001"),
}
_DURATION: Final = re.compile("".join(f"(?:({_NUMBER}){unit})?" for unit in _SECONDS))

_PREFIXES: Final = "kMGTP"
_SIZE: Final = re.compile(rf"({_NUMBER})(?: ?([kKMGTP])(i?))?(?: ?B)?")


def parse_duration(text: str) -> timedelta:
    """Read `1h30m`, `36h`, `2d`, `1w`, `1.5s`, `500ms`: largest unit first, each unit once.

    Raises ValueError, as for what is finer than a microsecond or longer than 999,999,999 days.
    """
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"{text!r} is not a duration: write it as 500ms, 30s, 15m, 1h30m or 7d")
    pairs = zip(match.groups(), _SECONDS.values(), strict=True)
    seconds = sum((Decimal(number) * unit for number, unit in pairs if number), Decimal(0))
    microseconds = seconds * 1_000_000
    if microseconds != int(microseconds):
        raise ValueError(f"{text!r} is finer than a microsecond")
    try:
        return timedelta(microseconds=int(microseconds))
    except OverflowError:
        raise ValueError(f"{text!r} is too long for a duration") from None


def format_duration(duration: timedelta) -> str:
    """`1h30m`, `2.5s`, `500ms`: to the millisecond, in a form that parse_duration reads.

    A negative one has a `-` in front.
    """
    milliseconds = round(duration / timedelta(milliseconds=1))
    if milliseconds < 0:
        return "-" + format_duration(-duration)
    if 0 < milliseconds < 1_000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [
        f"{count}{unit}" for count, unit in ((days, "d"), (hours, "h"), (minutes, "m")) if count
    ]
    if rest or not parts:
        parts.append(f"{rest / 1_000:g}s" if rest % 1_000 else f"{rest // 1_000}s")
    return "".join(parts)


def format_age(age: timedelta) -> str:
    """`1h59m ago`: rounded down to its two largest units; `in 3m` if it lies ahead."""
    seconds = int(abs(age).total_seconds())
    step = next((step for step in (86_400, 3_600, 60) if seconds >= step), 1)
    fine = {86_400: 3_600, 3_600: 60}.get(step, 1)
    text = format_duration(timedelta(seconds=seconds - seconds % fine))
    return f"in {text}" if age < timedelta(0) and seconds else f"{text} ago"


def parse_size(text: str) -> int:
    """Read `64MiB`, `64Mi`, `100M`, `1.5 GB` or plain bytes: k M G T P, with `i` powers of 1024.

    Raises ValueError, as for what is no whole number of bytes.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a size: write it as 64MiB, 100M, 1.5GiB or 4096")
    power = _PREFIXES.index(match[2].replace("K", "k")) + 1 if match[2] else 0
    size = Decimal(match[1]) * (1024 if match[3] else 1000) ** power
    if size != int(size):
        raise ValueError(f"{text!r} is not a whole number of bytes")
    return int(size)


def format_size(size: int) -> str:
    """`1.5 KiB`: to one decimal, in a form that parse_size reads."""
    if size < 1024:
        return f"{size} B"
    power = next((power for power in range(1, 5) if round(size / 1024**power, 1) < 1024), 5)
    number = f"{size / 1024**power:.1f}".removesuffix(".0")
    return f"{number} {_PREFIXES[power - 1].upper()}iB"
