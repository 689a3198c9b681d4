"""What no remaining checkpoint refers to is known exactly, and nothing else is ever offered."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from ckptsync.errors import IntegrityError
from ckptsync.state.database import Database
from ckptsync.state.index import Index, Row

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
GRACE = timedelta(hours=24)
FAR = NOON + timedelta(days=36_500)
TABLES = ("indexed_repository", "entry", "use", "page", "unreferenced", "fact")


def a_row(seq: int, *, timeline: int = 1, state: str = "retired", page: str | None = None) -> Row:
    return Row(
        id=f"{timeline:04x}-{seq:08x}-{seq:012x}",
        seq=seq,
        timeline=timeline,
        at=NOON + seq * timedelta(minutes=5),
        state=state,
        retired_at=NOON if state == "retired" else None,
        engine_id=f"engine-{seq}",
        bytes=1 << 40,
        new_bytes=1 << 30,
        digest="a" * 64,
        manifest_size=1000 + seq,
        page=page,
    )


def manifest(row: Row) -> str:
    return f"manifests/{row.id}.json.zst"


def page(number: int) -> str:
    return f"catalog/{number:032x}.json.zst"


def size(key: str) -> int:
    return sum(key.encode())


def sized(keys: Iterable[str]) -> list[tuple[str, int]]:
    return [(key, size(key)) for key in keys]


def reconcile(
    index: Index,
    in_head: Iterable[Row],
    pages: Mapping[str, Iterable[Row]] | None = None,
    *,
    now: datetime = NOON,
) -> None:
    pages = pages or {}
    known = index.pages()
    new = {key: rows for key, rows in pages.items() if key not in known}
    index.reconcile(in_head, new, list(pages), now=now, grace=GRACE)


def filled(index: Index, objects: Mapping[int, str], *, state: str = "retired") -> dict[int, Row]:
    """Checkpoints in head by seq, each with its objects, named by a letter each."""
    rows = {seq: a_row(seq, state=state) for seq in objects}
    reconcile(index, rows.values())
    for seq, keys in objects.items():
        index.add(rows[seq].id, sized(keys))
    return rows


def offered(index: Index, *, due: datetime = FAR) -> set[str]:
    return {key for key, _ in index.unreferenced(due=due, limit=1 << 40)}


def content(database: Database) -> list[list[tuple[object, ...]]]:
    return [database.query(f"SELECT * FROM {table} ORDER BY 1") for table in TABLES]


@pytest.fixture
def index(database: Database) -> Index:
    return Index(database, "r")


class History(RuleBasedStateMachine):
    """Pushes, forks, retention and mishaps, against sets that are counted out anew each time."""

    def __init__(self) -> None:
        super().__init__()
        self.database = Database.in_memory()
        self.index = Index(self.database, "r")
        self.now = NOON
        self.seq = 0
        self.names = 0
        self.tips: dict[int, Row | None] = {1: None}
        self.objects: dict[str, frozenset[str]] = {}
        self.head: dict[str, Row] = {}
        self.seen: dict[str, Row] = {}
        self.forgotten: dict[str, Row] = {}
        self.due: dict[str, datetime] = {}
        self.sizes: dict[str, int] = {}

    def teardown(self) -> None:
        self.database.close()

    @rule(data=st.data(), fresh=st.integers(0, 3), whole=st.booleans())
    def commit(self, data: st.DataObject, fresh: int, whole: bool) -> None:
        open_ = [t for t, tip in self.tips.items() if tip is None or tip.id in self.head]
        if not open_:
            return
        timeline = data.draw(st.sampled_from(open_))
        tip = self.tips[timeline]
        shared = self._some(data, self.objects[tip.id] if tip and not whole else ())
        self._commit(data, timeline, shared, fresh)

    @precondition(lambda self: self.head)
    @rule(data=st.data(), fresh=st.integers(0, 2))
    def fork(self, data: st.DataObject, fresh: int) -> None:
        point = data.draw(st.sampled_from(sorted(self.head)))
        self._commit(data, len(self.tips) + 1, self._some(data, self.objects[point]), fresh)

    @precondition(lambda self: self.head)
    @rule(data=st.data(), state=st.sampled_from(["live", "retired", "retired", "bad"]))
    def change_states(self, data: st.DataObject, state: str) -> None:
        for id in self._some(data, self.head):
            at = self.now if state == "retired" else None
            self._edit(id, replace(self.head[id], state=state, retired_at=at))

    @precondition(lambda self: self.head)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        for id in self._some(data, self.head):
            self.forgotten[id] = self.head[id]
            self._edit(id, None)

    @precondition(lambda self: self.forgotten)
    @rule(data=st.data())
    def bring_back(self, data: st.DataObject) -> None:
        for id in self._some(data, self.forgotten):
            self.head[id] = replace(self.forgotten.pop(id), page=None)

    @precondition(lambda self: self.head)
    @rule(data=st.data())
    def write_another_manifest(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(sorted(self.head)))
        self._edit(id, replace(self.head[id], digest=f"{self._name():064x}"))

    @rule(count=st.integers(1, 4))
    def spill(self, count: int) -> None:
        key = page(self._name())
        in_head = [row for row in self.head.values() if row.page is None]
        for row in sorted(in_head, key=lambda row: row.seq)[:count]:
            self.head[row.id] = replace(row, page=key)

    @rule(data=st.data(), fresh=st.integers(0, 2), hours=st.integers(0, 60))
    def note(self, data: st.DataObject, fresh: int, hours: int) -> None:
        in_use = self._some(data, self._in_use(self.seen))
        noted = self._some(data, self.due)
        keys = in_use | noted | {f"chunks/{self._name()}" for _ in range(fresh)}
        due = self.now + hours * HOUR
        self.index.note_unreferenced(sized(keys), due=due)
        for key in keys - self._in_use(self.seen):
            self.due[key] = max(due, self.due.get(key, due))
            self.sizes[key] = max(size(key), self.sizes.get(key, 0))

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        gone = self._some(data, self.due)
        self.index.deleted(gone)
        for key in gone:
            del self.due[key]

    @rule()
    def open_again(self) -> None:
        self.index = Index(self.database, "r")

    @rule(data=st.data(), hours=st.sampled_from([-1, 0, 1, 23, 24, 25, 100]))
    def reconcile(self, data: st.DataObject, hours: int) -> None:
        self.now += hours * HOUR
        known = self.index.pages()
        pages = {row.page for row in self.head.values() if row.page is not None}
        again = self._some(data, pages & known)
        self.index.reconcile(
            [row for row in self.head.values() if row.page is None],
            {
                key: [row for row in self.head.values() if row.page == key]
                for key in (pages - known) | again
            },
            pages,
            now=self.now,
            grace=GRACE,
        )
        unread = [
            row.id
            for row in self.head.values()
            if row.id not in self.seen or self.seen[row.id].digest != row.digest
        ]
        assert {row.id for row in self.index.unread()} == set(unread)
        repeated = sorted(self._some(data, self.head))
        for id in data.draw(st.permutations(unread + repeated)):
            self.index.add(id, sized(self.objects[id]))

        self._expect(pages=known - pages, doubtful=hours < 24)
        self.seen = dict(self.head)
        assert self.index.pages() == pages
        newest_first = sorted(self.head.values(), key=lambda row: -row.seq)
        assert self.index.rows() == tuple(newest_first)
        self._compare()

    def _expect(self, *, pages: Iterable[str], doubtful: bool) -> None:
        gone = [row for id, row in self.seen.items() if id not in self.head]
        doubted = [row for row in gone if doubtful and row.state == "live"]
        passed_over = self._in_use(self.head) | self._in_use({row.id: row for row in doubted})
        for row in gone:
            for key in {*self.objects[row.id], manifest(row)} - passed_over:
                self.due[key] = self.now
                self.sizes[key] = row.manifest_size if key == manifest(row) else size(key)
        for key in set(pages) - passed_over:
            self.due[key] = self.now + GRACE
            self.sizes[key] = 0
        for key in self._in_use(self.head) & self.due.keys():
            del self.due[key]

    def _compare(self) -> None:
        everything = self.index.unreferenced(due=FAR, limit=1 << 40)
        assert not {key for key, _ in everything} & self._in_use(self.head), "not safe"
        assert everything == tuple((key, self.sizes[key]) for key in sorted(self.due, key=_rank))
        ahead = self.now + timedelta(days=2)
        due = {key for key, at in self.due.items() if at <= self.now or at > ahead}
        assert offered(self.index, due=self.now) == due
        assert self.index.waiting([*self.due, "no/such"]) == set(self.due)
        total = sum(self.sizes[key] for key in self.due)
        assert self.index.unreferenced_total() == (len(self.due), total)
        known = sorted({*self._in_use(self.head), *self.due, *self.forgotten, "no/such"})
        unused = [key for key in known if key not in self._in_use(self.head)]
        assert self.index.unused(known) == unused

    def _commit(self, data: st.DataObject, timeline: int, shared: set[str], fresh: int) -> None:
        self.seq += 1
        row = a_row(self.seq, timeline=timeline, state="live")
        uploads = {key for key in self._some(data, self.due) if key.startswith("chunks/")}
        used_before: set[str] = set().union(*self.objects.values())
        new = {f"chunks/{self._name()}" for _ in range(fresh)} | (uploads - used_before)
        self.objects[row.id] = frozenset(shared | new)
        self.head[row.id] = row
        self.tips[timeline] = row

    def _edit(self, id: str, row: Row | None) -> None:
        """As retention does: a page is never changed, but written anew."""
        old = self.head.pop(id)
        if row is not None:
            self.head[id] = row
        if old.page is not None:
            key = page(self._name())
            for each in [each for each in self.head.values() if each.page == old.page]:
                self.head[each.id] = replace(each, page=key)

    def _in_use(self, rows: Mapping[str, Row]) -> set[str]:
        keys = {row.page for row in rows.values() if row.page is not None}
        for id, row in rows.items():
            keys |= {manifest(row), *self.objects[id]}
        return keys

    def _some(self, data: st.DataObject, of: Iterable[str]) -> set[str]:
        keys = sorted(of)
        return data.draw(st.sets(st.sampled_from(keys))) if keys else set()

    def _name(self) -> int:
        self.names += 1
        return self.names


def _rank(key: str) -> tuple[bool, str]:
    return not key.startswith("manifests/"), key


TestAnyHistoryEndsInWhatAFullCountGives = History.TestCase
TestAnyHistoryEndsInWhatAFullCountGives.settings = settings(
    deadline=None, max_examples=100, stateful_step_count=30
)


def test_an_object_goes_with_the_last_checkpoint_that_refers_to_it(index: Index) -> None:
    rows = filled(index, {1: "ab", 2: "bc", 3: "cd", 4: "de"})

    reconcile(index, [rows[1], rows[3], rows[4]])
    assert offered(index) == {manifest(rows[2])}

    reconcile(index, [rows[3], rows[4]])
    assert offered(index) == {manifest(rows[1]), manifest(rows[2]), "a", "b"}

    reconcile(index, [])
    assert offered(index) == {*map(manifest, rows.values()), *"abcde"}


@pytest.mark.parametrize("left", [1, 2, 3])
@pytest.mark.parametrize("order", list(permutations([1, 2, 3])))
def test_manifests_may_be_read_in_any_order(
    index: Index, order: tuple[int, ...], left: int
) -> None:
    rows = filled(index, dict.fromkeys(order, "a"))

    reconcile(index, [rows[left]])
    assert "a" not in offered(index)

    reconcile(index, [])
    assert "a" in offered(index)


def test_what_another_timeline_refers_to_stays(index: Index) -> None:
    trunk, branch = a_row(1), a_row(2, timeline=2)
    reconcile(index, [trunk, branch])
    index.add(trunk.id, sized("ab"))
    index.add(branch.id, sized("bc"))

    reconcile(index, [branch])

    assert offered(index) == {manifest(trunk), "a"}


def test_two_checkpoints_at_one_place_both_protect(index: Index) -> None:
    one = a_row(1)
    other = replace(one, id=one.id[:-1] + "f")
    reconcile(index, [one, other])
    index.add(one.id, sized("a"))
    index.add(other.id, sized("b"))

    reconcile(index, [other])
    assert offered(index) == {manifest(one)}

    reconcile(index, [])
    assert offered(index) == {manifest(one), manifest(other), "a", "b"}


def test_everything_is_there_when_the_database_is_opened_again(path: Path) -> None:
    database = Database(path)
    index = Index(database, "r")
    rows = filled(index, {1: "ab", 2: "bc"})
    reconcile(index, [rows[2]])
    index.note("swept", NOON)
    before = content(database)
    database.close()

    database = Database(path)
    index = Index(database, "r")
    try:
        assert content(database) == before
        assert index.rows() == (rows[2],)
        assert offered(index) == {manifest(rows[1]), "a"}
        assert index.recall("swept") == NOON
    finally:
        database.close()


def test_rows_come_back_as_they_were_given(index: Index) -> None:
    east = timezone(timedelta(hours=5, minutes=30))
    row = replace(
        a_row(1, timeline=(1 << 16) - 1),
        seq=(1 << 32) - 1,
        at=datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        retired_at=datetime(1969, 7, 20, 20, 17, 40, 1, tzinfo=east),
        bytes=(1 << 63) - 1,
    )

    reconcile(index, [row])

    assert index.rows() == (row,)


def test_nothing_is_offered_while_a_manifest_is_unread(index: Index) -> None:
    rows = filled(index, {1: "ab"})
    new = a_row(2)
    reconcile(index, [new])

    assert index.unread() == (new,)
    with pytest.raises(ValueError, match="not been read"):
        index.unreferenced(due=FAR, limit=10)
    with pytest.raises(ValueError, match="not been read"):
        index.unused(["c"])

    index.add(new.id, sized("b"))
    assert offered(index) == {manifest(rows[1]), "a"}


def test_unread_ones_come_oldest_first_whatever_their_order_in_head(index: Index) -> None:
    reconcile(index, [a_row(3), a_row(1), a_row(2)])

    assert [row.seq for row in index.unread()] == [1, 2, 3]
    assert [row.seq for row in index.rows()] == [3, 2, 1]


def test_a_row_with_another_manifest_is_unread_and_what_it_held_stays(index: Index) -> None:
    rows = filled(index, {1: "a"})

    reconcile(index, [replace(rows[1], digest="b" * 64)])

    assert [row.id for row in index.unread()] == [rows[1].id]
    index.add(rows[1].id, sized("b"))
    assert index.unused(["a", "b"]) == []


def test_a_row_that_changes_its_state_or_its_page_stays_read(index: Index) -> None:
    rows = filled(index, {1: "a", 2: "b"}, state="live")

    retired = replace(rows[1], state="retired", retired_at=NOON, page=page(1))
    reconcile(index, [rows[2]], {page(1): [retired]})

    assert index.unread() == ()
    assert index.rows() == (rows[2], retired)
    assert index.unused([page(1), page(2)]) == [page(2)]


def test_adding_the_objects_of_a_checkpoint_that_is_gone_protects_nothing(index: Index) -> None:
    index.note_unreferenced(sized("a"), due=NOON)

    index.add(a_row(1).id, sized("a"))

    assert offered(index) == {"a"}
    assert index.rows() == ()


@pytest.mark.parametrize(
    ("after", "offers"),
    [
        (timedelta(hours=-1), False),
        (timedelta(0), False),
        (GRACE - timedelta(microseconds=1), False),
        (GRACE, True),
    ],
)
def test_what_vanished_soon_after_it_was_live_is_left_to_a_listing(
    index: Index, after: timedelta, offers: bool
) -> None:
    lost, kept = replace(a_row(1, state="live"), page=page(1)), a_row(2)
    reconcile(index, [kept], {page(1): [lost]})
    index.add(lost.id, sized("a"))
    index.add(kept.id, sized("b"))

    reconcile(index, [kept], now=NOON + after)

    belongings = ["a", manifest(lost), page(1)]
    assert offered(index) == (set(belongings) if offers else set())
    assert index.unused(belongings) == belongings


def test_an_object_of_a_doubted_checkpoint_is_not_offered_for_a_retired_one(index: Index) -> None:
    retired, live = a_row(1), a_row(2, state="live")
    reconcile(index, [retired, live])
    index.add(retired.id, sized("ab"))
    index.add(live.id, sized("bc"))

    reconcile(index, [])

    assert offered(index) == {manifest(retired), "a"}


@pytest.mark.parametrize("state", ["retired", "bad"])
def test_a_retired_or_bad_one_may_be_forgotten_at_any_time(index: Index, state: str) -> None:
    rows = filled(index, {1: "a"}, state=state)

    reconcile(index, [])

    assert offered(index, due=NOON) == {manifest(rows[1]), "a"}


def test_a_page_that_was_replaced_is_due_after_the_grace(index: Index) -> None:
    row = replace(a_row(1), page=page(1))
    reconcile(index, [], {page(1): [row]})
    index.add(row.id, [])

    reconcile(index, [], {page(2): [replace(row, page=page(2))]})

    assert index.unreferenced(due=NOON + GRACE - timedelta(microseconds=1), limit=9) == ()
    assert index.unreferenced(due=NOON + GRACE, limit=9) == ((page(1), 0),)


def test_rows_of_known_pages_need_not_be_given_again(index: Index) -> None:
    row = replace(a_row(1), page=page(1))
    reconcile(index, [], {page(1): [row]})

    index.reconcile([a_row(2)], {}, [page(1)], now=NOON, grace=GRACE)

    assert index.rows() == (a_row(2), row)


@pytest.mark.parametrize(
    ("new", "named"), [({}, [page(1)]), ({page(1): ()}, []), ({page(2): ()}, [page(1)])]
)
def test_pages_that_do_not_agree_with_their_rows_change_nothing(
    database: Database, index: Index, new: Mapping[str, Iterable[Row]], named: list[str]
) -> None:
    filled(index, {1: "a"})
    before = content(database)

    with pytest.raises(ValueError, match="do not agree"):
        index.reconcile([], new, named, now=NOON, grace=GRACE)

    assert content(database) == before


def test_what_is_in_use_is_never_noted_and_of_two_times_the_later_counts(index: Index) -> None:
    row = replace(a_row(1), page=page(1))
    reconcile(index, [], {page(1): [row]})
    index.add(row.id, sized("a"))

    index.note_unreferenced(sized(["a", manifest(row), page(1), "b"]), due=NOON + HOUR)
    index.note_unreferenced(sized("b"), due=NOON)
    assert offered(index, due=NOON) == set()
    assert offered(index, due=NOON + HOUR) == {"b"}

    index.note_unreferenced(sized("b"), due=NOON + 2 * HOUR)
    assert offered(index, due=NOON + HOUR) == set()


def test_a_manifest_and_a_page_that_come_into_use_are_not_offered_any_more(index: Index) -> None:
    row = replace(a_row(1), page=page(1))
    index.note_unreferenced(sized([manifest(row), page(1), "a", "b"]), due=NOON)

    reconcile(index, [], {page(1): [row]})
    index.add(row.id, sized("a"))

    assert offered(index) == {"b"}


def test_no_more_is_offered_than_asked_for_and_in_order(index: Index) -> None:
    index.note_unreferenced(sized("dbca"), due=NOON)

    assert index.unreferenced(due=NOON, limit=2) == (("a", size("a")), ("b", size("b")))

    index.deleted("ab")
    assert index.unreferenced(due=NOON, limit=2) == (("c", size("c")), ("d", size("d")))


def test_manifests_are_offered_first_over_however_many_calls(index: Index) -> None:
    manifests = [manifest(a_row(seq)) for seq in (1, 2, 3)]
    others = ["catalog/b", "chunks/a", "manifest", "manifests0", "packs/c"]
    index.note_unreferenced(sized([*manifests, *others]), due=NOON)

    given: list[str] = []
    while batch := index.unreferenced(due=NOON, limit=2):
        given += (key for key, _ in batch)
        index.deleted([key for key, _ in batch])

    assert given == [*manifests, *others]


def test_what_was_noted_by_a_clock_that_ran_ahead_is_due(index: Index) -> None:
    index.note_unreferenced(sized("a"), due=NOON + 2 * GRACE)
    index.note_unreferenced(sized("b"), due=NOON + 2 * GRACE + timedelta(microseconds=1))

    assert offered(index, due=NOON) == {"b"}


@pytest.mark.parametrize(
    "odd",
    [
        datetime.min.replace(tzinfo=timezone(14 * HOUR)),
        datetime.max.replace(tzinfo=timezone(-14 * HOUR)),
    ],
)
def test_times_beyond_the_years_that_there_are_become_the_nearest(
    index: Index, odd: datetime
) -> None:
    row = replace(a_row(1), at=odd, retired_at=odd)

    reconcile(index, [row])

    (known,) = index.rows()
    nearest = odd.replace(tzinfo=UTC)
    assert known == replace(row, at=nearest, retired_at=nearest)


def test_a_checkpoint_that_is_named_twice_is_refused_and_changes_nothing(
    database: Database, index: Index
) -> None:
    row = a_row(1)
    first, second = replace(row, page=page(1)), replace(row, page=page(2))
    cases: list[tuple[list[Row], dict[str, list[Row]]]] = [
        ([row, row], {}),
        ([row], {page(1): [first]}),
        ([], {page(1): [first], page(2): [second]}),
    ]

    for in_head, pages in cases:
        with pytest.raises(IntegrityError, match=f"names checkpoint {row.id} twice"):
            reconcile(index, in_head, pages)

    reconcile(index, [], {page(1): [first]})
    before = content(database)
    for in_head, pages in cases[1:]:
        with pytest.raises(IntegrityError, match=f"names checkpoint {row.id} twice"):
            reconcile(index, in_head, pages)
    assert content(database) == before


def test_a_checkpoint_may_move_between_head_and_pages(index: Index) -> None:
    row = a_row(1)
    for key in (None, page(1), page(2), None):
        moved = replace(row, page=key)
        if key is None:
            reconcile(index, [moved])
        else:
            reconcile(index, [], {key: [moved]})
        assert index.rows() == (moved,)


def test_any_number_of_keys_is_looked_up_and_any_text(index: Index) -> None:
    rows = filled(index, {1: "ab"})
    odd = ["chunks/'\"\\%_", "chunks/\udcff", "chunks/\0", "", "chünks/€"]
    many = [f"chunks/{number}" for number in range(25_000)]

    assert index.unused([*many, "a", *odd, manifest(rows[1]), "z"]) == [*many, *odd, "z"]

    index.note_unreferenced(sized(many), due=NOON)
    assert index.waiting([*many, "a", *odd]) == set(many)


def test_sizes_that_no_store_could_hold_do_no_harm(index: Index) -> None:
    index.note_unreferenced([(key, (1 << 63) - 1) for key in "abc"], due=NOON)

    number, total = index.unreferenced_total()

    assert number == 3
    assert total > 1 << 64


def test_cleared_it_is_as_new(database: Database, index: Index) -> None:
    empty = content(database)
    rows = filled(index, {1: "ab", 2: "bc"})
    reconcile(index, [rows[2]])
    index.note("swept", NOON)
    assert content(database) != empty

    index.clear()

    assert content(database) == empty


def test_another_repository_finds_nothing_of_the_one_before(
    database: Database, index: Index
) -> None:
    filled(index, {1: "a"})
    index.note_unreferenced(sized("b"), due=NOON)
    index.note("swept", NOON)

    other = Index(database, "another")

    assert other.rows() == ()
    assert other.unreferenced_total() == (0, 0)
    assert other.recall("swept") is None
    assert Index(database, "r").unused(["a", "b"]) == ["a", "b"]


def test_a_fact_holds_until_it_is_said_not_to(index: Index) -> None:
    assert index.recall("may_delete") is None

    index.note("may_delete", NOON)
    index.note("may_not_delete", NOON - HOUR)
    index.note("may_delete", NOON + HOUR)
    assert index.recall("may_delete") == NOON + HOUR

    index.note("may_delete", None)
    assert index.recall("may_delete") is None
    assert index.recall("may_not_delete") == NOON - HOUR


def forget_some(index: Index) -> None:
    rows = [a_row(seq) for seq in range(20, 60)]
    index.reconcile(rows, {page(2): [a_row(9)]}, [page(2)], now=NOON + HOUR, grace=GRACE)


def read_one(index: Index) -> None:
    index.add(a_row(40).id, sized(f"chunks/{number}" for number in range(30, 90)))


@pytest.mark.parametrize("act", [forget_some, read_one])
def test_an_interruption_anywhere_changes_nothing(
    database: Database, act: Callable[[Index], None]
) -> None:
    index = Index(database, "r")
    reconcile(index, [a_row(seq) for seq in range(10, 50)], {page(1): [a_row(1), a_row(9)]})
    for seq in (1, *range(9, 40)):
        index.add(a_row(seq).id, sized(f"chunks/{number}" for number in range(seq, seq + 8)))
    index.note_unreferenced(sized(["chunks/89"]), due=NOON)
    before = content(database)

    interrupted = 0
    for steps in range(1000):
        once = iter([False] * steps + [True])
        database._connection.set_progress_handler(partial(next, once, False), 20)
        try:
            act(index)
        except sqlite3.OperationalError:
            interrupted += 1
        else:
            break
        finally:
            database._connection.set_progress_handler(None, 0)
        assert content(database) == before

    assert interrupted > 20
    assert content(database) != before


def test_a_manifest_that_cannot_be_read_to_its_end_changes_nothing(
    database: Database, index: Index
) -> None:
    filled(index, {1: "a"})
    reconcile(index, [a_row(1), a_row(2)])
    before = content(database)

    def cut_off() -> Iterator[tuple[str, int]]:
        yield "b", 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.add(a_row(2).id, cut_off())

    assert content(database) == before


def test_to_forget_one_costs_the_same_whatever_else_there_is() -> None:
    assert forgetting(checkpoints=2000) < 1.5 * forgetting(checkpoints=200)


def forgetting(*, checkpoints: int) -> int:
    """Steps of SQLite's machine, by the hundred, for one row that goes from one of the pages."""
    database = Database.in_memory()
    index = Index(database, "r")
    starts = range(0, checkpoints, 20)
    pages = {page(at): [a_row(at + n, page=page(at)) for n in range(1, 21)] for at in starts}
    reconcile(index, [], pages)
    for seq in range(1, checkpoints + 1):
        index.add(a_row(seq).id, sized(f"chunks/{number}" for number in range(seq, seq + 10)))
    left = {key: rows for key, rows in pages.items() if key != page(100)}
    left[page(9999)] = [replace(row, page=page(9999)) for row in pages[page(100)][1:]]

    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    database._connection.set_progress_handler(count, 100)
    reconcile(index, [], left)
    database._connection.set_progress_handler(None, 0)
    assert index.unreferenced_total()[0] == 2
    database.close()
    return steps
