"""One host with a daemon: its process, its signals, what it tells and whom."""

import json
import secrets
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

from ckptsync.api.client import Client
from ckptsync.api.local_socket import socket_path
from ckptsync.model import Role
from tests.e2e.daemons import Daemon, daemon, eventually
from tests.e2e.gate import Gate, gate
from tests.e2e.site import PATIENCE, Running, Site
from tests.e2e.terminal import terminal
from tests.fakes.feldera_engine import Engine
from tests.pipelines import noise, write_tree
from tests.servers import S3Server

_CHUNKS: Final = 4
_FILE: Final = noise(_CHUNKS * (4 << 20) - 1)
_OFTEN: Final = {"push_interval": "50ms", "pull_interval": "50ms"}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A primary with a directory for a bucket, which pushes at once whatever it finds."""
    site = Site.on_disk(tmp_path / "host-a", layout="directory", sync=_OFTEN)
    site.storage().mkdir(parents=True)
    return site


@pytest.fixture
def large(tmp_path: Path, seaweedfs: S3Server) -> Site:
    """A primary with one large checkpoint that is sent to a real server a chunk at a time."""
    prefix = secrets.token_hex(8)
    site = Site.on_s3(tmp_path / "host-a", seaweedfs, prefix, transfers=1, **_OFTEN)
    write_tree(site.storage() / "step-1", {"weights": _FILE, "small": b"1"})
    return replace(site, layout="directory")


def write(site: Site, step: int, name: str = "orders") -> None:
    """As the engine does."""
    write_tree(site.storage(name) / f"step-{step}", {"n": str(step).encode()})


def head(site: Site, name: str = "orders") -> Any:
    path = Path(site.buckets[name].removeprefix("file://"), "head.json")
    return json.loads(path.read_bytes()) if path.exists() else None


def pushed(site: Site, name: str = "orders") -> list[str]:
    """What a bucket in a directory holds, by the engine's ids."""
    found = head(site, name)
    return [] if found is None else [each["engine_id"] for each in found["checkpoints"]]


def configure(site: Site, **changes: Any) -> Site:
    """Write another configuration."""
    changed = replace(site, **changes)
    changed.write_config()
    return changed


def both(site: Site) -> Site:
    """The host with a second pipeline."""
    bucket = site.home / "bucket-of-stock"
    bucket.mkdir(exist_ok=True)
    site.storage("stock").mkdir(parents=True, exist_ok=True)
    return replace(site, buckets={**site.buckets, "stock": f"file://{bucket}"})


def is_locked(site: Site, name: str = "orders") -> bool:
    """By any process."""
    held = subprocess.run(
        ["flock", "--nonblock", str(site.state / f"{name}.lock"), "true"], check=False
    )
    return held.returncode == 1


@contextmanager
def held(site: Site, server: S3Server, *, free: int = 2) -> Iterator[tuple[Daemon, Gate]]:
    """A daemon whose first push waits at a chunk."""
    with gate(server, "PUT", "/chunks/", free=free) as waiting:
        configure(site, sync={**site.sync, "endpoint": waiting.server.endpoint})
        with daemon(site) as running:
            assert waiting.reached.wait(PATIENCE), running.log
            yield running, waiting


# The life of the process


def test_it_pushes_what_the_engine_writes_and_ends_when_told_to(tmp_path: Path) -> None:
    site = Site.on_disk(tmp_path / "host-a", sync=_OFTEN)
    with Engine(site.storage()) as engine:
        first = engine.checkpoint()
        with daemon(site) as running:
            eventually(lambda: pushed(site) == [first])
            second = engine.checkpoint()
            eventually(lambda: pushed(site) == [first, second])

            assert running.stop() == 0

    assert running.states == ["READY", "STOPPING"]
    assert running.status == "stopping"
    assert {"daemon.ready", "checkpoint.committed"} <= {each["event"] for each in running.events}
    assert not socket_path(site.state, "orders").exists()
    assert not is_locked(site)


