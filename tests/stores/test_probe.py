"""The probe believes what it sees."""

from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from ckptsync.errors import Contention, PreconditionFailed
from ckptsync.stores.base import Body, Expect, ObjectStore, Version
from ckptsync.stores.memory import MemoryStore
from ckptsync.stores.probe import probe, race
from ckptsync.stores.retry import Backoff, Retrying
from ckptsync.stores.s3 import S3Store
from tests.fakes.stores import FaultyStore, LyingStore
from tests.servers import S3Server


def test_a_sound_store_is_found_fit_each_time(store: ObjectStore) -> None:
    for _ in range(2):  # the second finds what the first left
        found = probe(store, "node")
        assert found.fences
        assert abs(found.clock_offset) < timedelta(seconds=30)


def test_a_store_that_ignores_conditions_is_found_unfit(rclone: S3Server) -> None:
    with closing(S3Store(rclone.options("probed"))) as store:
        for _ in range(2):
            found = probe(store, "node")
            assert not found.fences
            assert not found.conditional_create
            assert not found.conditional_replace
        assert found.verifies_checksums is False


@pytest.mark.parametrize(("kind", "verifies"), [("moto", False), ("seaweedfs", True)])
def test_checksums_are_tried_through_the_retries(
    request: pytest.FixtureRequest, kind: str, verifies: bool
) -> None:
    server: S3Server = request.getfixturevalue(kind)
    with closing(S3Store(server.options("probed"))) as store:
        found = probe(Retrying(store, Backoff(), lambda _: False), "node")

    assert found.verifies_checksums is verifies


def test_where_nothing_can_be_corrupted_the_checksums_stay_unknown() -> None:
    assert probe(MemoryStore(), "node").verifies_checksums is None


def test_the_offset_is_how_far_the_store_is_ahead() -> None:
    here = datetime(2030, 1, 1, tzinfo=UTC)
    store = MemoryStore(clock=lambda: here + timedelta(hours=1))

    assert probe(store, "node", clock=lambda: here).clock_offset == timedelta(hours=1)


def test_a_store_that_refuses_every_condition_is_unfit() -> None:
    class Refusing(MemoryStore):
        def put(
            self, key: str, body: Body, *, expect: Version | Expect = Expect.ANYTHING
        ) -> Version:
            if expect is not Expect.ANYTHING:
                raise PreconditionFailed(self.name, "write", key, "no")
            return super().put(key, body)

    assert not probe(Refusing(), "node").fences


def test_a_probe_is_not_confused_by_another_one() -> None:
    class Disturbed(MemoryStore):
        disturbances = 3

        def put(
            self, key: str, body: Body, *, expect: Version | Expect = Expect.ANYTHING
        ) -> Version:
            if isinstance(expect, str) and self.disturbances:
                self.disturbances -= 1
                super().put(key, b"another probe was here")
            return super().put(key, body, expect=expect)

    assert probe(Disturbed(), "node").fences


def test_contention_is_no_finding() -> None:
    busy = Contention("memory://", "write", "probe/node.json", "a race")

    with pytest.raises(Contention):
        probe(FaultyStore(MemoryStore(), fail_at={0: busy}), "node")


def test_a_race_has_one_winner(store: ObjectStore) -> None:
    assert race(store, "probe/race-node", writers=4).sound
    assert [info.key for info in store.walk("")] == []


def test_a_race_in_a_store_that_lies_has_several() -> None:
    seen = race(LyingStore(MemoryStore()), "probe/race-node")

    assert not seen.sound
    assert seen.winners == (seen.writers,) * 3
