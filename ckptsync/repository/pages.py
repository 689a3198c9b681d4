"""Changing entries wherever they lie: in head, or in pages that are then written anew."""

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ckptsync.model import CheckpointId
from ckptsync.repository import catalog, keys
from ckptsync.repository.catalog import CatalogPage
from ckptsync.repository.head import Entry, Head, Page
from ckptsync.repository.repository import Repository

MERGED_AT_MOST: Final = 128
"""Entries of a page that was made of several."""

Edit = Callable[[Entry], Entry | None]
"""Id and seq stay as they are. None: the entry goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited:
    """What became of a head; the pages that it names are in the store."""

    head: Head
    written: tuple[str, ...]
    """Keys of pages that nothing refers to, unless this head is stored."""
    replaced: tuple[str, ...]
    """Keys of pages that this head names no longer, and the one before it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A page as it is to be: the one in the store, or one to be written."""

    page: Page
    record: CatalogPage | None = None
    """None if it was not read, and so is as it was."""
    changed: bool = False
    shrunk: bool = False

    @property
    def count(self) -> int:
        return self.page.count if self.record is None else len(self.record.entries)


def edited(repository: Repository, head: Head, of: Collection[CheckpointId], edit: Edit) -> Edited:
    """A head in which these entries are changed, wherever they lie.

    Reads the pages that may hold them, and writes those that change anew under fresh names. A
    page that becomes empty goes; one that shrinks becomes one with its neighbours, where all
    together have at most MERGED_AT_MOST entries. Ids that are nowhere are ignored. Where nothing
    changes, the head is the very one that was given.

    Nothing is written before all was read. Raises IntegrityError that names the page, Busy,
    StoreError; pages that were written by then are left to whoever looks for what nothing
    refers to.
    """
    wanted = frozenset(of)
    checkpoints = tuple(_changed(head.checkpoints, wanted, edit))
    elsewhere = wanted.difference(entry.id for entry in head.checkpoints)
    parts = [
        _edited(repository, head, page, wanted, edit) if concerned else _Part(page=page)
        for page, concerned in _concerned(head, elsewhere)
    ]
    parts = list(_merged(repository, head, [part for part in parts if part.count]))
    pages = tuple(_stored(repository, part) for part in parts)
    before, after = ({page.key: None for page in each} for each in (head.pages, pages))
    if before == after and checkpoints == head.checkpoints:
        return Edited(head=head, written=(), replaced=())
    return Edited(
        head=head.model_copy(update={"checkpoints": checkpoints, "pages": pages}),
        written=tuple(key for key in after if key not in before),
        replaced=tuple(key for key in before if key not in after),
    )


def _changed(
    entries: Iterable[Entry], wanted: Collection[CheckpointId], edit: Edit
) -> Iterator[Entry]:
    for entry in entries:
        new = edit(entry) if entry.id in wanted else entry
        if new is not None:
            yield new


def _concerned(head: Head, sought: Collection[CheckpointId]) -> Iterator[tuple[Page, bool]]:
    """Every page, and whether it may hold one of these."""
    seqs = sorted(map(keys.seq, sought))
    for page in head.pages:
        at = bisect_left(seqs, page.seq[0])
        yield page, at < len(seqs) and seqs[at] <= page.seq[1]


def _edited(
    repository: Repository, head: Head, page: Page, wanted: Collection[CheckpointId], edit: Edit
) -> _Part:
    record = repository.require_page(page, head)
    entries = tuple(_changed(record.entries, wanted, edit))
    return _Part(
        page=page,
        record=record.model_copy(update={"entries": entries}),
        changed=entries != record.entries,
        shrunk=len(entries) < len(record.entries),
    )


def _merged(repository: Repository, head: Head, parts: Sequence[_Part]) -> Iterator[_Part]:
    """Years of pages with a few entries each would fill head."""
    last: _Part | None = None
    for part in parts:
        one = None if last is None else _as_one(repository, head, last, part)
        if last is not None and one is None:
            yield last
        last = one or part
    if last is not None:
        yield last


def _as_one(repository: Repository, head: Head, older: _Part, newer: _Part) -> _Part | None:
    """Both in one page; None if they are better left apart."""
    few = older.count + newer.count <= MERGED_AT_MOST
    if not few or not (older.shrunk or newer.shrunk):
        return None
    records = [part.record or repository.require_page(part.page, head) for part in (older, newer)]
    if any(each.model_extra for each in (older.page, newer.page, *records)):
        return None  # what a newer version says of one page need not be true of both
    entries = tuple(entry for record in records for entry in record.entries)
    if sum(len(entry.model_dump_json()) for entry in entries) > catalog.STORED_LIMIT // 2:
        return None  # even if it does not compress at all, and whatever is beside the entries
    return _Part(
        page=older.page,
        record=records[0].model_copy(update={"entries": entries}),
        changed=True,
        shrunk=True,
    )


def _stored(repository: Repository, part: _Part) -> Page:
    if part.record is None or not part.changed:
        return part.page
    page, data = catalog.page_of(part.record, repository.descriptor.hash)
    repository.store.put(page.key, data)
    return part.page.model_copy(update=dict(page))