def test_the_service_manager_is_told_how_it_is_doing(site: Site) -> None:
    with daemon(site, environment={"WATCHDOG_USEC": "100000"}) as running:
        eventually(lambda: running.said.count("WATCHDOG=1") > 5)
        ready = next(i for i, each in enumerate(running.said) if each.startswith("READY=1"))

        assert running.said[ready] == "READY=1\nSTATUS=orders: primary, epoch 1"
        assert "WATCHDOG=1" not in running.said[:ready]
        assert running.stop() == 0
    assert running.said[-1] == "STOPPING=1\nSTATUS=stopping"


def test_nobody_is_told_that_it_lives_unless_asked_for(site: Site) -> None:
    with daemon(site) as running:
        running.signal(signal.SIGHUP)
        eventually(lambda: running.states.count("READY") == 2)
        assert "WATCHDOG=1" not in running.said


def test_a_hook_inherits_nothing_of_what_systemd_said(site: Site) -> None:
    seen = site.home / "environment"
    hooks = {"on_role_change": ["sh", "-c", f"env > {seen}.new; mv {seen}.new {seen}"]}
    environment = {"WATCHDOG_USEC": "60000000", "LANG": "C.UTF-8"}
    with daemon(replace(site, hooks=hooks), environment=environment):
        eventually(seen.exists)

    names = {line.partition("=")[0] for line in seen.read_text().splitlines()}
    assert not names & {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}
    assert {"LANG", "CKPTSYNC_ROLE"} <= names


def test_a_stop_ends_a_push_within_a_chunk_and_the_next_start_goes_on(
    large: Site, seaweedfs: S3Server
) -> None:
    with held(large, seaweedfs) as (running, waiting):
        running.signal(signal.SIGTERM)
        eventually(lambda: "STOPPING" in running.states)
        waiting.opened.set()
        assert running.ended() == 0
        sent = waiting.passed
    assert sent < _CHUNKS
    assert not is_locked(large)

    with gate(seaweedfs, "PUT", "/chunks/", free=_CHUNKS) as counted:
        configure(large, sync={**large.sync, "endpoint": counted.server.endpoint})
        with daemon(large) as running:
            eventually(lambda: "checkpoint.committed" in running.log)
            assert running.snapshot().epoch == 1
    assert sent + counted.passed == _CHUNKS, "what was sent before is not sent again"


def test_a_second_signal_ends_it_at_once(large: Site, seaweedfs: S3Server) -> None:
    with held(large, seaweedfs) as (running, _waiting):
        running.signal(signal.SIGTERM)
        eventually(lambda: "STOPPING" in running.states)
        running.signal(signal.SIGTERM)
        assert running.ended() == -signal.SIGTERM
    assert not is_locked(large)


def test_who_was_killed_goes_on_as_the_same_primary(large: Site, seaweedfs: S3Server) -> None:
    with held(large, seaweedfs) as (running, waiting):
        running.kill()
        sent = waiting.passed - 1
    with gate(seaweedfs, "PUT", "/chunks/", free=_CHUNKS) as counted:
        configure(large, sync={**large.sync, "endpoint": counted.server.endpoint})
        with daemon(large) as running:
            eventually(lambda: "checkpoint.committed" in running.log)
            found = running.snapshot()

    assert (found.epoch, found.role) == (1, Role.PRIMARY)
    assert sent + counted.passed <= _CHUNKS + 1, "at most what nobody had answered"


def test_5_while_a_push_by_hand_has_the_pipeline_and_says_who(
    large: Site, seaweedfs: S3Server
) -> None:
    with gate(seaweedfs, "PUT", "/chunks/", free=2) as waiting:
        configure(large, sync={**large.sync, "endpoint": waiting.server.endpoint})
        with large.start("push") as by_hand:
            assert waiting.reached.wait(PATIENCE)
            with daemon(large) as running:
                assert running.ended() == 5
            waiting.opened.set()
            assert by_hand.done().code == 0

    assert f"process {by_hand.process.pid} is already at work" in running.log
    assert running.states == ["STOPPING"]


