"""Which checkpoints refer to which objects, so that a sweep costs what changed.

For each object and timeline the numbers of the first and the last checkpoint are kept that refer
to it there. An object is unreferenced once no remaining checkpoint of any timeline lies between
them. Such an interval only widens: it may protect an object for too long, never too short.
Deleting the tables costs a reading of every manifest, never data.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, Final

from ckptsync.errors import IntegrityError
from ckptsync.state import index_tables as tables
from ckptsync.state.database import Database

_RECONCILED: Final = "reconciled"
_KEYS_A_QUERY: Final = 10_000
_NOBODY_WAITS_FOR: Final = timedelta(days=2)
"""Twice the longest grace. A sweep is safe without one: they spare readers and pushes work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A checkpoint that head names, in head itself or in a catalog page."""

    id: str
    seq: int
    timeline: int
    at: datetime
    state: str
    """live, retired or bad."""
    retired_at: datetime | None
    engine_id: str
    bytes: int
    new_bytes: int
    digest: str
    """Of its manifest."""
    manifest_size: int
    page: str | None
    """The key of the page that it lies in."""


class Index:
    """What one head names, and what the manifests of that refer to.

    Each call is one transaction. Safe to share between threads; who works on a head and the
    index of it holds the pipeline's lock, so that no other process puts an older head in place.
    """

    def __init__(self, database: Database, repository_id: str) -> None:
        """Drops everything that was kept of another repository."""
        self._database = database
        with database.transaction() as transaction:
            for statement in tables.SCHEMA:
                transaction.execute(statement)
            known = transaction.execute("SELECT id FROM indexed_repository").fetchone()
            if known != (repository_id,):
                tables.empty(transaction)
                transaction.execute(
                    "INSERT OR REPLACE INTO indexed_repository VALUES (1, ?)", (repository_id,)
                )

    def pages(self) -> frozenset[str]:
        """The catalog pages whose rows are here."""
        return frozenset(key for (key,) in self._database.query("SELECT key FROM page"))

    def reconcile(
        self,
        in_head: Iterable[Row],
        new_pages: Mapping[str, Iterable[Row]],
        pages: Collection[str],
        *,
        now: datetime,
        grace: timedelta,
    ) -> None:
        """Make the rows those of a head: its own, and those of its pages.

        `new_pages` brings the rows of pages that were not here yet. A row whose manifest has
        another digest than before counts as unread again.

        What only rows referred to that are gone is unreferenced from now on, and so are their
        manifests; pages that are gone, after `grace`. But no rule forgets a checkpoint less than
        `grace` after it was live: what belongs to one that was live in the last head, less than
        `grace` ago, is only dropped, so that a listing finds it and somebody is asked.

        Raises ValueError if the rows of a page are missing; IntegrityError if a checkpoint is
        named twice: its other entry would go for good with the first.
        """
        with self._database.transaction() as transaction:
            known = tables.texts(transaction, "SELECT key FROM page")
            named = frozenset(pages)
            if named - known - new_pages.keys() or new_pages.keys() - named:
                raise ValueError("pages and their rows do not agree")
            rows: dict[str, tuple[Any, ...]] = {}
            for page, its in (*new_pages.items(), (None, in_head)):
                for row in its:
                    if row.id in rows:
                        raise _named_twice(row.id)
                    rows[row.id] = _values(row, page)
            before = tables.rows_in(transaction, known - named)
            for id in rows.keys() - before.keys():
                if tables.is_in_other_page(transaction, id, rows[id][11]):
                    raise _named_twice(id)
            changed = [row for id, row in rows.items() if before.get(id) != row]
            transaction.executemany(tables.PUT_ROW, changed)
            gone = [row for id, row in before.items() if id not in rows]
            transaction.executemany("DELETE FROM entry WHERE id = ?", ((row[0],) for row in gone))
            transaction.executemany("DELETE FROM page WHERE key = ?", tables.each(known - named))
            transaction.executemany("INSERT INTO page VALUES (?)", tables.each(named - known))
            tables.take_out(
                transaction, chain(named - known, (tables.manifest(row[0]) for row in changed))
            )

            last = tables.recall(transaction, _RECONCILED)
            doubted = [] if last is None or now - last >= grace else list(filter(_is_live, gone))
            freed = tables.released(transaction, gone, doubted)
            doubtful = {row[0] for row in doubted}
            freed += [(tables.manifest(row[0]), row[10]) for row in gone if row[0] not in doubtful]
            tables.note_unreferenced(transaction, freed, due=now)
            dropped = known - named - {row[11] for row in doubted}
            tables.note_unreferenced(transaction, ((key, 0) for key in dropped), due=now + grace)
            tables.note(transaction, _RECONCILED, now)

    def rows(self) -> tuple[Row, ...]:
        """The newest comes first."""
        return self._select("ORDER BY seq DESC, id")

    def states(self) -> Mapping[str, str]:
        """`live`, `retired` or `bad`, of every checkpoint by its id."""
        return dict(self._database.query("SELECT id, state FROM entry"))

    def unread(self) -> tuple[Row, ...]:
        """Those whose manifest's objects are not here yet, the oldest first."""
        return self._select("WHERE NOT read ORDER BY seq, id")

    def add(self, id: str, objects: Iterable[tuple[str, int]]) -> None:
        """Note the objects, as (key, size), of a row's manifest: it is read now.

        They are not unreferenced any more. Does nothing for a checkpoint that is no row.
        """
        with self._database.transaction() as transaction:
            place = transaction.execute(
                "SELECT timeline, seq FROM entry WHERE id = ?", (id,)
            ).fetchone()
            if place is None:
                return
            its = list(objects)
            transaction.executemany(tables.WIDEN, ((key, *place, size) for key, size in its))
            tables.take_out(transaction, (key for key, _ in its))
            transaction.execute("UPDATE entry SET read = 1 WHERE id = ?", (id,))

    def note_unreferenced(self, keys: Iterable[tuple[str, int]], *, due: datetime) -> None:
        """Note that these, as (key, size), may be deleted, but not before `due`.

        One that is in use is passed over. For one that was noted before the later time counts.
        """
        with self._database.transaction() as transaction:
            tables.note_unreferenced(transaction, keys, due=due)

    def unreferenced(self, *, due: datetime, limit: int) -> tuple[tuple[str, int], ...]:
        """What may be deleted by then, as (key, size): manifests first, each in order of key.

        So a manifest goes before what it refers to, over however many calls. What is due long
        after all that anybody waits for was noted by a clock that ran ahead, and is due now.

        Raises ValueError while there are unread rows: they may refer to any of it.
        """
        with self._database.transaction() as transaction:
            tables.require_read(transaction)
            return tuple(tables.due(transaction, due, _NOBODY_WAITS_FOR, limit))

    def unreferenced_total(self) -> tuple[int, int]:
        """The number and the bytes of what is unreferenced, due or not."""
        ((number, total),) = self._database.query("SELECT count(*), total(size) FROM unreferenced")
        return number, int(total)

    def waiting(self, keys: Collection[str]) -> frozenset[str]:
        """Which of these are noted as unreferenced, due or not."""
        return frozenset(self._matching(list(keys), tables.WAITING))

    def unused(self, keys: Sequence[str]) -> list[str]:
        """Those, in their order, that are no manifest and no page here, and in no manifest.

        Raises ValueError while there are unread rows: they may refer to any of them.
        """
        with self._database.transaction() as transaction:
            tables.require_read(transaction)
            return list(self._matching(keys, tables.UNUSED))

    def deleted(self, keys: Iterable[str]) -> None:
        """Note that these are gone from the bucket."""
        with self._database.transaction() as transaction:
            tables.take_out(transaction, keys)

    def clear(self) -> None:
        """Forget everything: a repair has made head anew."""
        with self._database.transaction() as transaction:
            tables.empty(transaction)

    def recall(self, name: str) -> datetime | None:
        """When the fact of that name was noted; None if it does not hold."""
        with self._database.transaction() as transaction:
            return tables.recall(transaction, name)

    def note(self, name: str, at: datetime | None) -> None:
        """Note that something happened then, or with None that it does not hold any more."""
        with self._database.transaction() as transaction:
            tables.note(transaction, name, at)

    def _select(self, which: str) -> tuple[Row, ...]:
        sql = f"SELECT {tables.COLUMNS} FROM entry {which}"  # noqa: S608 - constants
        found = self._database.query(sql)
        return tuple(map(_row, found))

    def _matching(self, keys: Sequence[str], sql: str) -> Iterator[str]:
        for start in range(0, len(keys), _KEYS_A_QUERY):
            some = keys[start : start + _KEYS_A_QUERY]
            for (number,) in self._database.query(sql, (json.dumps(some),)):
                yield some[number]


