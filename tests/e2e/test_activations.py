"""Standbys that are activated, and what becomes of those that are interrupted at it."""

from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Final

import pytest

from ckptsync.model import Role
from tests.e2e.conftest import MakePair
from tests.e2e.daemons import daemon, eventually
from tests.e2e.gate import Asked, gate
from tests.e2e.pair import (
    HOLD,
    Pair,
    await_warm,
    configured,
    events,
    kind,
    push,
    tree,
    with_hooks,
    with_sync,
    write_checkpoint,
)
from tests.e2e.site import COMMAND, PATIENCE, Site
from tests.fakes.feldera_engine import PIDLOCK, contents, read_record, resume
from tests.operations.invariants import require_sound
from tests.servers import S3Server

_DATA: Final = ("/packs/", "/chunks/", "/manifests/")


@pytest.fixture
def pair(make_pair: MakePair) -> Pair:
    """Host a has pushed a checkpoint, and does nothing more by itself."""
    made = make_pair("directory")
    push(made.a)
    return made


def test_an_activation_goes_guard_fence_last_pull_publish_confirm_start(
    make_pair: MakePair, seaweedfs: S3Server
) -> None:
    pair = make_pair("s3")
    with gate(seaweedfs, "PUT", "/head.json", free=1) as confirm:
        b = with_sync(pair.b, endpoint=confirm.server.endpoint, pull_interval="1h")
        b = with_hooks(b, on_activate="touch started")
        with daemon(b) as on_b:
            latest = push(pair.a)
            before = len(confirm.asked)
            with b.start("activate", "--yes", "--json") as asked:
                assert confirm.reached.wait(PATIENCE)
                assert (pair.head.epoch, pair.head.writer.state) == (2, "activating")
                assert _goes_on_from(b, pair.a, latest)
                assert on_b.snapshot().role is Role.ACTIVATING
                assert b.run("may-start").code == 13
                assert not (b.home / "started").exists()
                confirm.opened.set()
                done = asked.done()
            steps = [step for each in confirm.asked[before:] if (step := _step(each))]

    assert done.code == 0, done.err
    assert [step for step, _ in groupby(steps)] == ["guard", "swap", "pull", "swap"]
    assert pair.head.writer.state == "active"
    assert (b.home / "started").exists()


def _goes_on_from(site: Site, written_on: Site, id: str) -> bool:
    """Whether an engine would go on here from exactly what one wrote on another host."""
    found = resume(site.storage())
    written = read_record(written_on.home / "record")[id]
    return found is not None and found.uuid == id and contents(site.storage(), id) == written


def _step(asked: Asked) -> str | None:
    if asked.path.endswith("/nodes/host-a.json"):
        return "guard"
    if asked.method == "PUT" and asked.path.endswith("/head.json"):
        return "swap"
    return "pull" if any(part in asked.path for part in _DATA) else None


def test_the_activation_of_a_warm_standby_fetches_nothing(
    make_pair: MakePair, seaweedfs: S3Server
) -> None:
    pair = make_pair("s3")
    latest = push(pair.a)
    with gate(seaweedfs, "-", "-", free=0) as noted:
        b = with_sync(pair.b, endpoint=noted.server.endpoint)
        with daemon(b) as on_b:
            eventually(lambda: on_b.snapshot().warm)
            before = len(noted.asked)
            done = b.run("activate", "--yes", "--json")
            steps = [step for each in noted.asked[before:] if (step := _step(each))]

    assert done.code == 0, done.err
    assert "pull" not in steps
    assert steps.count("swap") == 2
    assert _goes_on_from(b, pair.a, latest)


def test_the_gate_of_an_engine_is_open_to_the_activation_that_starts_it(pair: Pair) -> None:
    b = with_hooks(pair.b, on_activate=f"{COMMAND} may-start orders > asked")
    with daemon(b):
        refused = b.run("may-start")
        done = b.run("activate", "--yes", "--json")

    assert refused.code == 13
    assert done.code == 0, done.err
    assert (b.home / "asked").read_text().startswith("orders may start on host-b: ")


