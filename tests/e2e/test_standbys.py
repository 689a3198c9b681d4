"""Standbys that follow a bucket, and what they make of one that is empty, or forbidden."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from ckptsync.model import Role
from tests.e2e.conftest import MakePair
from tests.e2e.daemons import Daemon, daemon, eventually
from tests.e2e.gate import gate
from tests.e2e.pair import (
    Pair,
    await_warm,
    events,
    kind,
    push,
    warm,
    with_sync,
    write_checkpoint,
)
from tests.e2e.site import Site
from tests.fakes.feldera_engine import resume
from tests.servers import S3Server


@pytest.fixture
def pair(make_pair: MakePair) -> Pair:
    return make_pair("directory")


def _staged(standby: Daemon) -> Sequence[str]:
    """What it has held ready in turn."""
    return [each["checkpoint"] for each in events(standby, "standby.staged")]


def _resumed(site: Site) -> str | None:
    found = resume(site.storage())
    return None if found is None else found.uuid


@pytest.mark.parametrize("bucket", ["directory", "s3"])
def test_a_standby_is_warm_with_each_checkpoint_in_turn(make_pair: MakePair, bucket: str) -> None:
    pair = make_pair(bucket)
    b = with_sync(pair.b, start_from_checkpoint="latest")
    with daemon(pair.a), daemon(b) as on_b:
        for _ in range(3):
            written = write_checkpoint(pair.a)
            await_warm(on_b, written)
        committed = [each.id for each in reversed(pair.entries)]
        eventually(lambda: _staged(on_b) == committed)

        assert not b.storage().exists(), "nothing is put in place before an activation"


def test_a_standby_of_one_checkpoint_goes_on_from_that(pair: Pair) -> None:
    wanted, later = push(pair.a), [push(pair.a), push(pair.a)]
    b = with_sync(pair.b, start_from_checkpoint=wanted)
    with daemon(b) as on_b:
        await_warm(on_b, wanted)
        done = b.run("activate", "--yes", "--json")

        assert (done.code, done.document["left_behind"]) == (0, len(later))
        assert _resumed(b) == wanted
        second = write_checkpoint(b)
        eventually(lambda: pair.latest == second)
    fork = pair.head.timelines[-1].parent
    assert fork is not None
    assert fork.checkpoint == pair.entries[-1].id


def test_a_poll_with_nothing_new_is_one_request(make_pair: MakePair, seaweedfs: S3Server) -> None:
    pair = make_pair("s3")
    pushed = push(pair.a)
    with gate(seaweedfs, "-", "-", free=0) as noted:
        b = with_sync(pair.b, endpoint=noted.server.endpoint)
        with daemon(b) as on_b:
            await_warm(on_b, pushed)
            before = len(noted.asked)
            eventually(lambda: len(noted.asked) > before + 10)
    polls = [each for each in noted.asked[before + 1 :] if "/nodes/" not in each.path]
    assert {(each.method, each.path[-10:], each.status) for each in polls} == {
        ("GET", "/head.json", 304)
    }
    assert all(later.at - each.at > 0.1 for each, later in pairwise(polls)), "one an interval"


@pytest.fixture
def old(tmp_path: Path) -> Pair:
    """Of another bucket, which its primary has filled."""
    made = Pair.on_disk(tmp_path / "old")
    push(made.a)
    return made


def test_a_standby_reads_from_read_bucket_until_the_bucket_holds_something(
    pair: Pair, old: Pair
) -> None:
    b = with_sync(pair.b, read_bucket=old.a.buckets["orders"])
    with daemon(b) as on_b:
        eventually(lambda: warm(on_b) == old.latest)
        follows = push(old.a)
        await_warm(on_b, follows)
        own = push(pair.a)
        await_warm(on_b, own)
        push(old.a)
        push(pair.a)
        eventually(lambda: len(_staged(on_b)) == 4)
        sources = [each["source"] for each in events(on_b, "standby.staged")]
        assert sources == [old.store.name, old.store.name, pair.store.name, pair.store.name]


def test_a_standby_of_an_empty_bucket_goes_on_from_read_bucket_and_leaves_it_alone(
    pair: Pair, old: Pair
) -> None:
    b = with_sync(pair.b, read_bucket=old.a.buckets["orders"])
    before = old.everything()
    with daemon(b) as on_b:
        eventually(lambda: warm(on_b) == old.latest)
        done = b.run("activate", "--yes", "--json")

        assert (done.code, done.document["role"]) == (0, "primary")
        assert _resumed(b) == old.latest
        pushed = write_checkpoint(b)
        eventually(lambda: pair.latest == pushed)
    assert old.everything() == before


def test_a_bucket_that_is_forbidden_is_an_error_though_read_bucket_is_filled(
    make_pair: MakePair, old: Pair
) -> None:
    pair = make_pair("s3")
    b = replace(pair.b, secret="not-the-secret-of-this-bucket")
    b = with_sync(b, read_bucket=old.a.buckets["orders"])
    with daemon(b) as on_b:
        failure = eventually(lambda: on_b.snapshot().last_pull_failure)
        refused = b.run("activate", "--yes", "--json", "--force")

        assert failure.kind == "AccessDenied"
        assert (refused.code, kind(refused)) == (14, "AccessDenied")
        assert (on_b.snapshot().role, on_b.snapshot().warm) == (Role.STANDBY, None)
        assert not events(on_b, "standby.staged")
    assert not b.storage().exists()
