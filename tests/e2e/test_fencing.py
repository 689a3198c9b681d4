"""Of two that could write to a bucket one does, and the other learns it."""

import shutil
import signal
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from ckptsync.model import Role
from ckptsync.repository import nodes
from tests.e2e.conftest import MakePair
from tests.e2e.daemons import daemon, eventually
from tests.e2e.gate import gate
from tests.e2e.pair import (
    HOLD,
    Pair,
    await_warm,
    configured,
    events,
    kind,
    push,
    with_hooks,
    with_sync,
    write_checkpoint,
)
from tests.e2e.site import PATIENCE, Site
from tests.operations.invariants import require_sound
from tests.servers import S3Server


@pytest.fixture
def pair(make_pair: MakePair) -> Pair:
    return make_pair("directory")


def test_a_primary_frozen_between_its_check_and_its_swap_commits_nothing_more(
    make_pair: MakePair, seaweedfs: S3Server
) -> None:
    pair = make_pair("s3")
    first = push(pair.a)
    write_checkpoint(pair.a)
    with gate(seaweedfs, "PUT", "/head.json", free=0) as swap:
        a = with_sync(pair.a, endpoint=swap.server.endpoint)
        a = with_hooks(a, on_fenced="touch stopped")
        with daemon(a) as on_a, daemon(pair.b):
            assert swap.reached.wait(PATIENCE)
            on_a.signal(signal.SIGSTOP)
            assert pair.b.run("activate", "--yes", "--force").code == 0
            swap.opened.set()
            on_a.signal(signal.SIGCONT)
            eventually((a.home / "stopped").exists)
            eventually(lambda: on_a.snapshot().role is Role.FENCED)
            assert not events(on_a, "checkpoint.committed")
            second = write_checkpoint(pair.b)
            eventually(lambda: pair.latest == second)

    assert [each.engine_id for each in pair.entries] == [second, first]
    assert (pair.head.epoch, pair.head.writer.node) == (2, "host-b")
    require_sound(pair.store)


def test_a_primary_that_has_nothing_to_push_learns_too_that_it_was_displaced(pair: Pair) -> None:
    a = with_hooks(with_sync(pair.a, push_interval=None), on_fenced="touch stopped")
    with daemon(a) as on_a, daemon(pair.b):
        on_a.signal(signal.SIGSTOP)
        assert pair.b.run("activate", "--yes", "--force").code == 0
        on_a.signal(signal.SIGCONT)
        eventually((a.home / "stopped").exists)
        refused = a.run("push", "--json")

        assert on_a.snapshot().role is Role.FENCED
        assert (refused.code, kind(refused)) == (11, "Fenced")
        assert (pair.head.epoch, pair.head.writer.node) == (2, "host-b")


def test_a_primary_cut_off_from_the_bucket_is_fenced_once_it_is_back(
    make_pair: MakePair, seaweedfs: S3Server
) -> None:
    pair = make_pair("s3")
    first = write_checkpoint(pair.a)
    with gate(seaweedfs, "-", "-", free=0) as line:
        a = with_hooks(with_sync(pair.a, endpoint=line.server.endpoint), on_fenced="touch stopped")
        with daemon(a) as on_a, daemon(pair.b) as on_b:
            await_warm(on_b, first)
            line.away.set()
            unpushed = write_checkpoint(a)
            assert pair.b.run("activate", "--yes", "--force").code == 0
            second = write_checkpoint(pair.b)
            eventually(lambda: pair.latest == second)
            line.away.clear()
            eventually((a.home / "stopped").exists)
            eventually(lambda: on_a.snapshot().role is Role.FENCED)
            rejoined = a.run("rejoin", "--yes", "--json")

            assert rejoined.code == 0, rejoined.err
            assert (Path(rejoined.document["quarantine"]) / unpushed).is_dir()
            await_warm(on_a, second)
    assert [each.engine_id for each in pair.entries] == [second, first]
    require_sound(pair.store)


