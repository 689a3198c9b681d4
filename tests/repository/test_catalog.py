"""Catalog pages: entries that were spilled from head, and read back through it."""

import pytest
import zstandard

from ckptsync.errors import IntegrityError
from ckptsync.hashing import Hash
from ckptsync.repository import catalog, keys
from ckptsync.repository.catalog import INFLATED_LIMIT, SPILL, SPILL_ABOVE, spill
from ckptsync.repository.head import LIMIT, Entry, Head, Page, encode
from ckptsync.repository.head import decode as decode_head
from ckptsync.repository.repository import Repository
from ckptsync.stores.memory import MemoryStore
from tests.repository.samples import DESCRIPTOR, REPOSITORY, a_head, an_entry, an_id

HASH = Hash.BLAKE3


def a_long_head(count: int) -> Head:
    return a_head(*(an_entry(seq) for seq in range(1, count + 1)))


def test_a_head_with_room_is_not_spilled() -> None:
    assert spill(a_long_head(SPILL_ABOVE), HASH) is None


def test_one_entry_more_spills_the_oldest() -> None:
    full = a_long_head(SPILL_ABOVE + 1)

    spilled = spill(full, HASH)

    assert spilled is not None
    assert spilled.head.checkpoints == full.checkpoints[SPILL:]
    (page,) = spilled.head.pages
    assert (page.key, page.seq, page.count) == (spilled.key, (1, SPILL), SPILL)
    assert catalog.decode(spilled.data, page, full, HASH, "it").entries == full.checkpoints[:SPILL]
    assert spill(spilled.head, HASH) is None


def test_the_latest_stays_in_head_however_old_it_is() -> None:
    old = a_long_head(SPILL_ABOVE + 1).model_copy(update={"latest": an_id(3)})

    spilled = spill(old, HASH)

    assert spilled is not None
    assert spilled.head.entry(an_id(3)) is not None
    assert spilled.head.pages[0].count == SPILL


def heavy(seq: int, size: int) -> Entry:
    return an_entry(seq).model_copy(update={"engine_id": "x" * size})


def test_entries_that_take_more_than_half_of_head_are_spilled_however_few() -> None:
    full = a_head(*(heavy(seq, LIMIT // 16) for seq in range(1, 10)))

    spilled = spill(full, HASH)

    assert spilled is not None
    assert [entry.seq for entry in spilled.head.checkpoints] == [5, 6, 7, 8, 9]
    (page,) = spilled.head.pages
    assert catalog.decode(spilled.data, page, full, HASH, "it").entries == full.checkpoints[:4]
    assert decode_head(encode(spilled.head), "it") == spilled.head


def test_the_latest_alone_is_never_spilled() -> None:
    assert spill(a_head(heavy(1, LIMIT)), HASH) is None


@pytest.mark.parametrize("size", [INFLATED_LIMIT // 100, 1])
def test_a_page_that_nobody_could_read_is_not_written(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too long when inflated, or as it is stored."""
    if size == 1:
        monkeypatch.setattr(catalog, "STORED_LIMIT", 100)
    full = a_head(*(heavy(seq, size) for seq in range(1, SPILL_ABOVE + 2)))

    with pytest.raises(IntegrityError, match="a catalog page of 256 checkpoints"):
        spill(full, HASH)


def test_an_entry_older_than_the_newest_page_stays_in_head() -> None:
    """Else the pages would not be apart from each other, and a reader would refuse them."""
    back = a_long_head(SPILL_ABOVE + 1).model_copy(update={"latest": an_id(3)})
    first = spill(back, HASH)
    assert first is not None
    grown = first.head.model_copy(
        update={
            "latest": an_id(1000),
            "next_seq": 1001,
            "checkpoints": (*first.head.checkpoints, *map(an_entry, range(514, 1001))),
        }
    )

    second = spill(grown, HASH)

    assert second is not None
    assert second.head.entry(an_id(3)) is not None
    assert [page.seq for page in second.head.pages] == [(1, 257), (258, 513)]
    assert decode_head(encode(second.head), "it") == second.head


@pytest.mark.parametrize(
    ("entries", "seq"),
    [
        ((an_entry(1), an_entry(2)), (2, 3)),
        ((an_entry(1), an_entry(2)), (1, 1)),
        ((an_entry(2), an_entry(1)), (1, 2)),
        ((an_entry(1), an_entry(1)), (1, 2)),
        ((an_entry(1), an_entry(2).model_copy(update={"id": an_id(1)})), (1, 2)),
    ],
)
def test_a_page_whose_entries_are_not_those_announced_is_damaged(
    entries: tuple[Entry, ...], seq: tuple[int, int]
) -> None:
    record = catalog.CatalogPage(repository_id=REPOSITORY, entries=entries)
    data = zstandard.compress(record.model_dump_json().encode())
    page = Page(key=keys.catalog(), digest=HASH.of(data).hex(), seq=seq, count=2)

    with pytest.raises(IntegrityError, match="its checkpoints are not 2 in order"):
        catalog.decode(data, page, a_head(), HASH, "it")


def test_years_of_checkpoints_are_all_found_again_and_head_stays_small() -> None:
    store = MemoryStore()
    repository = Repository(store=store, descriptor=DESCRIPTOR)
    head = a_head()
    for seq in range(1, 3001):
        grown = head.model_copy(
            update={
                "checkpoints": (*head.checkpoints, an_entry(seq)),
                "latest": an_id(seq),
                "next_seq": seq + 1,
            }
        )
        spilled = spill(grown, HASH)
        if spilled is not None:
            store.put(spilled.key, spilled.data)
        head = spilled.head if spilled else grown

    assert len(encode(head)) < LIMIT / 20
    assert [entry.seq for entry in repository.entries(head)] == list(range(3000, 0, -1))
    for seq in (1, SPILL, SPILL + 1, 1500, 2999, 3000):
        found = repository.find(head, an_id(seq))
        assert found == an_entry(seq)
    assert repository.find(head, an_id(3001)) is None
    assert repository.find(head, an_id(7, timeline=2)) is None


def test_a_page_that_is_not_the_one_head_names_is_damaged() -> None:
    full = a_long_head(SPILL_ABOVE + 1)
    first, second = spill(full, HASH), spill(full.model_copy(update={"write_id": "x"}), HASH)
    assert first is not None
    assert second is not None
    (page,) = first.head.pages

    with pytest.raises(IntegrityError, match="its digest is not the one that head names"):
        catalog.decode(first.data[:-1], page, full, HASH, "it")
    with pytest.raises(IntegrityError, match="is not the page"):
        catalog.decode(first.data, page.model_copy(update={"count": SPILL - 1}), full, HASH, "it")
    other = full.model_copy(update={"repository_id": "another"})
    with pytest.raises(IntegrityError, match="is not the page"):
        catalog.decode(first.data, page, other, HASH, "it")
