"""What every store promises, over every store."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from threading import Barrier

import pytest

from ckptsync.errors import (
    Contention,
    IntegrityError,
    NotFound,
    NotModified,
    PreconditionFailed,
    StoreError,
)
from ckptsync.stores.base import Expect, ObjectStore, Version

MIB = 1 << 20
LIMIT = 16 * MIB


def read(store: ObjectStore, key: str) -> bytes:
    return store.get(key, limit=LIMIT).data


def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    return sorted(info.key for info in store.walk(prefix))


def test_what_was_put_is_read_back(store: ObjectStore) -> None:
    version = store.put("chunks/ab/abcdef", b"hello")

    fetched = store.get("chunks/ab/abcdef", limit=LIMIT)

    assert fetched.data == b"hello"
    assert fetched.version == version


def test_put_overwrites_unless_told_otherwise(store: ObjectStore) -> None:
    first = store.put("a", b"one")
    second = store.put("a", b"two")

    assert read(store, "a") == b"two"
    assert first != second


def test_an_empty_body_is_an_object(store: ObjectStore) -> None:
    store.put("empty", b"")

    assert read(store, "empty") == b""
    assert store.stat("empty").size == 0


@pytest.mark.parametrize("size", [MIB - 1, MIB, MIB + 1, 8 * MIB + 3])
def test_a_large_body_arrives_whole(store: ObjectStore, size: int) -> None:
    body = bytes(range(251)) * (size // 251 + 1)
    store.put("large", body[:size])

    assert read(store, "large") == body[:size]


def test_a_body_may_be_a_slice_of_a_buffer_that_is_used_again(store: ObjectStore) -> None:
    buffer = bytearray(b"0123456789" * MIB)[: 3 * MIB]
    expected = bytes(buffer[5 : 2 * MIB])
    store.put("slice", memoryview(buffer)[5 : 2 * MIB])
    buffer[:] = bytes(len(buffer))

    assert read(store, "slice") == expected


def test_a_body_may_be_a_bytearray(store: ObjectStore) -> None:
    store.put("a", bytearray(b"hello"))

    assert read(store, "a") == b"hello"


def test_create_refuses_to_overwrite(store: ObjectStore) -> None:
    store.put("a", b"first", expect=Expect.ABSENT)

    with pytest.raises(PreconditionFailed):
        store.put("a", b"second", expect=Expect.ABSENT)

    assert read(store, "a") == b"first"


def test_replace_gives_a_new_version(store: ObjectStore) -> None:
    first = store.put("a", b"one", expect=Expect.ABSENT)

    second = store.put("a", b"two", expect=first)

    assert second != first
    assert store.get("a", limit=LIMIT).version == second
    assert read(store, "a") == b"two"


def test_replace_refuses_a_stale_version(store: ObjectStore) -> None:
    stale = store.put("a", b"one")
    store.put("a", b"two", expect=stale)

    with pytest.raises(PreconditionFailed):
        store.put("a", b"three", expect=stale)

    assert read(store, "a") == b"two"


def test_replace_refuses_a_missing_key(store: ObjectStore) -> None:
    version = store.put("a", b"one")
    store.delete(["a"])

    with pytest.raises(PreconditionFailed):
        store.put("a", b"two", expect=version)

    with pytest.raises(NotFound):
        store.get("a", limit=LIMIT)


def test_a_deleted_key_may_be_created_again(store: ObjectStore) -> None:
    store.put("a", b"one", expect=Expect.ABSENT)
    store.delete(["a"])

    store.put("a", b"two", expect=Expect.ABSENT)

    assert read(store, "a") == b"two"


def test_one_of_eight_racing_creates_wins(store: ObjectStore) -> None:
    for number in range(2):
        key = f"race-{number}"
        won = winners(store, key, Expect.ABSENT, writers=8)
        assert won == [read(store, key)]


def test_one_of_eight_racing_replaces_wins(store: ObjectStore) -> None:
    version = store.put("race", b"start")
    for _ in range(2):
        won = winners(store, "race", version, writers=8)
        stored = store.get("race", limit=LIMIT)
        assert won == [stored.data]
        version = stored.version


def winners(store: ObjectStore, key: str, expect: Version | Expect, *, writers: int) -> list[bytes]:
    start = Barrier(writers)

    def write(number: int) -> list[bytes]:
        body = f"{expect}: {number}".encode()
        start.wait()
        try:
            store.put(key, body, expect=expect)
        except (PreconditionFailed, Contention):
            return []
        return [body]

    with ThreadPoolExecutor(writers) as pool:
        return [body for won in pool.map(write, range(writers)) for body in won]


def test_many_threads_share_a_store(store: ObjectStore) -> None:
    def write_and_read(number: int) -> bool:
        body = bytes([number]) * (100_000 + number)
        store.put(f"shared/{number}", body)
        into = bytearray(len(body))
        store.read_into(f"shared/{number}", 0, memoryview(into))
        return into == body

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(write_and_read, range(64)))
    assert len(keys(store, "shared/")) == 64


@pytest.mark.parametrize("key", ["not-there", "dir", "dir/not-there", "dir/there/below"])
def test_an_absent_key_is_not_found(store: ObjectStore, key: str) -> None:
    store.put("dir/there", b"")

    for act in reads(store, key):
        with pytest.raises(NotFound, match=f"'{key}'"):
            act()
    store.delete([key])

    assert keys(store) == ["dir/there"]


def reads(store: ObjectStore, key: str) -> Iterable[Callable[[], object]]:
    yield lambda: store.stat(key)
    yield lambda: store.get(key, limit=LIMIT)
    yield lambda: store.get(key, limit=LIMIT, unless=Version('"v1"'))
    yield lambda: store.read_into(key, 0, memoryview(bytearray(1)))
    yield lambda: store.read_into(key, 0, memoryview(bytearray(0)))


def test_a_conditional_read_says_not_modified(store: ObjectStore) -> None:
    first = store.put("head.json", b"one")

    with pytest.raises(NotModified):
        store.get("head.json", limit=LIMIT, unless=first)

    second = store.put("head.json", b"two")
    fetched = store.get("head.json", limit=LIMIT, unless=first)
    assert (fetched.data, fetched.version) == (b"two", second)


def test_an_object_longer_than_the_limit_is_refused(store: ObjectStore) -> None:
    store.put("a", b"12345")

    assert store.get("a", limit=5).data == b"12345"
    with pytest.raises(IntegrityError, match="'a' has 5 bytes"):
        store.get("a", limit=4)
    assert store.get("a", limit=5).data == b"12345", "the refusal left something behind"


@pytest.mark.parametrize(("start", "size"), [(0, 10), (0, 1), (9, 1), (3, 4), (10, 0), (0, 0)])
def test_a_range_fills_the_buffer_exactly(store: ObjectStore, start: int, size: int) -> None:
    store.put("digits", b"0123456789")
    buffer = bytearray(b"x" * (size + 2))

    store.read_into("digits", start, memoryview(buffer)[1 : 1 + size])

    assert buffer == b"x" + b"0123456789"[start : start + size] + b"x"


@pytest.mark.parametrize(("start", "size"), [(0, 11), (9, 2), (10, 1), (11, 1), (999, 5), (11, 0)])
def test_reading_past_the_end_is_an_integrity_error(
    store: ObjectStore, start: int, size: int
) -> None:
    store.put("digits", b"0123456789")

    with pytest.raises(IntegrityError, match="digits"):
        store.read_into("digits", start, memoryview(bytearray(size)))


def test_any_read_past_an_empty_object_is_an_integrity_error(store: ObjectStore) -> None:
    store.put("empty", b"")

    with pytest.raises(IntegrityError):
        store.read_into("empty", 0, memoryview(bytearray(1)))


def test_a_large_range_arrives_whole(store: ObjectStore) -> None:
    body = bytes(range(253)) * (5 * MIB // 253)
    store.put("large", body)
    into = bytearray(4 * MIB)

    store.read_into("large", 12345, memoryview(into))

    assert into == body[12345 : 12345 + 4 * MIB]


def test_stat_tells_size_and_time(store: ObjectStore) -> None:
    before = store.now() - timedelta(seconds=2)
    store.put("a/b", b"hello")

    info = store.stat("a/b")

    assert (info.key, info.size) == ("a/b", 5)
    assert info.modified.tzinfo is UTC
    assert before <= info.modified <= store.now() + timedelta(seconds=2)


def test_a_walk_finds_what_starts_with_the_prefix_and_nothing_else(store: ObjectStore) -> None:
    everything = ["a", "ab", "ab-c", "abc/d/e", "abc/f", "b/ab"]
    for key in everything:
        store.put(key, key.encode())

    assert keys(store) == everything
    assert keys(store, "ab") == ["ab", "ab-c", "abc/d/e", "abc/f"]
    assert keys(store, "abc/") == ["abc/d/e", "abc/f"]
    assert keys(store, "abc/d/e") == ["abc/d/e"]
    assert keys(store, "abc/d/e/") == []
    assert keys(store, "zzz/") == []


def test_a_walk_tells_what_stat_tells(store: ObjectStore) -> None:
    store.put("a/b", b"hello")

    (info,) = store.walk("a/")

    stat = store.stat("a/b")
    assert (info.key, info.size) == (stat.key, stat.size)
    assert abs(info.modified - stat.modified) < timedelta(seconds=1), "S3 drops what is below"


def test_an_empty_store_has_nothing_to_walk(store: ObjectStore) -> None:
    assert keys(store) == []


def test_a_walk_of_many_pages_finds_every_key(store: ObjectStore) -> None:
    written = [f"chunks/{number:04x}" for number in range(1203)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put(key, b""), written))

    assert keys(store, "chunks/") == written
    store.delete(written)  # more than one request takes
    assert keys(store) == []


@pytest.mark.parametrize(
    "key",
    [
        "with space",
        "plus+plus",
        "percent%41",
        "ünï/日本語",
        "quote'\"",
        "semi;colon&amp;",
        "hash#?query=1",
        "tilde~(*)!",
        "x" * 200,
        ".hidden/.file",
        "a..b/...",
    ],
)
def test_odd_keys_are_kept_as_they_are(store: ObjectStore, key: str) -> None:
    store.put(key, b"odd")

    assert read(store, key) == b"odd"
    assert keys(store) == [key]
    assert store.stat(key).key == key
    store.delete([key])
    assert keys(store) == []


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "../a",
        "a/../b",
        "a/.",
        "a\0b",
        "a\nb",
        "a\\b",
        "\udc80",
        "é" * 513,
    ],
)
def test_a_key_that_might_lead_elsewhere_is_refused(store: ObjectStore, key: str) -> None:
    acts: list[Callable[[], object]] = [
        *reads(store, key),
        lambda: store.put(key, b""),
        lambda: store.put(key, b"", expect=Expect.ABSENT),
        lambda: store.delete([key]),
    ]
    for act in acts:
        with pytest.raises(StoreError) as caught:
            act()
        assert type(caught.value) is StoreError, "refused, not absent"


def test_delete_leaves_the_others(store: ObjectStore) -> None:
    for key in ("a/1", "a/2", "b/1", "c"):
        store.put(key, b"")

    store.delete(["a/1", "b/1"])

    assert keys(store) == ["a/2", "c"]


def test_deleting_what_is_absent_is_no_error(store: ObjectStore) -> None:
    store.put("a", b"")

    store.delete(["a", "never/was", "nor-this"])
    store.delete(["a"])
    store.delete([])

    assert keys(store) == []


def test_delete_takes_any_iterable(store: ObjectStore) -> None:
    store.put("a", b"")
    store.put("b", b"")

    store.delete(info.key for info in list(store.walk("")))

    assert keys(store) == []


def test_the_clock_is_near_ours_and_does_not_run_backwards(store: ObjectStore) -> None:
    times = [store.now() for _ in range(3)]

    assert all(earlier <= later for earlier, later in pairwise(times))
    assert all(time.tzinfo is UTC for time in times)
    assert abs(times[0] - datetime.now(UTC)) < timedelta(seconds=30)
    assert keys(store) == [], "asking the time left an object behind"


def test_an_error_names_the_store_the_key_and_the_action(store: ObjectStore) -> None:
    with pytest.raises(NotFound) as caught:
        store.get("dir/absent", limit=1)

    message = str(caught.value)
    assert message.startswith(f"{store.name}: cannot read 'dir/absent': ")
