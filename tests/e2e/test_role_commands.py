"""Commands that change roles, on two hosts that share a bucket, without a daemon."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ckptsync.model import Role
from tests.e2e.conftest import MakePair
from tests.e2e.daemons import eventually
from tests.e2e.pair import Pair, configured, kind, with_hooks
from tests.e2e.roles import (
    ACTIVATED,
    AROUND,
    STOPPED,
    beat,
    bucket_of,
    push_step,
    role_of,
    status_of,
    without_engines,
)
from tests.e2e.site import Running, Site
from tests.e2e.terminal import Screen, terminal
from tests.pipelines import write_tree


@pytest.fixture
def pair(make_pair: MakePair) -> Pair:
    return without_engines(make_pair("directory"))


def test_an_activation_takes_over_and_goes_on_from_the_latest(pair: Pair) -> None:
    latest = pair.head.latest

    done = pair.b.run("activate", "--yes", "--reason", "drill")

    assert done.code == 0
    assert done.out.startswith(
        f"now the primary of orders, at epoch 2 on timeline 2: it goes on from {latest}, after "
    )
    assert len(done.out.splitlines()) == 1, "nothing is left behind"
    assert (pair.b.storage() / "step-1" / "n").read_bytes() == b"1"
    assert pair.head.timelines[-1].reason == "activate: drill"
    push_step(pair.b, 2)
    late = pair.a.run("push", "--new-timeline", "--json")
    assert (late.code, kind(late)) == (11, "Fenced")


def test_the_nodes_are_shown_before_and_after_beside_the_answer(pair: Pair) -> None:
    lines = pair.b.run("activate", "--yes").err.splitlines()

    assert lines[0].endswith("epoch 1, writer host-a (active)")
    assert lines[3] == (
        "This node, 'host-b', takes pipeline 'orders' over as its primary; "
        "node 'host-a' can push nothing any more."
    )
    assert lines[-3].endswith("epoch 2, writer host-b (active)")
    assert lines[-1].endswith("writer, this node")


def test_a_document_has_the_nodes_and_stderr_nothing_but_warnings(pair: Pair) -> None:
    done = pair.b.run("activate", "--yes", "--json", "--request", "drill-7")

    assert set(done.document) == ACTIVATED
    assert done.document["request"] == "drill-7"
    assert done.document["already"] is False
    assert done.document["left_behind"] == 0
    assert (done.document["before"]["epoch"], done.document["after"]["epoch"]) == (1, 2)
    assert [line.partition(": ")[0] for line in done.err.splitlines()] == ["warning"]


def test_who_is_the_primary_already_changes_nothing(pair: Pair) -> None:
    assert pair.b.run("activate", "--yes", "--request", "drill-7").code == 0

    same = pair.b.run("activate", "--yes", "--request", "drill-7", "--json")
    other = pair.b.run("activate", "--yes")

    assert (same.code, same.document["already"]) == (0, True)
    assert (other.code, other.out) == (0, "already the primary of orders, at epoch 2\n")
    assert pair.head.epoch == 2


def test_without_a_daemon_an_activation_always_waits_and_says_so(pair: Pair) -> None:
    done = pair.b.run("activate", "--yes", "--no-wait")

    assert done.code == 0
    assert done.out.startswith("now the primary of orders")
    assert "no daemon has the pipeline, so this command did it, and waited" in done.err


def test_13_for_an_activation_beside_a_primary_that_is_alive(pair: Pair) -> None:
    beat(pair, "host-a", Role.PRIMARY)

    refused = pair.b.run("activate", "--yes", "--json")

    assert (refused.code, kind(refused)) == (13, "PrimaryActive")
    assert pair.head.epoch == 1
    assert pair.b.run("activate", "--yes", "--force").code == 0
    assert pair.head.epoch == 2


@pytest.mark.parametrize(
    ("hook", "arguments", "code", "failure"),
    [
        (("true",), ("--engine-stopped",), 13, "EngineRunning"),
        (None, (), 13, "Refused"),
        (None, ("--engine-stopped",), 0, None),
    ],
)
def test_13_for_an_activation_over_an_engine_that_may_be_running(
    pair: Pair,
    hook: tuple[str, ...] | None,
    arguments: tuple[str, ...],
    code: int,
    failure: str | None,
) -> None:
    done = configured(replace(pair.b, hook=hook)).run("activate", "--yes", "--json", *arguments)

    assert done.code == code
    assert done.document.get("error", {}).get("kind") == failure
    assert pair.head.epoch == (1 if code else 2)


def test_13_for_an_activation_that_a_hook_vetoes(pair: Pair) -> None:
    b = with_hooks(pair.b, pre_activate="echo not today; exit 1")

    done = b.run("activate", "--yes", "--json")

    assert (done.code, kind(done)) == (13, "Vetoed")
    assert "not today" in done.err
    assert pair.head.epoch == 1


def test_12_for_a_last_pull_that_fails_and_asking_again_goes_on(pair: Pair) -> None:
    (pack,) = (bucket_of(pair) / "packs").glob("*/*")
    kept = pack.rename(bucket_of(pair).with_name("kept"))

    failed = pair.b.run("activate", "--yes", "--json")
    role = role_of(pair.b)
    kept.rename(pack)
    again = pair.b.run("activate", "--yes", "--json")

    assert (failed.code, kind(failed), role) == (12, "MissingObject", "activation_failed")
    assert again.code == 0
    assert again.document["timeline"] == 2, "it goes on with the same one"
    assert pair.head.writer.state == "active"


def test_15_for_an_activation_that_takes_too_long_and_goes_on_when_asked_again(pair: Pair) -> None:
    slow = with_hooks(pair.b, on_activate="sleep 600")

    done = slow.run("activate", "--yes", "--json", "--timeout", "1s")

    error = done.document["error"]
    assert (done.code, error["kind"]) == (15, "TimedOut")
    assert error["hint"].startswith("ckptsync activate orders --request ")
    configured(pair.b)
    again = pair.b.run(*error["hint"].split()[1:], "--yes", "--json")
    assert (again.code, again.document["epoch"]) == (0, 2), "nothing was taken a second time"


def test_2_for_an_activation_that_nobody_can_confirm(pair: Pair) -> None:
    done = pair.b.run("activate")

    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[-1] == "try: say --yes"
    assert pair.head.epoch == 1
    assert pair.b.run("activate", environment={"CKPTSYNC_ACTIVATE_YES": "1"}).code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("activate", "--yes", "--request", "a b"), "1 to 128 letters"),
        (("activate", "--yes", "--timeout", "soon"), "'soon' is not a duration"),
        (("activate", "--yes", "--timeout", "0s"), "longer than nothing"),
        (("switchover", "--cancel", "--to", "host-b"), "--cancel goes without --to"),
        (("diverged", "--yes"), "Missing option '--keep'"),
        (("repair",), "Missing command"),
    ],
)
def test_2_for_a_command_line_that_is_wrong(
    pair: Pair, arguments: tuple[str, ...], says: str
) -> None:
    done = pair.b.run(*arguments)

    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert pair.head.epoch == 1


@contextmanager
def _on_a_terminal(site: Site, *arguments: str) -> Iterator[tuple[Screen, Running]]:
    with (
        terminal() as screen,
        site.start(*arguments, stdin=screen.descriptor, stderr=screen.descriptor) as run,
    ):
        yield screen, run


@pytest.mark.parametrize(("answer", "code", "epoch"), [("yes", 0, 2), ("n", 130, 1)])
def test_a_terminal_is_asked(pair: Pair, answer: str, code: int, epoch: int) -> None:
    with _on_a_terminal(pair.b, "activate", "--json") as (screen, run):
        screen.await_(lambda text: "Go on? [y/N] " in text)
        screen.type(f"{answer}\n")
        done = run.done()

    assert done.code == code
    assert pair.head.epoch == epoch
    assert "writer host-a (active)" in screen.text, "who is asked sees what is at stake"
    assert ("error" in done.document) is bool(code)


def test_a_question_can_be_interrupted(pair: Pair) -> None:
    with _on_a_terminal(pair.b, "activate") as (screen, run):
        screen.await_(lambda text: "Go on? [y/N] " in text)
        run.process.send_signal(signal.SIGINT)

        assert run.done().code == 130
    assert pair.head.epoch == 1


def test_a_repair_wants_the_name_of_the_pipeline(pair: Pair) -> None:
    (bucket_of(pair) / "head.json").unlink()

    for answer, code in (("y", 130), ("orders", 0)):
        with _on_a_terminal(pair.a, "repair", "rebuild-head") as (screen, run):
            screen.await_(lambda text: "Type 'orders' to go on: " in text)
            assert "the nodes cannot be shown: " in screen.text
            screen.type(f"{answer}\n")
            assert run.done().code == code
        assert (bucket_of(pair) / "head.json").exists() is not bool(code)


def test_a_displaced_node_rejoins_as_a_standby_and_keeps_what_it_had(pair: Pair) -> None:
    assert pair.b.run("activate", "--yes").code == 0
    write_tree(pair.a.storage() / "step-7", {"n": b"never pushed"})

    done = pair.a.run("rejoin", "--yes", "--json")

    assert done.code == 0
    assert set(done.document) == AROUND | {"pipeline", "bucket", "already", "quarantine"}
    kept = Path(done.document["quarantine"])
    assert [path.read_bytes() for path in kept.glob("**/step-7/n")] == [b"never pushed"]
    assert not list(pair.a.storage().glob("step-*"))
    assert pair.a.run("rejoin", "--yes").out == "already a standby of orders\n"
    pushed = pair.a.run("push", "--json")
    assert (pushed.code, kind(pushed)) == (13, "NotPrimary")


@pytest.mark.parametrize(
    ("hook", "failure"), [(STOPPED, "Refused"), (("true",), "EngineRunning"), (None, "Refused")]
)
def test_13_for_a_rejoin_that_would_harm(
    pair: Pair, hook: tuple[str, ...] | None, failure: str | None
) -> None:
    if hook is not STOPPED:
        assert pair.b.run("activate", "--yes").code == 0
    a = configured(replace(pair.a, hook=hook))

    done = a.run("rejoin", "--yes", "--json")

    assert (done.code, kind(done)) == (13, failure)
    assert (a.storage() / "step-1").exists()


def test_a_pause_is_remembered_and_asking_twice_is_no_mistake(pair: Pair) -> None:
    first, second = pair.a.run("pause"), pair.a.run("pause", "--json")
    paused = status_of(pair.a)
    third, fourth = pair.a.run("resume"), pair.a.run("resume", "--json")

    assert (first.code, first.out) == (0, "orders is paused\n")
    assert second.document["already"] is True
    assert second.document["paused_since"] == paused["paused_since"] is not None
    assert (third.code, third.out) == (0, "orders is not paused any more\n")
    assert fourth.document == {"pipeline": "orders", "paused_since": None, "already": True}


def test_5_for_a_command_that_finds_another_at_work(pair: Pair) -> None:
    slow = with_hooks(pair.b, pre_activate="sleep 600")
    with slow.start("activate", "--yes") as running:
        eventually(lambda: (slow.state / "orders.lock").exists())
        for arguments in (("pause",), ("rejoin", "--yes"), ("switchover", "--cancel")):
            done = slow.run(*arguments, "--json")
            assert (done.code, kind(done)) == (5, "Busy"), arguments
        running.process.terminate()
        assert running.done().code == 130
    assert pair.head.epoch == 1


def test_1_for_a_reload_where_no_daemon_runs(pair: Pair) -> None:
    done = pair.a.run("reload")

    assert (done.code, done.err) == (1, "error: no daemon is running\ntry: ckptsync run\n")


def test_a_switchover_loses_nothing(pair: Pair) -> None:
    beat(pair, "host-b", Role.STANDBY)
    write_tree(pair.a.storage() / "step-2", {"n": b"2"})

    with pair.a.start("switchover", "--yes", "--json") as running:
        eventually(lambda: pair.head.writer.state == "released")
        taken = pair.b.run("activate", "--yes")
        given = running.done()

    assert (taken.code, given.code) == (0, 0)
    assert set(given.document) == AROUND | {"pipeline", "bucket", "node", "epoch", "checkpoint"}
    assert (given.document["node"], given.document["epoch"]) == ("host-b", 2)
    assert given.document["checkpoint"] == pair.head.latest
    assert (pair.b.storage() / "step-2" / "n").read_bytes() == b"2"
    assert role_of(pair.a) == "standby"


def test_a_switchover_chooses_the_only_standby_and_no_other_node(pair: Pair) -> None:
    def refused(*arguments: str) -> tuple[int, str, str]:
        done = pair.a.run("switchover", "--yes", "--json", *arguments)
        error = done.document["error"]
        return done.code, error["kind"], error["message"]

    nobody = refused()
    beat(pair, "host-b", Role.PRIMARY)
    no_standby = refused()
    beat(pair, "host-b", Role.STANDBY)
    beat(pair, "host-c", Role.STANDBY)
    either = refused()
    unknown = refused("--to", "host-z")
    itself = refused("--to", "host-a")

    assert nobody[:2] == no_standby[:2] == (13, "Refused")
    assert either[:2] == (2, "ConfigError")
    assert "host-b, host-c" in either[2]
    assert unknown[:2] == itself[:2] == (13, "Refused")
    assert pair.head.writer.state == "active"


def test_15_for_a_switchover_that_nobody_takes_up_and_the_primary_goes_on(pair: Pair) -> None:
    beat(pair, "host-b", Role.STANDBY)

    done = pair.a.run("switchover", "--yes", "--json", "--timeout", "100ms")

    assert (done.code, kind(done)) == (15, "TimedOut")
    assert pair.head.writer.state == "active"
    push_step(pair.a, 2)


def test_a_switchover_that_was_interrupted_can_be_cancelled(pair: Pair) -> None:
    beat(pair, "host-b", Role.STANDBY)
    with pair.a.start("switchover", "--yes", "--timeout", "1h") as running:
        eventually(lambda: pair.head.writer.state == "released")
        running.process.kill()

    done = pair.a.run("switchover", "--cancel", "--json")

    assert done.code == 0
    assert done.document["cancelled"] is True
    assert set(done.document) == AROUND | {"pipeline", "cancelled", "role"}
    assert pair.head.writer.state == "active"
    push_step(pair.a, 2)
    nothing = pair.a.run("switchover", "--cancel", "--json")
    assert (nothing.code, kind(nothing)) == (4, "NothingToDo")


def test_13_for_a_switchover_that_is_cancelled_too_late(pair: Pair) -> None:
    beat(pair, "host-b", Role.STANDBY)
    with pair.a.start("switchover", "--yes", "--timeout", "1h") as running:
        eventually(lambda: pair.head.writer.state == "released")
        running.process.terminate()
        assert running.done().code == 130
    assert pair.b.run("activate", "--yes").code == 0

    done = pair.a.run("switchover", "--cancel", "--json")

    assert (done.code, kind(done)) == (13, "Refused")
    assert done.document["cancelled"] is False
    assert role_of(pair.a) == done.document["role"] == "standby"
    assert pair.head.writer.node == "host-b"


def test_a_bucket_that_went_back_in_time_is_accepted(pair: Pair) -> None:
    old = (bucket_of(pair) / "head.json").read_bytes()
    gone = push_step(pair.a, 2)
    (bucket_of(pair) / "head.json").write_bytes(old)
    assert pair.a.run("run", "--once").code == 11
    assert role_of(pair.a) == "stopped"

    done = pair.a.run("repair", "accept-rollback", "--yes", "--json")

    assert done.code == 0
    assert (done.document["taken"], done.document["gone"]) == (True, [gone])
    assert done.document["after"]["epoch"] == done.document["epoch"] == 2
    assert role_of(pair.a) == "primary"
    assert pair.a.run("push").code == 0
    again = pair.a.run("repair", "accept-rollback", "--yes", "--json")
    assert (again.code, kind(again)) == (13, "Refused")


def test_a_lost_head_is_rebuilt_and_a_damaged_one_only_by_force(pair: Pair) -> None:
    (bucket_of(pair) / "head.json").write_bytes(b"{ scribbled over")

    refused = pair.a.run("repair", "rebuild-head", "--yes", "--json")
    forced = pair.a.run("repair", "rebuild-head", "--yes", "--force", "--json")

    assert (refused.code, kind(refused)) == (13, "Refused")
    assert forced.code == 0
    assert forced.document["before"] is None
    assert forced.document["replaced"] is True
    assert forced.document["checkpoints"] == 1
    assert forced.document["after"]["latest"] == forced.document["latest"] == pair.head.latest
    push_step(pair.a, 2)


def test_13_for_repairs_where_nothing_is_wrong_or_another_node_is_at_work(pair: Pair) -> None:
    for repair in ("accept-rollback", "rebuild-head"):
        done = pair.a.run("repair", repair, "--yes", "--json")
        assert (done.code, kind(done)) == (13, "Refused"), repair
    beat(pair, "host-c", Role.PRIMARY)
    (bucket_of(pair) / "head.json").unlink()
    guarded = pair.a.run("repair", "rebuild-head", "--yes", "--json")
    assert (guarded.code, kind(guarded)) == (13, "PrimaryActive")
    assert pair.a.run("repair", "rebuild-head", "--yes", "--force").code == 0


@pytest.fixture
def diverged(pair: Pair) -> Pair:
    """Host b was activated while the bucket was away, and host a pushed again since."""
    b = configured(replace(pair.b, activation={"on_pull_failure": "local"}))
    assert b.run("run", "--once").code == 0
    pair = replace(pair, b=b)
    away = bucket_of(pair).rename(bucket_of(pair).with_name("away"))
    refused = b.run("activate", "--yes", "--json")
    assert (refused.code, kind(refused)) == (10, "BucketNotFound")
    forced = b.run("activate", "--yes", "--force", "--json")
    assert (forced.code, forced.document["role"]) == (0, "unfenced")
    assert forced.document["before"] is forced.document["after"] is None
    away.rename(bucket_of(pair))
    push_step(pair.a, 2)
    write_tree(b.storage() / "step-5", {"n": b"5"})
    b.run("run", "--once")
    assert role_of(b) == "diverged"
    return pair


def test_what_diverged_goes_on_from_the_local_state(diverged: Pair) -> None:
    behind = diverged.head.latest

    done = diverged.b.run("diverged", "--keep", "local", "--yes", "--json")

    assert done.code == 0
    assert (done.document["kept"], done.document["left_behind"]) == ("local", 1)
    assert diverged.head.writer.node == "host-b"
    assert diverged.head.latest != behind
    pushed = diverged.b.run("push", "--json")
    assert (pushed.code, pushed.document["checkpoint"]["engine_id"]) == (0, "step-5")


def test_what_diverged_gives_way_to_the_bucket(diverged: Pair) -> None:
    done = diverged.b.run("diverged", "--keep", "bucket", "--yes")

    assert done.code == 0
    assert done.out.startswith("now a standby of orders; what its storage held is in ")
    assert role_of(diverged.b) == "standby"
    assert diverged.head.writer.node == "host-a"


def test_13_where_nothing_has_diverged(pair: Pair) -> None:
    for keep in ("local", "bucket"):
        done = pair.a.run("diverged", "--keep", keep, "--yes", "--json")
        assert (done.code, kind(done)) == (13, "Refused")


def test_a_reason_as_long_as_a_book_is_refused(tmp_path: Path) -> None:
    done = Pair.on_disk(tmp_path).b.run("activate", "--yes", "--reason", "x" * 501)

    assert done.code == 2
    assert "at most 500 characters" in done.err
