"""Condemned lists: the keys that one sweep may delete at any moment.

A list is named in head before the first of its keys is deleted, so whoever is about to commit
can see whether an upload of his is among them.
"""

from collections.abc import Iterable
from typing import Annotated, Final, Literal

import zstandard
from pydantic import AfterValidator

from ckptsync.errors import IntegrityError
from ckptsync.hashing import Hash
from ckptsync.repository import keys
from ckptsync.repository.head import CondemnedList, Count, Sweep
from ckptsync.repository.untrusted import One, Record, inflate, parse
from ckptsync.stores.checks import key_fault

STORED_LIMIT: Final = 64 << 20
INFLATED_LIMIT: Final = 256 << 20
LISTS_KEPT: Final = 64
"""In head."""
MOST: Final = 50_000
"""Keys that we put on one list; a reader takes more."""
_LAST: Final = (1 << 63) - 1
"""Generation that a head can name."""
_SWEPT: Final = (keys.CHUNKS, keys.PACKS, keys.MANIFESTS, keys.CATALOG, keys.CONDEMNED)


def is_sweepable(key: str) -> bool:
    """Whether a sweep may ever delete an object of this name."""
    return key.startswith(_SWEPT) and key_fault(key) is None


def _sweepable(key: str) -> str:
    if not is_sweepable(key):
        raise ValueError(f"{key!r:.80} is not the key of anything that a sweep deletes")
    return key


class Condemned(Record):
    format: Literal["ckptsync/condemned"] = "ckptsync/condemned"
    version: One = 1
    repository_id: str
    generation: Count
    keys: tuple[Annotated[str, AfterValidator(_sweepable)], ...]


def encode(repository_id: str, generation: int, keys: Iterable[str]) -> bytes:
    """The stored form of a list, the keys in order and each once.

    Raises ValueError if there are more than MOST, or one that is not sweepable; IntegrityError
    if nobody could read the list, or if there is no such generation.
    """
    if generation > _LAST:
        raise IntegrityError(
            f"head.json of repository {repository_id} counts {generation - 1} generations of "
            "sweeps: nobody has counted up to that, and there is no number beyond it",
            hint="put an older version of head.json back, then: ckptsync repair accept-rollback",
        )
    doomed = tuple(sorted(set(keys)))
    if len(doomed) > MOST:
        raise ValueError(f"{len(doomed)} keys for a condemned list, which takes {MOST}")
    record = Condemned(repository_id=repository_id, generation=generation, keys=doomed)
    text = record.model_dump_json().encode()
    data = zstandard.compress(text, 3)
    if len(text) > INFLATED_LIMIT or len(data) > STORED_LIMIT:
        raise IntegrityError(
            f"a condemned list of {len(doomed)} keys of repository {repository_id} would take "
            f"{len(text)} bytes ({len(data)} stored); {INFLATED_LIMIT} ({STORED_LIMIT}) are allowed"
        )
    return data


def decode(
    data: bytes, named: CondemnedList, hash_: Hash, what: str, *, repository_id: str
) -> frozenset[str]:
    """The keys of a stored list. Raises IntegrityError if it is not what head refers to."""
    if hash_.of(data).hex() != named.digest:
        raise IntegrityError(f"{what} is damaged: its digest is not the one that head names")
    read = parse(Condemned, inflate(data, limit=INFLATED_LIMIT, what=what), what)
    if read.repository_id != repository_id:
        raise IntegrityError(f"{what} belongs to repository {read.repository_id}")
    if read.generation != named.generation:
        raise IntegrityError(f"{what} is of generation {read.generation}, not {named.generation}")
    return frozenset(read.keys)


def with_list(sweep: Sweep, named: CondemnedList) -> Sweep:
    """Add a list of a new generation; the newest LISTS_KEPT stay.

    Raises ValueError unless the generation is beyond that of the sweeps before.
    """
    if named.generation <= sweep.generation:
        raise ValueError(f"generation {named.generation} does not follow {sweep.generation}")
    lists = sorted((*sweep.lists, named), key=lambda each: each.generation)
    kept = tuple(lists[-LISTS_KEPT:])
    return sweep.model_copy(update={"generation": named.generation, "lists": kept})


def done(sweep: Sweep, generation: int) -> Sweep:
    """Note that every key on the list of this generation was deleted."""
    return sweep.model_copy(
        update={
            "lists": tuple(
                each.model_copy(update={"done": True}) if each.generation == generation else each
                for each in sweep.lists
            )
        }
    )
