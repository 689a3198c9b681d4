"""Catalog pages: older entries, spilled from head so that head stays small."""

from dataclasses import dataclass
from typing import Final, Literal

import zstandard

from ckptsync.errors import IntegrityError
from ckptsync.hashing import Hash
from ckptsync.repository import keys
from ckptsync.repository.head import Entry, Head, Page
from ckptsync.repository.untrusted import Record, inflate, parse

SPILL_ABOVE: Final = 512
SPILL: Final = 256
STORED_LIMIT: Final = 8 << 20
INFLATED_LIMIT: Final = 32 << 20


class CatalogPage(Record):
    format: Literal["ckptsync/catalog"] = "ckptsync/catalog"
    version: Literal[1] = 1
    repository_id: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spill:
    """A page to write, and the head that refers to it."""

    key: str
    data: bytes
    head: Head


def spill(head: Head, hash_: Hash) -> Spill | None:
    """Move the oldest entries of a head that has too many into a page; None if it has not.

    `latest` always stays in head: it has the greatest seq or is named by a fork of old.
    """
    if len(head.checkpoints) <= SPILL_ABOVE:
        return None
    movable = [entry for entry in head.checkpoints if entry.id != head.latest][:SPILL]
    moved = {entry.id for entry in movable}
    page = CatalogPage(repository_id=head.repository_id, entries=tuple(movable))
    data = zstandard.compress(page.model_dump_json().encode(), 3)
    reference = Page(
        key=keys.catalog(),
        digest=hash_.of(data).hex(),
        seq=(movable[0].seq, movable[-1].seq),
        count=len(movable),
    )
    slim = head.model_copy(
        update={
            "checkpoints": tuple(entry for entry in head.checkpoints if entry.id not in moved),
            "pages": (*head.pages, reference),
        }
    )
    return Spill(key=reference.key, data=data, head=slim)


def decode(data: bytes, page: Page, head: Head, hash_: Hash, what: str) -> tuple[Entry, ...]:
    """The entries of a stored page. Raises IntegrityError if it is not what head refers to."""
    if hash_.of(data).hex() != page.digest:
        raise IntegrityError(f"{what} is damaged: its digest is not the one that head names")
    read = parse(CatalogPage, inflate(data, limit=INFLATED_LIMIT, what=what), what)
    if read.repository_id != head.repository_id or len(read.entries) != page.count:
        raise IntegrityError(f"{what} is not the page that head names")
    return read.entries
