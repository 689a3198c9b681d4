from collections.abc import Iterator
from pathlib import Path

import pytest

from ckptsync.hashing import Digest, Hash
from ckptsync.state.database import Database
from ckptsync.state.statcache import UNUSED_DAYS, StatCache

DAY = 86_400.0
KEY = bytes(range(40))
CHUNKS = (Digest(b"a" * 32), Digest(b"b" * 32))


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000 * DAY

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "state.sqlite")
    yield database
    database.close()


@pytest.fixture
def cache(database: Database, clock: Clock) -> StatCache:
    return StatCache(database, now=clock)


def test_what_was_stored_is_found(cache: StatCache) -> None:
    cache.store({KEY: CHUNKS}, Hash.BLAKE3, 4096)

    assert cache.find(KEY, Hash.BLAKE3, 4096) == (CHUNKS, True)


def test_an_empty_file_has_no_chunks(cache: StatCache) -> None:
    cache.store({KEY: ()}, Hash.BLAKE3, 4096)

    assert cache.find(KEY, Hash.BLAKE3, 4096) == ((), True)


@pytest.mark.parametrize("changed", range(40))
def test_every_byte_of_the_key_counts(cache: StatCache, changed: int) -> None:
    cache.store({KEY: CHUNKS}, Hash.BLAKE3, 4096)
    other = bytearray(KEY)
    other[changed] ^= 1

    assert cache.find(bytes(other), Hash.BLAKE3, 4096) is None


def test_another_hash_or_chunk_size_is_another_entry(cache: StatCache) -> None:
    cache.store({KEY: CHUNKS}, Hash.BLAKE3, 4096)

    assert cache.find(KEY, Hash.SHA256, 4096) is None
    assert cache.find(KEY, Hash.BLAKE3, 8192) is None


def test_a_file_has_one_entry(cache: StatCache, database: Database) -> None:
    cache.store({KEY: CHUNKS}, Hash.BLAKE3, 4096)
    later = KEY[:16] + bytes(24)
    cache.store({later: CHUNKS[:1]}, Hash.BLAKE3, 4096)

    assert cache.find(KEY, Hash.BLAKE3, 4096) is None
    assert cache.find(later, Hash.BLAKE3, 4096) == (CHUNKS[:1], True)
    assert database.query("SELECT count(*) FROM stat_cache") == [(1,)]


def test_what_nobody_used_for_long_is_dropped_at_the_next_start(
    cache: StatCache, database: Database, clock: Clock
) -> None:
    used = bytes(40)
    cache.store({KEY: CHUNKS, used: CHUNKS}, Hash.BLAKE3, 4096)
    clock.seconds += UNUSED_DAYS * DAY
    assert cache.find(used, Hash.BLAKE3, 4096) == (CHUNKS, False)
    cache.touch([used], Hash.BLAKE3, 4096)
    clock.seconds += DAY

    later = StatCache(database, now=clock)

    assert later.find(KEY, Hash.BLAKE3, 4096) is None
    assert later.find(used, Hash.BLAKE3, 4096) == (CHUNKS, False)


def test_a_cleared_cache_knows_nothing(cache: StatCache) -> None:
    cache.store({KEY: CHUNKS}, Hash.BLAKE3, 4096)

    cache.clear()

    assert cache.find(KEY, Hash.BLAKE3, 4096) is None
