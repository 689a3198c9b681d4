"""Catalog pages: entries that were spilled from head, and read back through it."""

import pytest

from ckptsync.errors import IntegrityError
from ckptsync.hashing import Hash
from ckptsync.repository import catalog
from ckptsync.repository.catalog import SPILL, SPILL_ABOVE, spill
from ckptsync.repository.head import LIMIT, Head, encode
from ckptsync.repository.repository import Repository
from ckptsync.stores.memory import MemoryStore
from tests.repository.samples import DESCRIPTOR, a_head, an_entry, an_id

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
    assert catalog.decode(spilled.data, page, full, HASH, "it") == full.checkpoints[:SPILL]
    assert spill(spilled.head, HASH) is None


def test_the_latest_stays_in_head_however_old_it_is() -> None:
    old = a_long_head(SPILL_ABOVE + 1).model_copy(update={"latest": an_id(3)})

    spilled = spill(old, HASH)

    assert spilled is not None
    assert spilled.head.entry(an_id(3)) is not None
    assert spilled.head.pages[0].count == SPILL


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