def test_a_request_activates_once_however_often_it_is_made(pair: Pair) -> None:
    command = ("activate", "--yes", "--json", "--request", "drill-7")
    b = with_hooks(pair.b, on_activate=f"echo >> started; {HOLD}")
    with daemon(b), b.start(*command) as first, b.start(*command) as second:
        eventually((b.home / "held").exists)
        (b.home / "go").touch()
        done = [first.done(), second.done(), b.run(*command)]
    with daemon(b):
        done.append(b.run(*command))

    assert [each.code for each in done] == [0, 0, 0, 0]
    assert {(each.document["request"], each.document["epoch"]) for each in done} == {("drill-7", 2)}
    assert done[-1].document["already"] is True
    assert (b.home / "started").read_text() == "\n"
    assert pair.head.epoch == 2


def test_a_standby_killed_after_it_has_fenced_resumes(
    make_pair: MakePair, seaweedfs: S3Server
) -> None:
    pair = make_pair("s3")
    command = ("activate", "--yes", "--json", "--request", "drill-7")
    with gate(seaweedfs, "GET", "/packs/", free=0) as pull:
        b = with_sync(pair.b, endpoint=pull.server.endpoint, pull_interval="1h")
        with daemon(b) as on_b:
            latest = push(pair.a)
            with b.start(*command) as asked:
                assert pull.reached.wait(PATIENCE)
                on_b.kill()
                interrupted = asked.done()
        fenced, started = pair.head, b.run("may-start")
        pull.opened.set()
        write_checkpoint(pair.a)
        late = pair.a.run("push", "--json")
        with daemon(b) as on_b:
            eventually(lambda: on_b.snapshot().role is Role.PRIMARY)
            again = b.run(*command)
            assert _goes_on_from(b, pair.a, latest)
            second = write_checkpoint(b)
            eventually(lambda: pair.latest == second)

    assert (interrupted.code, kind(interrupted)) == (16, "CannotTell")
    assert (fenced.epoch, fenced.timeline, fenced.writer.state) == (2, 2, "activating")
    assert started.code == 13
    assert (late.code, kind(late)) == (11, "Fenced")
    assert (again.code, again.document["epoch"]) == (0, 3)
    assert (pair.head.epoch, pair.head.timeline) == (3, 2)
    assert [each.engine_id for each in pair.entries] == [second, latest]
    require_sound(pair.store)


def test_a_standby_killed_while_its_engine_was_started_starts_it_again(pair: Pair) -> None:
    b = with_hooks(pair.b, on_activate=f"echo >> started; {HOLD}")
    with daemon(b) as on_b, b.start("activate", "--yes", "--json") as asked:
        eventually((b.home / "held").exists)
        on_b.kill()
        (b.home / "go").touch()
        assert asked.done().code == 16
    assert pair.head.writer.state == "active"

    with daemon(b) as on_b:
        eventually(lambda: on_b.snapshot().role is Role.PRIMARY)

    assert (b.home / "started").read_text() == "\n\n"
    assert pair.head.epoch == 2, "it was this node's already"


def test_an_activated_node_that_restarts_is_the_primary_from_its_own_disk(pair: Pair) -> None:
    b = with_hooks(pair.b, on_activate="echo >> started")
    with daemon(b) as on_b:
        assert b.run("activate", "--yes").code == 0
        second = write_checkpoint(b)
        eventually(lambda: pair.latest == second)
        on_b.kill()
    third = write_checkpoint(b)
    head, here = pair.head, tree(b.storage())
    said = len(events(on_b, "standby.staged"))

    with daemon(b) as on_b:
        assert on_b.snapshot().role is Role.PRIMARY
        eventually(lambda: pair.latest == third)

    assert tree(b.storage()) == here
    assert len(events(on_b, "standby.staged")) == said, "it was no standby meanwhile"
    assert (pair.head.epoch, pair.head.timeline) == (head.epoch, head.timeline)
    assert (b.home / "started").read_text() == "\n"


def test_an_activated_node_that_restarts_is_fenced_if_another_has_taken_over(pair: Pair) -> None:
    b, c = with_hooks(pair.b, on_fenced="touch stopped"), pair.other("host-c")
    with daemon(b) as on_b:
        assert b.run("activate", "--yes").code == 0
        on_b.kill()
    assert c.run("activate", "--yes", "--force").code == 0
    here = tree(b.storage())

    with daemon(b) as on_b:
        assert on_b.snapshot().role is Role.FENCED
        eventually((b.home / "stopped").exists)
        assert b.run("may-start").code == 11

    assert tree(b.storage()) == here
    assert (pair.head.epoch, pair.head.writer.node) == (3, "host-c")


