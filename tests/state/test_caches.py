"""What only saves work: the newest manifests and the last probe."""

from datetime import UTC, datetime, timedelta

import pytest

from ckptsync.state.capabilities import Capabilities
from ckptsync.state.database import Database
from ckptsync.state.manifests import ManifestCache

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def test_the_newest_four_manifests_are_kept(database: Database) -> None:
    cache = ManifestCache(database)
    for number in range(6):
        cache.put(bytes([number]) * 32, b"data %d" % number)

    kept = [number for number in range(6) if cache.get(bytes([number]) * 32) is not None]

    assert kept == [2, 3, 4, 5]
    assert cache.get(bytes([5]) * 32) == b"data 5"


def test_a_manifest_that_is_put_again_counts_as_new(database: Database) -> None:
    cache = ManifestCache(database)
    for number in (0, 1, 2, 3, 0, 4):
        cache.put(bytes([number]) * 32, b"data")

    assert cache.get(bytes(32)) == b"data"
    assert cache.get(b"\x01" * 32) is None


@pytest.mark.parametrize(
    ("age", "known"),
    [
        (timedelta(0), True),
        (DAY, True),
        (DAY + timedelta(seconds=1), False),
        (timedelta(seconds=-1), False),
    ],
)
def test_a_probe_is_trusted_for_as_long_as_asked(
    database: Database, age: timedelta, known: bool
) -> None:
    Capabilities(database).remember('{"conditional_create": true}', place="a", now=NOON)

    recalled = Capabilities(database).recall(place="a", max_age=DAY, now=NOON + age)

    assert recalled == ('{"conditional_create": true}' if known else None)


def test_a_later_probe_replaces_the_first(database: Database) -> None:
    capabilities = Capabilities(database)
    assert capabilities.recall(place="a", max_age=DAY, now=NOON) is None
    capabilities.remember("1", place="a", now=NOON)
    capabilities.remember("2", place="a", now=NOON)
    assert capabilities.recall(place="a", max_age=DAY, now=NOON) == "2"


def test_what_was_seen_of_one_server_says_nothing_of_another(database: Database) -> None:
    capabilities = Capabilities(database)
    capabilities.remember("1", place="s3://bucket at one server", now=NOON)

    assert capabilities.recall(place="s3://bucket at another", max_age=DAY, now=NOON) is None