def test_a_frozen_daemon_makes_up_for_nothing_that_it_missed(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    interval = 0.1
    standby = Site.on_s3(
        tmp_path / "host-b",
        seaweedfs,
        secrets.token_hex(8),
        standby=True,
        pull_interval=f"{interval * 1000:.0f}ms",
    )
    with gate(seaweedfs, "GET", "never", free=0) as counted:
        configure(standby, sync={**standby.sync, "endpoint": counted.server.endpoint})
        with daemon(standby) as running:
            eventually(lambda: len(_polls(counted)) > 2)
            running.signal(signal.SIGSTOP)
            eventually(lambda: _state(running) == "T")
            frozen = len(_polls(counted))
            time.sleep(8 * interval)
            running.signal(signal.SIGCONT)
            eventually(lambda: len(_polls(counted)) > frozen + 4)
            times = [each.at for each in _polls(counted)[frozen + 1 :]]

    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert min(gaps) > 0.9 * interval


def _polls(counted: Gate) -> list[Any]:
    """Those of a bucket that is empty."""
    return [each for each in counted.asked if each.path.endswith("/head.json")]


def _state(running: Daemon) -> str:
    stat = Path(f"/proc/{running.process.pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0]


def test_a_bug_ends_it_with_70_and_a_traceback_although_a_push_is_under_way(
    large: Site, seaweedfs: S3Server
) -> None:
    with gate(seaweedfs, "PUT", "/chunks/", free=2) as waiting:
        sync = {**large.sync, "endpoint": waiting.server.endpoint}
        buckets = {**large.buckets, "stock": f"{large.buckets['orders']}-of-stock"}
        site = configure(large, sync=sync, buckets=buckets)
        site.storage("stock").mkdir(parents=True)
        with daemon(site) as running:
            assert waiting.reached.wait(PATIENCE)
            eventually(lambda: running.snapshot("stock").epoch == 1)
            (state,) = (site.state / "stock").glob("*.sqlite")
            with closing(sqlite3.connect(state)) as database:
                database.execute("DROP TABLE role_change")
                database.commit()

            assert running.ended() == 70
            assert not waiting.opened.is_set(), "the push was waited for"
    crash = running.events[-1]
    assert (crash["event"], crash["level"]) == ("daemon.crashed", "critical")
    assert "no such table: role_change" in crash["exception"]
    assert "Traceback" in crash["exception"]
    assert not is_locked(site)
    assert not is_locked(site, "stock")


# Starting


def test_it_waits_for_a_bucket_that_is_away_at_the_start(site: Site) -> None:
    write(site, 1)
    bucket = site.home / "bucket"
    bucket.rmdir()
    with daemon(site) as running:
        assert running.states == ["READY"]
        assert "cannot start" in running.status
        assert running.document()["daemon"]["start_problem"]["kind"] == "BucketNotFound"
        assert running.snapshot().contact.failure is not None
        bucket.mkdir()
        eventually(lambda: pushed(site) == ["step-1"])
        eventually(lambda: running.status == "orders: primary, epoch 1")
        assert running.snapshot().contact.failure is None


def test_a_start_that_is_refused_ends_it_with_its_exit_code(site: Site) -> None:
    write(site, 1)
    assert site.run("push").code == 0
    rebuilt = replace(site, home=site.home.with_name("rebuilt"))
    rebuilt.storage().mkdir(parents=True)
    with daemon(rebuilt) as running:
        assert running.ended() == 11

    assert running.states == ["STOPPING"]
    assert "try: to take over from it: ckptsync activate" in running.log


def test_a_pipeline_that_is_refused_shows_stopped_beside_one_that_is_not(site: Site) -> None:
    site = both(site)
    write(site, 1, "stock")
    assert site.run("push", "stock").code == 0
    Path(site.buckets["stock"].removeprefix("file://"), "head.json").unlink()
    write(site, 1)
    with daemon(site) as running:
        eventually(lambda: pushed(site) == ["step-1"])
        found = running.document("stock")

    assert found["role"]["role"] == "stopped"
    assert "head.json is gone" in found["role"]["problem"]


# Reloads


def test_a_reload_takes_up_another_interval(site: Site) -> None:
    by_hand = configure(site, sync={})
    write(site, 1)
    with daemon(by_hand) as running:
        assert running.snapshot().next_push_at is None
        configure(site)
        running.signal(signal.SIGHUP)
        eventually(lambda: pushed(site) == ["step-1"])

        assert running.states == ["READY", "RELOADING", "READY"]
        assert any(each.startswith("RELOADING=1\nMONOTONIC_USEC=") for each in running.said), (
            running.said
        )


def test_a_reload_leaves_a_push_alone_whose_pipeline_has_not_changed(
    large: Site, seaweedfs: S3Server
) -> None:
    with held(large, seaweedfs) as (running, waiting):
        before = running.snapshot().running
        buckets = {**large.buckets, "stock": f"{large.buckets['orders']}-of-stock"}
        sync = {**large.sync, "endpoint": waiting.server.endpoint}
        both = configure(large, buckets=buckets, sync=sync)
        both.storage("stock").mkdir(parents=True)
        done = both.run("reload", "--json")
        assert done.code == 0, done.err
        after = running.snapshot().running
        assert before is not None
        assert after is not None
        assert before.id == after.id
        eventually(lambda: running.snapshot("stock").role is Role.PRIMARY)
        waiting.opened.set()
        eventually(lambda: "checkpoint.committed" in running.log)
        assert "request.cancelled" not in running.log


def test_a_reload_ends_what_was_removed_and_begins_what_was_added(site: Site) -> None:
    first = both(site)
    with daemon(first) as running:
        books = site.home / "bucket-of-books"
        books.mkdir()
        buckets = {"stock": first.buckets["stock"], "books": f"file://{books}"}
        second = configure(first, buckets=buckets)
        write(second, 1, "books")
        assert first.run("reload", "stock").out == (
            f"reloaded: process {running.process.pid}, with stock\n"
        )
        eventually(lambda: pushed(second, "books") == ["step-1"])

        assert not is_locked(first, "orders")
        assert not socket_path(first.state, "orders").exists()
        assert is_locked(second, "books")
        assert running.snapshot("stock").pid == running.process.pid


def test_a_configuration_with_a_mistake_changes_nothing_and_everybody_is_told(site: Site) -> None:
    write(site, 1)
    with daemon(site) as running:
        eventually(lambda: pushed(site) == ["step-1"])
        with Client(site.state, "orders") as client:
            good = site.config.read_text()
            site.config.write_text(good.replace("layout", "lay_out"))
            running.signal(signal.SIGHUP)
            eventually(lambda: running.states == ["READY", "RELOADING", "READY"])
            assert "lay_out" in running.status
            assert "orders: primary, epoch 1" in running.status
            (refused,) = (each for each in running.events if each["event"] == "reload.refused")
            assert "lay_out" in refused["error"]
            with pytest.raises(Exception, match="lay_out"):
                client.reload()
        site.config.write_text(good)
        write(site, 2)
        eventually(lambda: pushed(site) == ["step-1", "step-2"])
        assert site.run("reload").code == 0
        assert running.status == "orders: primary, epoch 1"


def test_a_mistake_of_another_process_is_the_exit_code_of_a_reload(site: Site) -> None:
    """The file of the daemon is not that of who asks."""
    with daemon(site):
        good = site.config.read_text()
        other = site.home / "other.toml"
        other.write_text(good)
        site.config.write_text(good.replace("bucket =", "bukkit ="))
        done = site.run("--config", str(other), "reload", "--json")

    assert done.code == 2
    assert done.document["error"]["kind"] == "ConfigError"
    assert "bukkit" in done.document["error"]["message"]


def test_keys_that_were_replaced_in_their_file_are_taken_up(large: Site) -> None:
    assert large.secret is not None
    right = large.secret
    wrong = replace(large, secret="wrong-secret")
    wrong.write_config()
    with daemon(large) as running:
        eventually(lambda: "cannot start" in running.status)
        (large.home / "key").write_text(f"{right}\n")
        running.signal(signal.SIGHUP)
        eventually(lambda: "checkpoint.committed" in running.log)


def test_reloads_leave_no_sockets_threads_or_descriptors_behind(site: Site) -> None:
    slow = configure(site, sync={})

    def held(running: Daemon) -> tuple[int, int]:
        process = Path(f"/proc/{running.process.pid}")
        return len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))

    with daemon(slow) as running:
        counts = []
        for round_ in range(30):
            configure(slow, sync={"pull_interval": 10 + round_})
            with Client(slow.state, "orders") as client:
                client.reload()
            eventually(lambda: socket_path(slow.state, "orders").exists())
            counts.append(held(running))
        most = [max(each) for each in zip(*counts[:5], strict=True)]
        eventually(lambda: all(a <= b for a, b in zip(held(running), most, strict=True)))


