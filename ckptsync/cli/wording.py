"""Phrases that several commands use."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ckptsync.moments import utc
from ckptsync.repository.head import Keep
from ckptsync.units import format_size


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number:,} {noun}s"


def described(checkpoint: Mapping[str, Any]) -> str:
    """By the document of one in the bucket."""
    return "{id} (engine id {engine_id}, step {step})".format_map(checkpoint)


def moment(at: datetime) -> str:
    return f"{utc(at):%Y-%m-%d %H:%M:%S} UTC"


def state(entry_state: str, *, latest: bool, keeps: Mapping[str, Keep]) -> str:
    """Of a checkpoint in the bucket; `keeps` are those that hold, by name."""
    names = (
        name if keep.until is None else f"{name} (until {moment(keep.until)})"
        for name, keep in keeps.items()
    )
    kept = [f"kept as {', '.join(names)}"] if keeps else []
    return ", ".join((entry_state, *(["latest"] if latest else []), *kept))


def orphaned(orphans: Mapping[str, Any]) -> str:
    """What a look through a bucket found that nothing refers to."""
    number, young = orphans["objects"], orphans["young_objects"]
    size, young_size = format_size(orphans["bytes"]), format_size(orphans["young_bytes"])
    are, stay = ("is", "stays") if young == 1 else ("are", "stay")
    if number:
        told = f"found {counted(number, 'object')} ({size}) that nothing refers to"
        more = f"; {young:,} more ({young_size}) {are} less than a day old, and {stay} for now"
    else:
        told = "found nothing that no checkpoint refers to"
        few = counted(young, "object")
        more = f", but for {few} ({young_size}) less than a day old, which {stay} for now"
    return told + more if young else told


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
