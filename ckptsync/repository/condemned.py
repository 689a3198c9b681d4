"""Condemned lists: the keys that one sweep may delete at any moment.

A list is named in head before the first of its keys is deleted, so whoever is about to commit
can see whether an upload of his is among them.
"""

from typing import Final, Literal

from ckptsync.errors import IntegrityError
from ckptsync.hashing import Hash
from ckptsync.repository.head import CondemnedList, Count
from ckptsync.repository.untrusted import One, Record, inflate, parse

STORED_LIMIT: Final = 64 << 20
INFLATED_LIMIT: Final = 256 << 20


class Condemned(Record):
    format: Literal["ckptsync/condemned"] = "ckptsync/condemned"
    version: One = 1
    repository_id: str
    generation: Count
    keys: tuple[str, ...]


def decode(data: bytes, named: CondemnedList, hash_: Hash, what: str) -> frozenset[str]:
    """The keys of a stored list. Raises IntegrityError if it is not what head refers to."""
    if hash_.of(data).hex() != named.digest:
        raise IntegrityError(f"{what} is damaged: its digest is not the one that head names")
    read = parse(Condemned, inflate(data, limit=INFLATED_LIMIT, what=what), what)
    if read.generation != named.generation:
        raise IntegrityError(f"{what} is of generation {read.generation}, not {named.generation}")
    return frozenset(read.keys)