# Beside the daemon


def test_a_push_by_hand_is_the_push_of_the_daemon(large: Site, seaweedfs: S3Server) -> None:
    with held(large, seaweedfs) as (running, waiting):
        with large.start("push", "--json") as by_hand:
            await_waiting(by_hand)
            waiting.opened.set()
            done = by_hand.done()
        running.signal(signal.SIGTERM)
        assert running.ended() == 0
    configure(large)
    again = large.run("push", "--json")
    (status,) = large.run("status", "--json").document["pipelines"]

    assert done.code == 0, done.err
    assert done.document["already_synced"] is False
    assert set(done.document) == set(again.document)
    assert status["latest"]["id"] == done.document["checkpoint"]["id"]
    assert status["head"]["revision"] == 2, "one commit"


def test_a_push_beside_a_daemon_fences_nobody(site: Site) -> None:
    write(site, 1)
    with daemon(configure(site, sync={})) as running:
        first, second = site.run("push", "--json"), site.run("push", "--json")
        assert (first.code, second.code) == (0, 0)
        assert second.document["already_synced"] is True
        write(site, 2)
        named = site.run("push", "--checkpoint", "step-1", "--json")
        assert named.document["checkpoint"]["engine_id"] == "step-1"
        assert running.snapshot().role is Role.PRIMARY
    assert head(site)["epoch"] == 1