def test_the_hook_of_a_displaced_primary_is_run_until_it_succeeds(pair: Pair) -> None:
    a = with_hooks(pair.a, on_fenced="echo >> tried; test $(wc -l < tried) = 3")
    with daemon(a) as on_a, daemon(pair.b):
        assert pair.b.run("activate", "--yes", "--force").code == 0
        eventually(lambda: (on := on_a.snapshot()).role is Role.FENCED and on.problem is None)

        assert len(events(on_a, "fenced.engine_not_stopped")) == 2
    assert (a.home / "tried").read_text() == "\n" * 3


def test_a_primary_killed_a_second_ago_still_looks_alive(pair: Pair) -> None:
    push(pair.a)
    with daemon(pair.b):
        with daemon(pair.a) as on_a:
            pair.await_life(pair.a)
            on_a.kill()
        refused = pair.b.run("activate", "--yes", "--json")
        head = pair.head
        pair.silence(pair.a, seconds=nodes.FRESH.total_seconds() + 1)
        later = pair.b.run("activate", "--yes", "--json")

    assert (refused.code, kind(refused)) == (13, "PrimaryActive")
    assert "'host-a'" in refused.err
    assert "--force" in refused.err
    assert (head.epoch, head.writer.node) == (1, "host-a")
    assert (later.code, later.document["epoch"]) == (0, 2)


def test_of_two_standbys_that_are_activated_at_once_one_wins_and_the_other_says_who_did(
    make_pair: MakePair, seaweedfs: S3Server
) -> None:
    pair = make_pair("s3")
    push(pair.a)
    c = pair.other("host-c")
    with gate(seaweedfs, "PUT", "/head.json", free=0) as swap:
        b = with_sync(pair.b, endpoint=swap.server.endpoint)
        with daemon(b) as on_b, daemon(c):
            eventually(lambda: on_b.snapshot().warm)
            with b.start("activate", "--yes", "--json") as asked:
                assert swap.reached.wait(PATIENCE)
                won = c.run("activate", "--yes", "--json")
                swap.opened.set()
                lost = asked.done()
            second = write_checkpoint(c)
            eventually(lambda: pair.latest == second)

            assert (won.code, won.document["epoch"]) == (0, 2)
            assert (lost.code, kind(lost)) == (11, "Fenced")
            assert "node 'host-c' took over at epoch 2" in lost.err
            assert on_b.snapshot().role is Role.STANDBY
            assert not b.storage().exists(), "what it holds ready stays aside"
            await_warm(on_b, second)
    assert (pair.head.epoch, pair.head.writer.node) == (2, "host-c")
    require_sound(pair.store)


def test_standbys_let_go_at_the_same_moment_do_not_both_win(pair: Pair) -> None:
    push(pair.a)
    rivals = [with_hooks(pair.other(f"host-{each}"), pre_activate=HOLD) for each in "bc"]
    with ExitStack() as running:
        for each in rivals:
            running.enter_context(daemon(each))
            pair.await_life(each)
        asked = [
            running.enter_context(each.start("activate", "--yes", "--json")) for each in rivals
        ]
        for each in rivals:
            eventually((each.home / "held").exists)
        for each in rivals:
            (each.home / "go").touch()
        done = [each.done() for each in asked]

    head = pair.head
    winners = [site.home.name for site, each in zip(rivals, done, strict=True) if each.code == 0]
    lost = [each for each in done if each.code]
    assert winners == [head.writer.node]
    assert head.epoch == 2
    assert {kind(each) for each in lost} <= {"Fenced", "PrimaryActive"}
    assert all(f"'{head.writer.node}'" in each.document["error"]["message"] for each in lost)


def test_a_rebuilt_host_is_refused_before_a_byte_is_written(make_pair: MakePair) -> None:
    pair = make_pair("s3")
    push(pair.a)
    shutil.rmtree(pair.a.state)
    write_checkpoint(pair.a)
    before = pair.contents()

    with daemon(pair.a) as on_a:
        code = on_a.process.wait(PATIENCE)
    by_hand = pair.a.run("push", "--json")

    assert code == 11
    assert "ckptsync activate" in on_a.log
    assert (by_hand.code, kind(by_hand)) == (11, "ForeignWriter")
    assert pair.contents() == before