def test_no_standby_is_activated_while_the_bucket_is_away(pair: Pair) -> None:
    bucket = Path(pair.store.name.removeprefix("file://"))
    with daemon(pair.b) as on_b:
        eventually(lambda: on_b.snapshot().warm)
        away = bucket.rename(bucket.with_name("away"))
        refused = pair.b.run("activate", "--yes", "--json", "--force")
        away.rename(bucket)

        assert (refused.code, kind(refused)) == (10, "BucketNotFound")
        assert on_b.snapshot().role is Role.STANDBY
        assert (pair.head.epoch, pair.head.writer.node) == (1, "host-a")
        assert pair.b.run("activate", "--yes").code == 0


def test_no_standby_is_activated_while_the_server_does_not_answer(
    make_pair: MakePair, seaweedfs: S3Server
) -> None:
    pair = make_pair("s3")
    push(pair.a)
    with gate(seaweedfs, "-", "-", free=0) as line:
        b = with_sync(pair.b, endpoint=line.server.endpoint)
        with daemon(b) as on_b:
            eventually(lambda: on_b.snapshot().warm)
            line.away.set()
            refused = b.run("activate", "--yes", "--json", "--force")
            line.away.clear()

            assert (refused.code, kind(refused)) == (5, "Unavailable")
            assert on_b.snapshot().role is Role.STANDBY
    assert (pair.head.epoch, pair.head.writer.node) == (1, "host-a")


def test_a_node_activated_without_the_bucket_pushes_once_that_is_back(pair: Pair) -> None:
    bucket = Path(pair.store.name.removeprefix("file://"))
    b = with_hooks(
        configured(replace(pair.b, activation={"on_pull_failure": "local"})),
        on_activate="touch started",
    )
    with daemon(b) as on_b:
        eventually(lambda: on_b.snapshot().warm)
        away = bucket.rename(bucket.with_name("away"))
        refused = b.run("activate", "--yes", "--json")
        done = b.run("activate", "--yes", "--json", "--force")

        assert (refused.code, kind(refused)) == (10, "BucketNotFound")
        assert (done.code, done.document["role"]) == (0, "unfenced")
        assert (b.home / "started").exists()
        assert b.run("may-start").code == 0
        second = write_checkpoint(b)
        away.rename(bucket)
        eventually(lambda: on_b.snapshot().role is Role.PRIMARY)
        eventually(lambda: pair.latest == second)
    assert (pair.head.epoch, pair.head.writer.node) == (2, "host-b")
    require_sound(pair.store)


def test_a_node_cut_off_and_activated_beside_its_primary_diverges(
    make_pair: MakePair, seaweedfs: S3Server
) -> None:
    pair = make_pair("s3")
    first = write_checkpoint(pair.a)
    with gate(seaweedfs, "-", "-", free=0) as line:
        b = with_sync(pair.b, endpoint=line.server.endpoint)
        b = configured(replace(b, activation={"on_pull_failure": "local"}))
        b = with_hooks(b, on_fenced="touch stopped")
        with daemon(pair.a) as on_a, daemon(b) as on_b:
            await_warm(on_b, first)
            line.away.set()
            assert b.run("activate", "--yes", "--force").code == 0
            write_checkpoint(b)
            second = write_checkpoint(pair.a)
            eventually(lambda: pair.latest == second)
            line.away.clear()
            eventually(lambda: on_b.snapshot().role is Role.DIVERGED)
            left = tree(b.storage(), leave_out={PIDLOCK})
            assert b.run("may-start").code == 11
            settled = b.run("diverged", "--keep", "bucket", "--yes", "--json")

            assert settled.code == 0, settled.err
            assert tree(Path(settled.document["quarantine"])) == left
            await_warm(on_b, second)
            assert (on_a.snapshot().role, on_b.snapshot().role) == (Role.PRIMARY, Role.STANDBY)
            assert not events(on_b, "checkpoint.committed")
    assert (b.home / "stopped").exists()
    assert [each.engine_id for each in pair.entries] == [second, first]


def test_a_standby_whose_disk_is_not_mounted_fences_nobody(tmp_path: Path) -> None:
    pair = Pair.on_disk(tmp_path)
    push(pair.a)
    pair.b.storage().parent.rmdir()

    refused = pair.b.run("activate", "--yes", "--json")

    assert (refused.code, kind(refused)) == (1, "SourceError")
    assert (pair.head.epoch, pair.head.writer.node) == (1, "host-a")