def test_a_push_by_hand_whose_daemon_is_stopped_is_told_so(
    large: Site, seaweedfs: S3Server
) -> None:
    with held(large, seaweedfs) as (running, waiting), large.start("push", "--json") as by_hand:
        await_waiting(by_hand)
        running.signal(signal.SIGTERM)
        eventually(lambda: "STOPPING" in running.states)
        waiting.opened.set()
        done = by_hand.done()
        assert running.ended() == 0

    assert (done.code, done.document["error"]["kind"]) == (130, "Cancelled")


def await_waiting(command: Running) -> None:
    """Wait until it has asked the daemon, and asks again and again how that goes."""
    descriptors = Path(f"/proc/{command.process.pid}/fd")
    connections: set[str] = set()

    def asked_again() -> bool:
        for each in descriptors.iterdir():
            with suppress(OSError):  # closed since
                connections.add(str(each.readlink()))
        return len([each for each in connections if each.startswith("socket:")]) > 2

    eventually(asked_again)


def test_twenty_pipelines_are_pushed_and_ended_together(tmp_path: Path) -> None:
    home = tmp_path / "host-a"
    names = [f"pipeline-{number}" for number in range(20)]
    for name in names:
        (home / "buckets" / name).mkdir(parents=True)
    site = Site(
        home=home,
        buckets={name: f"file://{home}/buckets/{name}" for name in names},
        layout="directory",
        sync=_OFTEN,
    )
    for name in names:
        write(site, 1, name)
    with daemon(site) as running:
        for name in names:
            eventually(lambda name=name: pushed(site, name) == ["step-1"])  # type: ignore[misc]
        assert running.stop() == 0
    assert not any(is_locked(site, name) for name in names)