@pytest.mark.parametrize(("bucket", "standby"), [("s3", False), ("directory", True)])
def test_another_pipeline_pointed_at_the_prefix_is_refused_before_a_byte_is_written(
    make_pair: MakePair, bucket: str, standby: bool
) -> None:
    pair = make_pair(bucket)
    push(pair.a)
    before = pair.everything()
    stranger = configured(
        replace(
            pair.other("host-c"),
            buckets={"trades": pair.a.buckets["orders"]},
            sync={**pair.a.sync, "standby": standby},
        )
    )

    with daemon(stranger) as running:
        if standby:
            eventually(lambda: running.snapshot("trades").last_pull_failure)
            refused = stranger.run("activate", "--yes", "--json")
            assert (refused.code, kind(refused)) == (2, "WrongRepository")
        else:
            assert running.process.wait(PATIENCE) == 2

    assert "belongs to pipeline 'orders', not to 'trades'" in running.log
    assert pair.everything() == before


def _copy(site: Site) -> Site:
    """A host with what another has on its disk, and its name."""
    home = site.home.parent / "copy" / site.home.name
    shutil.copytree(site.home, home, ignore=shutil.ignore_patterns("*.sock", "*.log"))
    return configured(replace(site, home=home))


def test_a_copy_of_a_host_that_is_at_work_does_not_start(pair: Pair) -> None:
    pushed = write_checkpoint(pair.a)
    with daemon(pair.a) as on_a:
        eventually(lambda: pair.latest == pushed)
        pair.await_life(pair.a)
        on_a.signal(signal.SIGSTOP)
        copy = _copy(pair.a)
        on_a.signal(signal.SIGCONT)
        write_checkpoint(copy)
        pair.silence(pair.a, seconds=nodes.FRESH.total_seconds() - 5)
        before = pair.contents()
        with daemon(copy, ready=False) as on_copy:
            eventually(lambda: events(on_copy, "node.same_elsewhere"))
            pair.silence(pair.a, seconds=0)  # as its next sign of life does
            assert on_copy.process.wait(PATIENCE) == 13

        assert "node 'host-a' is at work on another machine, too" in on_copy.log
        assert pair.contents() == before
        assert on_a.snapshot().role is Role.PRIMARY


def test_a_host_whose_copy_wrote_in_its_name_stops(pair: Pair) -> None:
    a = with_hooks(pair.a, on_fenced="touch stopped")
    first = write_checkpoint(a)
    with daemon(a) as on_a:
        eventually(lambda: pair.latest == first)
        pair.await_life(pair.a)
        on_a.signal(signal.SIGSTOP)
        copy = _copy(a)
        pair.silence(a, seconds=3600)
        second = write_checkpoint(copy)
        with daemon(copy) as on_copy:
            eventually(lambda: pair.latest == second)
            on_a.signal(signal.SIGCONT)
            eventually(lambda: on_a.snapshot().role is Role.STOPPED)
            write_checkpoint(a)
            refused = a.run("push", "--json")

            assert (refused.code, kind(refused)) == (11, "ForeignWriter")
            assert "a copy of this node has written in its name" in refused.err
            assert on_copy.snapshot().role is Role.PRIMARY
        assert a.run("may-start").code == 11
    assert not (a.home / "stopped").exists(), "whose engine is the true one, nobody can tell"
    assert [each.engine_id for each in pair.entries] == [second, first]
    assert pair.head.epoch == 1


def test_a_push_by_hand_beside_daemons_fences_nobody(pair: Pair) -> None:
    with daemon(pair.a) as on_a, daemon(pair.b) as on_b:
        for _ in range(3):
            pushed = write_checkpoint(pair.a)
            by_hand = pair.a.run("push", "--json")
            assert by_hand.code == 0, by_hand.err
            await_warm(on_b, pushed)
        refused = pair.b.run("push", "--json")

        assert (refused.code, kind(refused)) == (13, "NotPrimary")
        assert (on_a.snapshot().role, on_b.snapshot().role) == (Role.PRIMARY, Role.STANDBY)
        assert not events(on_a, "role.fenced")
    assert (pair.head.epoch, pair.head.writer.node) == (1, "host-a")
    assert len(pair.entries) == 3, "none was committed twice"
