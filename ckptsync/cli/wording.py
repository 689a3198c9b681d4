"""Phrases that several commands use."""

from datetime import datetime

from ckptsync.cli.documents import utc
from ckptsync.repository.head import Entry


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def described(entry: Entry) -> str:
    return f"{entry.id} (engine id {entry.engine_id}, step {entry.step})"


def moment(at: datetime) -> str:
    return f"{utc(at):%Y-%m-%d %H:%M:%S} UTC"