def _named_twice(id: str) -> IntegrityError:
    return IntegrityError(
        f"head.json names checkpoint {id} twice, in itself or in its catalog pages; nothing is "
        "deleted while it cannot be told which of the two counts",
        hint="put back the version of head.json from before somebody edited it",
    )


def _is_live(values: tuple[Any, ...]) -> bool:
    return bool(values[4] == "live")


def _values(row: Row, page: str | None) -> tuple[Any, ...]:
    """In the order of tables.COLUMNS."""
    return (
        row.id,
        row.seq,
        row.timeline,
        tables.micros(row.at),
        row.state,
        None if row.retired_at is None else tables.micros(row.retired_at),
        row.engine_id,
        row.bytes,
        row.new_bytes,
        row.digest,
        row.manifest_size,
        page,
    )


def _row(values: tuple[Any, ...]) -> Row:
    id, seq, timeline, at, state, retired_at, engine_id, bytes, new_bytes, digest, size, page = (
        values
    )
    return Row(
        id=id,
        seq=seq,
        timeline=timeline,
        at=tables.instant(at),
        state=state,
        retired_at=None if retired_at is None else tables.instant(retired_at),
        engine_id=engine_id,
        bytes=bytes,
        new_bytes=new_bytes,
        digest=digest,
        manifest_size=size,
        page=page,
    )
