"""Entries changed wherever they lie, and readers of a head whose pages were replaced since."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptsync.errors import AccessDenied, Busy, IntegrityError
from ckptsync.hashing import Hash
from ckptsync.model import CheckpointId
from ckptsync.repository import catalog, keys, pages
from ckptsync.repository.catalog import CatalogPage, page_of
from ckptsync.repository.head import MAX_PAGE_ENTRIES, Entry, Head, Page, decode, encode
from ckptsync.repository.pages import MERGED_AT_MOST, Edit, edited
from ckptsync.repository.repository import Repository
from ckptsync.stores.base import ObjectStore
from ckptsync.stores.memory import MemoryStore
from tests.fakes.stores import FaultyStore
from tests.repository.samples import DESCRIPTOR, REPOSITORY, a_head, an_entry, an_id

HASH: Final = Hash.BLAKE3


def bucket(store: ObjectStore, paged: Iterable[Sequence[Entry]], *in_head: Entry) -> Head:
    """A head with these pages, stored as well as they are."""
    named = []
    for entries in paged:
        page, data = page_of(CatalogPage(repository_id=REPOSITORY, entries=tuple(entries)), HASH)
        store.put(page.key, data)
        named.append(page)
    last = max([*(page.seq[1] for page in named), *(entry.seq for entry in in_head), 0])
    changes = {"checkpoints": in_head, "pages": tuple(named), "next_seq": last + 1}
    head = a_head().model_copy(update=changes)
    store.put(keys.HEAD, encode(head))
    return head


def entries(first: int, last: int) -> tuple[Entry, ...]:
    return tuple(map(an_entry, range(first, last + 1)))


def a_repository(store: ObjectStore) -> Repository:
    return Repository(store=store, descriptor=DESCRIPTOR)


def ids(*seqs: int) -> frozenset[CheckpointId]:
    return frozenset(map(an_id, seqs))


def listed(store: ObjectStore, head: Head) -> list[Entry]:
    """Oldest first."""
    return list(a_repository(store).entries(head))[::-1]


def counts(head: Head) -> list[int]:
    return [page.count for page in head.pages]


def retire(entry: Entry) -> Entry:
    return entry.model_copy(update={"state": "retired"})


def forget(entry: Entry) -> None:
    del entry


# Changes


def test_an_entry_in_head_is_changed_in_its_place_and_no_page_is_read() -> None:
    store = FaultyStore(MemoryStore())
    head = bucket(store, [entries(1, 3)], *entries(4, 6))
    before = len(store.calls)

    retired = edited(a_repository(store), head, ids(5), retire)
    gone = edited(a_repository(store), head, ids(5), forget)

    assert [entry.state for entry in retired.head.checkpoints] == ["live", "retired", "live"]
    assert gone.head.checkpoints == (an_entry(4), an_entry(6))
    assert retired.head.pages == gone.head.pages == head.pages
    assert retired.written == retired.replaced == ()
    assert len(store.calls) == before


def test_an_entry_in_a_page_is_changed_in_a_page_of_another_name() -> None:
    store = FaultyStore(MemoryStore())
    head = bucket(store, [entries(1, 200), entries(201, 400), entries(401, 600)], an_entry(601))
    before = len(store.calls)

    done = edited(a_repository(store), head, ids(300, 601), retire)

    first, second, third = done.head.pages
    assert (first, third) == (head.pages[0], head.pages[2])
    assert (second.seq, second.count) == ((201, 400), 200)
    assert (done.written, done.replaced) == ((second.key,), (head.pages[1].key,))
    assert [call.method for call in store.calls[before:]] == ["get", "put"]
    states = {entry.seq: entry.state for entry in listed(store, done.head)}
    assert [seq for seq, state in states.items() if state == "retired"] == [300, 601]
    assert listed(store, head) == list(entries(1, 601)), "the old page is still there"


def test_a_page_tells_the_exact_range_of_what_is_left_in_it() -> None:
    store = MemoryStore()
    head = bucket(store, [entries(1, 300), entries(301, 600)], an_entry(601))

    done = edited(a_repository(store), head, ids(1, 2, 300, 301), forget)

    assert [page.seq for page in done.head.pages] == [(3, 299), (302, 600)]
    assert listed(store, done.head) == [*entries(3, 299), *entries(302, 601)]


def test_a_page_of_which_nothing_is_left_is_dropped() -> None:
    store = MemoryStore()
    head = bucket(store, [entries(1, 2), entries(3, 4)], an_entry(5))

    done = edited(a_repository(store), head, ids(1, 2), forget)

    assert done.head.pages == head.pages[1:]
    assert (done.written, done.replaced) == ((), (head.pages[0].key,))


@pytest.mark.parametrize("nowhere", [an_id(2, timeline=2), an_id(9), an_id(2**32 - 1)])
def test_what_is_nowhere_changes_nothing(nowhere: CheckpointId) -> None:
    store = FaultyStore(MemoryStore())
    head = bucket(store, [entries(1, 3)], an_entry(4))
    before = len(store.calls)

    done = edited(a_repository(store), head, {nowhere}, forget)

    assert done.head is head
    assert done.written == done.replaced == ()
    assert {call.method for call in store.calls[before:]} <= {"get"}


def test_an_edit_that_leaves_every_entry_as_it_was_writes_nothing() -> None:
    store = FaultyStore(MemoryStore())
    head = bucket(store, [entries(1, 3)], an_entry(4))
    before = len(store.calls)

    done = edited(a_repository(store), head, ids(1, 2, 3, 4), lambda entry: entry)

    assert done.head is head
    assert [call.method for call in store.calls[before:]] == ["get"]


def test_what_a_newer_version_says_survives_in_entry_page_and_head() -> None:
    store = MemoryStore()
    marked = Entry.model_validate({**an_entry(1).model_dump(), "new": {"at": [1]}})
    record = CatalogPage.model_validate(
        {"repository_id": REPOSITORY, "entries": (marked, an_entry(2)), "of_page": "x"}
    )
    page, data = page_of(record, HASH)
    store.put(page.key, data)
    named = Page.model_validate({**page.model_dump(), "of_reference": 7})
    head = a_head(an_entry(3)).model_copy(update={"pages": (named,)})

    done = edited(a_repository(store), head, ids(1), retire)

    (new,) = done.head.pages
    read = a_repository(store).require_page(new, done.head)
    assert new.model_extra == {"of_reference": 7}
    assert read.model_extra == {"of_page": "x"}
    assert read.entries[0].model_extra == {"new": {"at": [1]}}
    assert read.entries[0].state == "retired"


# Pages that became sparse


@pytest.mark.parametrize("shrinks", [(101, 150), (1, 50)])
def test_a_page_that_shrinks_becomes_one_with_its_neighbour_older_or_newer(
    shrinks: tuple[int, int],
) -> None:
    store = MemoryStore()
    head = bucket(store, [entries(1, 100), entries(101, 200)], an_entry(201))
    # 100 and 29 are too many for one page, 100 and 28 are not.
    first, last = shrinks

    apart = edited(a_repository(store), head, ids(*range(first, last + 22)), forget)
    one = edited(a_repository(store), head, ids(*range(first, last + 23)), forget)

    assert sorted(counts(apart.head)) == [29, 100]
    assert counts(one.head) == [MERGED_AT_MOST]
    assert one.replaced == tuple(page.key for page in head.pages)
    assert one.written == (one.head.pages[0].key,)
    gone = range(first, last + 23)
    assert listed(store, one.head) == [e for e in entries(1, 201) if e.seq not in gone]


def test_a_page_that_shrinks_brings_all_its_small_neighbours_together() -> None:
    store = MemoryStore()
    parts = [entries(1, 40), entries(41, 80), entries(81, 120), entries(121, 160)]
    head = bucket(store, parts, an_entry(161))

    done = edited(a_repository(store), head, ids(50), forget)

    assert counts(done.head) == [119, 40]
    assert done.head.pages[1] == head.pages[3]


def test_small_pages_of_which_none_shrinks_stay_apart() -> None:
    store = MemoryStore()
    head = bucket(store, [entries(1, 3), entries(4, 6)], an_entry(7))

    done = edited(a_repository(store), head, ids(4), retire)

    assert done.head.pages[0] == head.pages[0]
    assert counts(done.head) == [3, 3]


def test_years_of_sparse_pages_do_not_fill_head() -> None:
    """One of thirty is left of each page, as it comes of age."""
    store = MemoryStore()
    size = catalog.SPILL
    head = bucket(store, [entries(at, at + size - 1) for at in range(1, 60 * size, size)])
    repository = a_repository(store)

    for page in head.pages:
        old = {seq for seq in range(page.seq[0], page.seq[1] + 1) if seq % 30}
        head = edited(repository, head, ids(*old), forget).head

    left = 60 * size // 30
    assert sum(counts(head)) == left
    assert len(head.pages) <= 2 * left // MERGED_AT_MOST + 1
    assert [entry.seq for entry in listed(store, head)] == list(range(30, 60 * size + 1, 30))


def test_pages_that_would_be_too_long_as_one_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "STORED_LIMIT", 10_000)
    store = MemoryStore()
    long = [entry.model_copy(update={"engine_id": "x" * 2000}) for entry in entries(1, 6)]
    head = bucket(store, [long[:3], long[3:]], an_entry(7))

    done = edited(a_repository(store), head, ids(4), forget)

    assert counts(done.head) == [3, 2]
    assert counts(edited(a_repository(store), head, ids(2, 3, 4, 5), forget).head) == [2]


@pytest.mark.parametrize("extended", ["record", "reference"])
def test_a_page_of_which_a_newer_version_says_more_is_not_made_one_with_another(
    extended: str,
) -> None:
    store = MemoryStore()
    more = {"new": 1}
    records = [
        CatalogPage.model_validate({"repository_id": REPOSITORY, "entries": part} | each)
        for part, each in (
            (entries(1, 3), more if extended == "record" else {}),
            (entries(4, 6), {}),
        )
    ]
    named = []
    for record in records:
        page, data = page_of(record, HASH)
        store.put(page.key, data)
        named.append(page)
    if extended == "reference":
        named[0] = Page.model_validate(named[0].model_dump() | more)
    head = a_head(an_entry(7)).model_copy(update={"pages": tuple(named)})

    done = edited(a_repository(store), head, ids(4), forget)

    assert done.head.pages[0] == named[0]
    assert counts(done.head) == [3, 2]


# Damage


@pytest.mark.parametrize("of", [(1, 400), (400,)], ids=["concerned", "only a neighbour"])
@pytest.mark.parametrize("damage", ["gone", "damaged"])
def test_nothing_is_written_where_a_page_cannot_be_read(of: tuple[int, ...], damage: str) -> None:
    store = FaultyStore(MemoryStore())
    head = bucket(store, [entries(1, 3), entries(400, 403)], an_entry(404))
    key = head.pages[0].key
    if damage == "gone":
        store.delete([key])
    else:
        store.put(key, b"other bytes")
    before = len(store.calls)

    with pytest.raises(IntegrityError, match=key):
        edited(a_repository(store), head, ids(*of), forget)

    assert "put" not in {call.method for call in store.calls[before:]}


def test_a_page_whose_entries_grow_beyond_what_a_reader_takes_is_not_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = MemoryStore()
    head = bucket(store, [entries(1, 3)], an_entry(4))
    monkeypatch.setattr(catalog, "INFLATED_LIMIT", 3000)

    def lengthen(entry: Entry) -> Entry:
        return entry.model_copy(update={"damaged": ("x" * 2000,)})

    with pytest.raises(IntegrityError, match="a catalog page of 3 checkpoints"):
        edited(a_repository(store), head, ids(1, 2), lengthen)


# Against a flat list


@st.composite
def layouts(draw: st.DrawFn) -> tuple[list[list[Entry]], list[Entry]]:
    """Pages and what lies in head: with gaps, of several timelines, some older than the pages."""
    gaps = draw(st.lists(st.sampled_from([1, 1, 1, 2, 40]), max_size=60))
    seq, all_ = 0, []
    for gap in gaps:
        seq += gap
        all_.append(an_entry(seq, timeline=draw(st.sampled_from([1, 2]))))
    stay = (
        draw(st.sets(st.sampled_from(all_).map(lambda entry: entry.seq), max_size=3))
        if all_
        else set()
    )
    movable = [entry for entry in all_ if entry.seq not in stay]
    cuts = sorted(draw(st.sets(st.integers(0, len(movable)), max_size=6)))
    paged = [movable[a:b] for a, b in zip([0, *cuts], cuts, strict=False) if a < b]
    moved = {entry.seq for part in paged for entry in part}
    return paged, [entry for entry in all_ if entry.seq not in moved]


EDITS: Final[Sequence[Edit]] = (
    retire,
    forget,
    lambda entry: entry,
    lambda entry: None if entry.seq % 2 else retire(entry),
)


@given(layouts(), st.data())
def test_to_edit_head_and_pages_is_to_edit_one_list(
    layout: tuple[list[list[Entry]], list[Entry]], draw: st.DataObject
) -> None:
    paged, in_head = layout
    store = MemoryStore()
    head = bucket(store, paged, *in_head)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pages, "MERGED_AT_MOST", draw.draw(st.sampled_from([2, 5, 128])))
        for _ in range(draw.draw(st.integers(1, 3))):
            flat = listed(store, head)
            known = [entry.id for entry in flat]
            of = draw.draw(st.sets(st.sampled_from([*known, an_id(7, timeline=3), an_id(5000)])))
            edit = draw.draw(st.sampled_from(EDITS))
            before = {info.key for info in store.walk(keys.CATALOG)}

            done = edited(a_repository(store), head, of, edit)

            require_equal(store, done.head, [edit(e) if e.id in of else e for e in flat])
            require_well_kept(head, done.head, of)
            assert [e.id for e in done.head.checkpoints if e.id not in of] == [
                e.id for e in head.checkpoints if e.id not in of
            ], "nothing moves between head and pages"
            named, were = ({page.key for page in each.pages} for each in (done.head, head))
            assert set(done.written) == named - were
            assert set(done.replaced) == were - named
            assert {info.key for info in store.walk(keys.CATALOG)} - before == set(done.written)
            head = done.head


def require_equal(store: ObjectStore, head: Head, expected: Iterable[Entry | None]) -> None:
    """And a reader takes it, whole and one by one."""
    left = [entry for entry in expected if entry is not None]
    assert decode(encode(head), "it") == head
    repository = a_repository(store)
    by_seq = sorted(listed(store, head), key=lambda entry: entry.seq)
    assert by_seq == sorted(left, key=lambda entry: entry.seq)
    assert all(repository.find(head, entry.id) == entry for entry in left)
    for page in head.pages:
        held = repository.read_page(page, head)
        assert page.seq == (held[0].seq, held[-1].seq)
        assert page.count == len(held) <= MAX_PAGE_ENTRIES


def require_well_kept(old: Head, new: Head, of: Iterable[CheckpointId]) -> None:
    """A page that holds nothing of what was asked for is as it was, or one with a neighbour."""
    seqs = {keys.seq(each) for each in of}
    for page in old.pages:
        if seqs.isdisjoint(range(page.seq[0], page.seq[1] + 1)) and page not in new.pages:
            (over,) = [p for p in new.pages if p.seq[0] <= page.seq[0] and page.seq[1] <= p.seq[1]]
            assert page.count < over.count <= pages.MERGED_AT_MOST


# Readers of an older head


def replaced(store: ObjectStore) -> tuple[Head, Head]:
    """An older head of which a page was replaced and swept, and the newest."""
    old = bucket(store, [entries(1, 200)], an_entry(201))
    done = edited(a_repository(store), old, ids(7), forget)
    store.put(keys.HEAD, encode(done.head))
    store.delete(done.replaced)
    return old, done.head


READS: Final[Sequence[Callable[[Repository, Head], object]]] = (
    lambda repository, head: list(repository.entries(head)),
    lambda repository, head: repository.find(head, an_id(8)),
    lambda repository, head: edited(repository, head, ids(8), forget),
)


@pytest.mark.parametrize("read", READS)
def test_a_slow_reader_is_told_to_try_again(read: Callable[[Repository, Head], object]) -> None:
    store = MemoryStore()
    old, new = replaced(store)
    repository = a_repository(store)

    with pytest.raises(Busy, match="the list of checkpoints in memory:// changed") as caught:
        read(repository, old)

    assert caught.value.transient
    assert caught.value.hint == "try again"
    assert read(repository, new) is not None


@pytest.mark.parametrize("read", READS)
def test_a_page_that_is_gone_though_the_newest_head_names_it_is_damage(
    read: Callable[[Repository, Head], object],
) -> None:
    store = MemoryStore()
    head = bucket(store, [entries(1, 200)], an_entry(201))
    store.delete([head.pages[0].key])

    with pytest.raises(IntegrityError, match="is gone, though head names it") as caught:
        read(a_repository(store), head)
    assert head.pages[0].key in str(caught.value)

    store.delete([keys.HEAD])
    with pytest.raises(IntegrityError, match="is gone, though head names it"):
        read(a_repository(store), head)


def test_nobody_says_why_a_page_is_gone_where_head_cannot_be_read() -> None:
    inner = MemoryStore()
    old, _ = replaced(inner)
    refused = AccessDenied("memory://", "read", keys.HEAD, "not allowed")
    store = FaultyStore(inner, fail_at={1: refused})

    with pytest.raises(AccessDenied):
        list(a_repository(store).entries(old))
    assert [call.key for call in store.calls] == [old.pages[0].key, keys.HEAD]


def test_where_a_page_holds_what_is_wanted_head_is_not_read_again() -> None:
    store = FaultyStore(MemoryStore())
    head = bucket(store, [entries(1, 200)], an_entry(201))
    before = len(store.calls)

    list(a_repository(store).entries(head))

    assert [call.key for call in store.calls[before:]] == [head.pages[0].key]
