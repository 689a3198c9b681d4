"""Phrases that several commands use."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ckptsync.moments import utc
from ckptsync.repository.head import Keep


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def described(checkpoint: Mapping[str, Any]) -> str:
    """By the document of one in the bucket."""
    return "{id} (engine id {engine_id}, step {step})".format_map(checkpoint)


def moment(at: datetime) -> str:
    return f"{utc(at):%Y-%m-%d %H:%M:%S} UTC"


def state(entry_state: str, *, latest: bool, keeps: Mapping[str, Keep]) -> str:
    """Of a checkpoint in the bucket; `keeps` are those that hold, by name."""
    kept = (
        f"kept as '{name}'" + ("" if keep.until is None else f" until {moment(keep.until)}")
        for name, keep in keeps.items()
    )
    return ", ".join((entry_state, *(["latest"] if latest else []), *kept))


def set_aside(document: Mapping[str, Any]) -> str:
    """What became of a storage, by the document of what emptied it."""
    quarantine = document["quarantine"]
    if quarantine is None:
        return "its storage was empty"
    return f"what its storage held is in {quarantine}"


def left_behind(document: Mapping[str, Any]) -> str | None:
    """The loss of an activation, by its document; None where there is none."""
    number = document["left_behind"]
    if not number:
        return None
    return f"left behind: {counted(number, 'commit')} that {document['bucket']} has beyond that"
