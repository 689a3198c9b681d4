"""Catalog pages: older entries, spilled from head so that head stays small."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import zstandard

from ckptsync.errors import IntegrityError
from ckptsync.hashing import Hash
from ckptsync.repository import keys
from ckptsync.repository.head import LIMIT, Entry, Head, Page
from ckptsync.repository.untrusted import One, Record, inflate, parse

SPILL_ABOVE: Final = 512
SPILL: Final = 256
STORED_LIMIT: Final = 8 << 20
INFLATED_LIMIT: Final = 32 << 20


class CatalogPage(Record):
    format: Literal["ckptsync/catalog"] = "ckptsync/catalog"
    version: One = 1
    repository_id: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spill:
    """A page to write, and the head that refers to it."""

    key: str
    data: bytes
    head: Head


def spill(head: Head, hash_: Hash) -> Spill | None:
    """Move the oldest entries of a head that has too many, or too long ones, into a page.

    None if it has not. `latest` always stays in head, and so does an entry that is older than
    the newest page. Raises IntegrityError if nobody could read the page.
    """
    if len(head.checkpoints) <= SPILL_ABOVE and not _is_heavy(head):
        return None
    paged = head.pages[-1].seq[1] if head.pages else 0
    movable = [each for each in head.checkpoints if each.seq > paged and each.id != head.latest]
    movable = movable[: min(SPILL, -(-len(movable) // 2))]
    if not movable:
        return None
    moved = {entry.id for entry in movable}
    page = CatalogPage(repository_id=head.repository_id, entries=tuple(movable))
    reference, data = page_of(page, hash_)
    slim = head.model_copy(
        update={
            "checkpoints": tuple(entry for entry in head.checkpoints if entry.id not in moved),
            "pages": (*head.pages, reference),
        }
    )
    return Spill(key=reference.key, data=data, head=slim)


def page_of(record: CatalogPage, hash_: Hash) -> tuple[Page, bytes]:
    """A page to write under a fresh name, and how head refers to it.

    Its entries, one at least, are in order of seq. Raises IntegrityError if nobody could read it.
    """
    entries = record.entries
    text = record.model_dump_json().encode()
    data = zstandard.compress(text, 3)
    if len(text) > INFLATED_LIMIT or len(data) > STORED_LIMIT:
        raise IntegrityError(
            f"a catalog page of {len(entries)} checkpoints of repository {record.repository_id} "
            f"would take {len(text)} bytes ({len(data)} stored); "
            f"{INFLATED_LIMIT} ({STORED_LIMIT}) are allowed",
            hint="'ckptsync list --remote' shows what it holds; look for ids of unusual length",
        )
    reference = Page(
        key=keys.catalog(),
        digest=hash_.of(data).hex(),
        seq=(entries[0].seq, entries[-1].seq),
        count=len(entries),
    )
    return reference, data


def _is_heavy(head: Head) -> bool:
    """Whether the entries take more than half of what head may take."""
    return sum(len(entry.model_dump_json()) for entry in head.checkpoints) > LIMIT // 2


def decode(data: bytes, page: Page, head: Head, hash_: Hash, what: str) -> CatalogPage:
    """Read a stored page. Raises IntegrityError if it is not what head refers to."""
    if hash_.of(data).hex() != page.digest:
        raise IntegrityError(f"{what} is damaged: its digest is not the one that head names")
    read = parse(CatalogPage, inflate(data, limit=INFLATED_LIMIT, what=what), what)
    if read.repository_id != head.repository_id or len(read.entries) != page.count:
        raise IntegrityError(f"{what} is not the page that head names")
    seqs = [page.seq[0] - 1, *(entry.seq for entry in read.entries)]
    in_order = all(before < after for before, after in pairwise(seqs)) and seqs[-1] <= page.seq[1]
    if not in_order or len({entry.id for entry in read.entries}) < page.count:
        raise IntegrityError(
            f"{what} is damaged: its checkpoints are not {page.count} in order, "
            f"from seq {page.seq[0]} to {page.seq[1]}"
        )
    return read
