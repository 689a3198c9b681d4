"""Commands that look and never touch: may-start, history, topology, status with its watch."""

import json
import re
import shutil
import signal
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from ckptsync.model import CheckpointId, Role
from ckptsync.repository import nodes
from ckptsync.repository.nodes import Heartbeat
from ckptsync.state.database import Database, state_path
from ckptsync.state.lock import PipelineLock, lock_path
from ckptsync.state.role import RoleChange, Roles
from ckptsync.stores.local import LocalStore
from tests.e2e.site import Running, Site
from tests.e2e.terminal import terminal
from tests.operations.actors import take_over
from tests.pipelines import write_tree
from tests.servers import free_ports

NOW: Final = datetime.now(UTC)
_KEYS: Final[Mapping[tuple[str, ...], set[str]]] = {
    ("may-start",): {"pipeline", "node", "role", "reason", "verified"},
    ("history",): {"pipeline", "bucket", "events"},
    ("topology",): {"pipeline", "bucket", "epoch", "writer", "latest", "nodes"},
}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A host with a checkpoint that nobody has pushed yet, and a directory for a bucket."""
    site = Site.on_disk(tmp_path / "host-a", layout="directory")
    write_tree(site.storage() / "step-1", {"weights": b"1"})
    return site


def _bucket(site: Site) -> LocalStore:
    return LocalStore(Path(site.buckets["orders"].removeprefix("file://")))


def _push(site: Site) -> CheckpointId:
    pushed = site.run("push", "--json")
    assert pushed.code == 0, pushed.err
    return CheckpointId(pushed.document["checkpoint"]["id"])


def _put_in(site: Site, role: Role, reason: str) -> None:
    path = state_path(site.state, "orders", site.buckets["orders"])
    with closing(Database(path)) as database:
        Roles(database).change(RoleChange(role=role, at=NOW, epoch=1, reason=reason, problem=None))


def _unreachable(site: Site) -> Site:
    """With a bucket on a server that is not there."""
    (port,) = free_ports(1)
    away = replace(
        site,
        buckets={"orders": "s3://dr/orders"},
        sync={
            "endpoint": f"http://127.0.0.1:{port}",
            "region": "us-east-1",
            "access_key": "a",
            "secret_key": "s",
        },
    )
    away.write_config()
    return away


@pytest.mark.parametrize("command", _KEYS, ids=" ".join)
def test_the_json_of_a_command_has_its_keys(site: Site, command: tuple[str, ...]) -> None:
    _push(site)

    done = site.run(*command, "--json")

    assert (done.code, done.err) == (0, "")
    assert set(done.document) == _KEYS[command]


def test_a_first_start_may_begin_and_leaves_no_trace(site: Site) -> None:
    done = site.run("may-start")

    assert (done.code, done.err) == (0, "")
    assert done.out == (
        f"orders may start on host-a: nothing was ever pushed to {site.buckets['orders']}\n"
    )
    assert not site.state.exists()
    assert list((site.home / "bucket").iterdir()) == []


def test_a_primary_may_start_while_another_process_is_at_work(site: Site) -> None:
    _push(site)

    with PipelineLock(lock_path(site.state, "orders")):
        done = site.run("may-start", "orders", "--json")

    assert done.code == 0
    assert (done.document["role"], done.document["verified"]) == ("primary", True)


def test_a_node_that_was_displaced_is_told_in_one_line(site: Site) -> None:
    _push(site)
    take_over(_bucket(site))

    done = site.run("may-start")

    assert (done.code, done.out) == (11, "")
    assert done.err.splitlines()[0].endswith(
        "node 'host-b' took over at epoch 2; this node last wrote at epoch 1"
    )
    assert [line.partition(":")[0] for line in done.err.splitlines()] == ["error", "try"]


def test_a_standby_may_not_start(site: Site) -> None:
    done = replace(site, sync={"standby": True}).run("may-start", "--json")

    assert done.code == 13
    assert done.document["error"]["kind"] == "NotPrimary"


def test_a_storage_that_lost_its_checkpoints_starts_only_when_asked_to(site: Site) -> None:
    _push(site)
    shutil.rmtree(site.storage() / "step-1")

    refused, forced = site.run("may-start"), site.run("may-start", "--fresh")

    assert refused.code == 13
    assert "no complete checkpoint to start from, but this node had step-1" in refused.err
    assert forced.code == 0


def test_a_bucket_that_does_not_answer_stops_whoever_was_not_the_primary(site: Site) -> None:
    away = _unreachable(site)

    unknown = away.run("may-start")
    _put_in(away, Role.PRIMARY, "found at the start")
    known = away.run("may-start", "--json")

    assert unknown.code == 16
    assert "error: whether 'orders' runs elsewhere cannot be told: s3://dr/orders:" in unknown.err
    assert (known.code, known.document["verified"]) == (0, False)
    assert "warning: the engine may start, though nobody can say that no other" in known.err


def test_start_unverified_is_the_operators_choice(site: Site) -> None:
    careful = _unreachable(replace(site, activation={"start_unverified": False}))
    _put_in(careful, Role.PRIMARY, "found at the start")

    assert careful.run("may-start").code == 16


def test_history_tells_of_timelines_roles_and_runs(site: Site) -> None:
    checkpoint = _push(site)
    _put_in(site, Role.FENCED, "node 'host-b' took over")
    take_over(_bucket(site))

    events = site.run("history", "--json").document["events"]
    rows = site.run("history").out.splitlines()

    assert sorted(each["kind"] for each in events) == ["role", "run", "timeline", "timeline"]
    by_kind = {each["kind"]: each for each in events if each.get("timeline") != 1}
    taken, role, run = by_kind["timeline"], by_kind["role"], by_kind["run"]
    assert (taken["epoch"], taken["node"], taken["reason"]) == (2, "host-b", "activate")
    assert taken["parent"] == {"timeline": 1, "checkpoint": checkpoint}
    assert (role["role"], role["reason"]) == ("fenced", "node 'host-b' took over")
    assert (run["run"], run["times"], run["newest"]["outcome"]) == ("push", 1, "done")
    assert all(datetime.fromisoformat(each["at"]).tzinfo for each in events)
    assert rows[0].split() == ["WHEN", "WHAT", "EPOCH", "HOW"]
    assert len(rows) == 1 + len(events)
    assert any(row.endswith(f"activate (host-b); goes on from {checkpoint}") for row in rows)
    assert len(site.run("history", "--limit", "2", "--json").document["events"]) == 2


def test_history_without_the_bucket_is_what_this_node_remembers(site: Site) -> None:
    away = _unreachable(site)
    _put_in(away, Role.PRIMARY, "found at the start")

    done = away.run("history")
    document = away.run("history", "--json").document

    assert done.code == 16
    assert "primary" in done.out
    assert "the timelines are missing" in done.err.splitlines()
    assert [each["kind"] for each in document["events"]] == ["role"]
    assert document["error"]["kind"] == "CannotTell"


def test_topology_marks_this_node_the_writer_and_the_silent(site: Site) -> None:
    checkpoint = _push(site)
    for node, role in (("host-b", Role.STANDBY), ("host-c", Role.STANDBY)):
        nodes.write(
            _bucket(site),
            Heartbeat(
                node=node, node_id=node, machine=node, role=role, epoch=1, warm=checkpoint,
                pulling=None, at=NOW,
            ),
        )  # fmt: skip

    rows = site.run("topology").out.splitlines()
    host_a, host_b, _ = site.run("topology", "--json").document["nodes"]

    assert rows[0] == f"orders in {site.buckets['orders']}: epoch 1, writer host-a (active)"
    assert rows[1].split() == ["NODE", "ROLE", "EPOCH", "WARM", "LAG", "SEEN"]
    assert rows[2].split() == ["host-a", "-", "-", "-", "-", "never", "writer,", "this", "node"]
    assert rows[3].split()[:5] == ["host-b", "standby", "1", checkpoint, "0s"]
    assert (host_a["writer"], host_a["this_node"], host_a["fresh"]) == (True, True, False)
    assert (host_b["writer"], host_b["lag_seconds"], host_b["fresh"]) == (False, 0, True)


def test_11_for_the_status_of_a_node_that_waits_for_an_operator(site: Site) -> None:
    _push(site)
    _put_in(site, Role.STOPPED, "found in head")

    done = site.run("status")
    (status,) = site.run("status", "--json").document["pipelines"]

    assert done.code == 11
    assert "found in head" in done.err
    assert "\n  role            stopped since " in done.out
    assert done.out.splitlines()[-1] == "  daemon          not running"
    assert (status["role"]["role"], status["role"]["reason"]) == ("stopped", "found in head")
    assert status["problem"]["exit_code"] == 11
    assert status["daemon"] is None


def test_status_tells_what_the_daemon_says(site: Site) -> None:
    replace(site, sync={"push_interval": "1h"}).write_config()

    def status() -> Any:
        (found,) = site.run("status", "--json").document["pipelines"]
        return found

    with site.start("run") as run:
        found = status()
        while found["daemon"] is None or found["latest"] is None:
            assert run.process.poll() is None, run.done().err
            found = status()
        shown = site.run("status").out
        run.process.send_signal(signal.SIGTERM)
        run.done()

    assert found["role"]["role"] == "primary"
    assert found["daemon"]["pid"] == run.process.pid
    assert found["daemon"]["bucket_problem"] is None
    assert datetime.fromisoformat(found["daemon"]["next_push_at"]) > NOW
    assert f"  daemon          process {run.process.pid}, ckptsync " in shown
    assert re.search(r"^  next push +in 5\dm", shown, re.MULTILINE)
    assert status()["daemon"] is None


def _watched(run: Running, number: int) -> Sequence[str]:
    """The lines up to where block `number` begins, then the run is interrupted."""
    assert run.process.stdout is not None
    seen: list[str] = []
    while sum(line.endswith(" UTC\n") for line in seen) < number:
        seen.append(run.process.stdout.readline())
        assert seen[-1], "the watch has ended"
    run.process.send_signal(signal.SIGINT)
    return seen


def test_a_watch_prints_block_after_block_until_it_is_interrupted(site: Site) -> None:
    _push(site)

    with site.start("status", "--watch", "--interval", "100ms") as run:
        seen = _watched(run, 3)
        done = run.done()

    assert done.code == 0
    assert seen[1] == f"orders in {site.buckets['orders']}\n"
    assert seen.count(seen[1]) == 2
    assert done.err == ""


def test_a_watch_for_machines_is_one_document_after_the_other(site: Site) -> None:
    _push(site)
    decoder = json.JSONDecoder()

    with site.start("status", "--watch", "--interval", "100ms", "--json") as run:
        assert run.process.stdout is not None
        text = ""
        while text.count("\n}\n") < 2:
            text += run.process.stdout.readline()
        run.process.send_signal(signal.SIGTERM)
        done = run.done()

    first, end = decoder.raw_decode(text)
    second: Any = decoder.raw_decode(text[end:].lstrip())[0]
    assert done.code == 0
    assert set(first) == set(second) == {"pipelines"}


def test_a_watch_on_a_terminal_draws_over_what_it_drew(site: Site) -> None:
    _push(site)

    with (
        terminal() as screen,
        site.start("status", "--watch", "--interval", "100ms", stdout=screen.descriptor) as run,
    ):
        screen.await_(lambda text: text.count("\x1b[H") > 2)
        run.process.send_signal(signal.SIGINT)
        done = run.done()

    assert done.code == 0
    assert screen.text.count("\x1b[2J") == 1
    assert screen.text.startswith("\x1b[2J\x1b[H")
    assert "orders in " in screen.text


def test_a_watch_goes_on_while_the_bucket_is_away(site: Site) -> None:
    away = _unreachable(site)

    with away.start("status", "--watch", "--interval", "100ms") as run:
        _watched(run, 2)
        done = run.done()

    assert done.code == 0
    assert "error: s3://dr/orders" in done.err


@pytest.mark.parametrize("interval", ["0s", "-1s", "1", "soon"])
def test_2_for_an_interval_that_is_none(site: Site, interval: str) -> None:
    done = site.run("status", "--watch", "--interval", interval)

    assert (done.code, done.out) == (2, "")