# What it writes


def test_the_log_is_json_where_nobody_watches(site: Site) -> None:
    with daemon(site) as running:
        assert running.stop() == 0

    lines = [json.loads(line) for line in running.log.splitlines()]
    assert {"event", "level", "timestamp"} <= set(lines[0])
    assert "daemon.ready" in [each["event"] for each in lines]
    assert "orders" in {each.get("pipeline") for each in lines}


@pytest.mark.parametrize(
    ("options", "coloured", "told"),
    [
        ((), True, True),
        (("-v",), True, True),
        (("--log-level", "warning"), True, False),
        (("--json-logs",), False, True),
    ],
)
def test_the_log_is_for_people_on_a_terminal(
    site: Site, options: Sequence[str], coloured: bool, told: bool
) -> None:
    write(site, 1)
    with terminal() as screen, site.start(*options, "run", stderr=screen.descriptor) as running:
        eventually(lambda: pushed(site) == ["step-1"])
        running.process.send_signal(signal.SIGINT)
        done = running.done()

    assert (done.code, done.out) == (0, "stopped\n")
    shown = screen.text
    assert ("checkpoint.committed" in shown) is told
    assert ("\x1b[" in shown) is (coloured and told)
    assert ('"event": "checkpoint.committed"' in shown) is (told and not coloured)


# Once


def test_once_does_what_is_due_and_says_so(site: Site) -> None:
    nothing = site.run("run", "--once")
    write(site, 1)
    first = site.run("run", "--once", "--json")
    second = site.run("run", "orders", "--once")

    assert (nothing.code, nothing.out) == (0, "orders: primary, nothing to do\n")
    (told,) = first.document["pipelines"]
    assert first.code == 0
    assert set(told) == {"pipeline", "role", "did", "document", "error"}
    assert (told["role"], told["did"], told["error"]) == ("primary", "push", None)
    assert told["document"]["checkpoint"]["engine_id"] == "step-1"
    assert second.out == "orders: primary, nothing to do\n"
    standby = Site.on_disk(
        site.home.with_name("host-b"), bucket=site.home / "bucket", sync={"standby": True}
    )
    standby = replace(standby, layout="directory")
    standby.storage().parent.mkdir(parents=True)
    assert standby.run("run", "--once").out == "orders: standby, poll\n"
    assert standby.run("run", "--once").out == "orders: standby, nothing to do\n"


def test_3_for_once_where_one_of_two_pipelines_fails(site: Site) -> None:
    site = both(site)
    write(site, 1)
    write(site, 1, "stock")
    Path(site.buckets["stock"].removeprefix("file://")).rmdir()

    done = site.run("run", "--once", "--json")
    orders, stock = done.document["pipelines"]
    assert (done.code, done.document["error"]["kind"]) == (3, "Partial")
    assert (orders["did"], orders["error"]) == ("push", None)
    assert (stock["did"], stock["error"]["kind"]) == (None, "BucketNotFound")
    assert site.run("run", "--once", "stock").code == 10
    assert site.run("run", "--once", "books").code == 2


def test_once_leaves_a_pipeline_to_the_daemon_that_has_it(site: Site) -> None:
    with daemon(site):
        done = site.run("run", "--once")

    assert done.code == 5
    assert "is already at work on this pipeline" in done.err
