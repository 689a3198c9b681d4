"""Orders of the command line, with and without a daemon that has the pipeline."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ckptsync.cli import ask, wiring
from ckptsync.cli.invocation import Invocation
from ckptsync.config.load import parse
from ckptsync.config.model import Config
from ckptsync.errors import (
    Busy,
    Cancelled,
    CheckpointNotFound,
    CkptsyncError,
    PrimaryActive,
    TimedOut,
)
from ckptsync.failure import Failure
from ckptsync.model import Role
from ckptsync.operations.orders import Order, Pull, Push, Switchover
from ckptsync.operations.roles import role_of
from ckptsync.repository import nodes
from ckptsync.repository.nodes import Heartbeat
from ckptsync.repository.repository import read_head
from ckptsync.stores.local import LocalStore
from tests.api.desk import PATIENCE, Desk, Gate, GatedDirectory, running_server, serving
from tests.operations.takeovers import Waits
from tests.pipelines import Impatient, a_small_checkpoint, write_tree
from tests.servers import free_ports


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """With a bucket and one checkpoint."""
    (tmp_path / "bucket").mkdir()
    write_tree(tmp_path / "storage" / "1", a_small_checkpoint())
    return tmp_path


def _config(home: Path, bucket: str | None = None) -> Config:
    return parse(_toml(home, bucket), home / "config.toml")


def _toml(home: Path, bucket: str | None = None) -> str:
    return f"""
        [daemon]
        node = "host-a"
        state_dir = "{home}/state"
        [pipelines.orders]
        storage_path = "{home}/storage"
        layout = "directory"
        directory = {{ quiet = "0s" }}
        [pipelines.orders.sync]
        {bucket or f'bucket = "file://{home}/bucket"'}
        """


@contextmanager
def _daemon(config: Config, gate: Gate | None = None) -> Iterator[Desk]:
    """That has the pipeline; with a gate it is held in the swap of head."""
    with (
        wiring.lock(config, "orders"),
        wiring.wire(config, "orders", threading.Event()) as pipeline,
        running_server() as server,
    ):
        if gate is not None:
            bucket = Path(pipeline.store.name.removeprefix("file://"))
            pipeline = replace(pipeline, store=GatedDirectory(bucket, gate))
        desk = Desk(pipeline)
        with serving(desk, config.daemon.state_dir, server):
            yield desk
            if gate is not None:
                gate.opened.set()
        assert desk.bugs == []


def _carried_out(
    config: Config, order: Order, *, stop: threading.Event | None = None
) -> Mapping[str, Any]:
    return ask.carry_out(Invocation(stop=stop or Impatient()), config, "orders", order)


@pytest.mark.parametrize(
    "order",
    [Push(), Pull(), Pull(checkpoint="latest", engine_stopped=True)],
    ids=["push", "kept", "pull"],
)
def test_the_document_is_the_same_whoever_did_it(home: Path, order: Order) -> None:
    config = _config(home)
    _carried_out(config, Push())

    here = _carried_out(config, order)
    with _daemon(config):
        there = _carried_out(config, order)

    assert {**here, "seconds": None} == {**there, "seconds": None}
    assert list(here) == list(there)


def test_what_a_daemon_pushes_is_told_as_what_a_command_pushes(home: Path, tmp_path: Path) -> None:
    twin = tmp_path / "twin"
    twin.mkdir()
    shutil.copytree(home / "storage", twin / "storage", copy_function=shutil.copy2)
    (twin / "bucket").mkdir()
    here = _carried_out(_config(home), Push())
    with _daemon(_config(twin)):
        there = _carried_out(_config(twin), Push())

    minted = ("id", "at", "new_bytes")  # the manifest, whose bytes count, has the moment in it
    for told in (here, there):
        assert told["bucket"].startswith("file://")
        assert told["checkpoint"]["new_bytes"] > 0
    assert _without(here["checkpoint"], *minted) == _without(there["checkpoint"], *minted)
    ours = ("bucket", "checkpoint", "seconds")
    assert _without(here, *ours) == _without(there, *ours)


def test_a_failure_is_the_same_whoever_failed(home: Path) -> None:
    config = _config(home)
    with pytest.raises(CheckpointNotFound) as here:
        _carried_out(config, Push(engine_id="nonesuch"))
    with _daemon(config), pytest.raises(CkptsyncError) as there:
        _carried_out(config, Push(engine_id="nonesuch"))

    assert Failure.of(here.value) == Failure.of(there.value)


def test_what_a_daemon_did_is_in_the_history(home: Path) -> None:
    config = _config(home)
    with _daemon(config) as desk:
        document = _carried_out(config, Push())
        run = desk.pipeline.state.history.last("push")

    assert run is not None
    assert run.details is not None
    assert document["checkpoint"]["id"] in run.details


def test_a_pipeline_that_another_command_has_is_busy(home: Path) -> None:
    config = _config(home)

    with wiring.lock(config, "orders"), pytest.raises(Busy, match="is already at work") as raised:
        _carried_out(config, Push())

    assert raised.value.hint == "wait until it has finished, then run the command again"
    assert not (home / "bucket" / "head.json").exists()


def test_whoever_has_the_pipeline_may_be_about_to_end(home: Path) -> None:
    config = _config(home)
    with ExitStack() as held:
        held.enter_context(wiring.lock(config, "orders"))

        document = _carried_out(config, Push(), stop=_Meanwhile(held.close))

    assert document["already_synced"] is False


def test_whoever_has_the_pipeline_may_be_about_to_listen(home: Path) -> None:
    config = _config(home)
    with (
        wiring.lock(config, "orders"),
        wiring.wire(config, "orders", threading.Event()) as pipeline,
        running_server() as server,
        ExitStack() as opened,
    ):
        desk = Desk(pipeline)

        def listen() -> None:
            opened.enter_context(serving(desk, config.daemon.state_dir, server))

        document = _carried_out(config, Push(), stop=_Meanwhile(listen))

        assert document["already_synced"] is False
        assert pipeline.state.history.last("push") is not None


def test_an_interrupt_leaves_the_daemon_at_work(home: Path) -> None:
    config, gate, stop = _config(home), Gate(), threading.Event()
    with _daemon(config, gate) as desk:

        def interrupt() -> None:
            assert gate.reached.wait(PATIENCE)
            stop.set()

        waiting = threading.Thread(target=interrupt)
        waiting.start()
        with pytest.raises(Cancelled, match="the daemon goes on with the push") as raised:
            _carried_out(config, Push(), stop=stop)
        waiting.join()
        assert raised.value.hint == "ckptsync status orders"
        assert not (home / "bucket" / "head.json").exists()

        gate.opened.set()
        assert _carried_out(config, Push())["checkpoint"]["engine_id"] == "1"
        assert desk.bugs == []


def test_a_stop_while_another_command_is_at_work_ends_the_wait(home: Path) -> None:
    config, stop = _config(home), Impatient()
    stop.set()

    with wiring.lock(config, "orders"), pytest.raises(Cancelled, match="before the push was begun"):
        _carried_out(config, Push(), stop=stop)


def test_a_daemon_goes_on_when_the_time_is_up(home: Path) -> None:
    config, gate = _config(home), Gate()
    with _daemon(config, gate):
        with pytest.raises(TimedOut, match="has not ended within 20ms; the daemon goes on"):
            ask.carry_out(
                Invocation(stop=threading.Event()),
                config,
                "orders",
                Push(),
                timeout=timedelta(milliseconds=20),
            )

        gate.opened.set()
        assert _carried_out(config, Push())["checkpoint"]["engine_id"] == "1"


def test_a_command_stops_its_own_work_when_the_time_is_up(home: Path) -> None:
    (port,) = free_ports(1)  # nobody listens there, so it tries again and again
    away = f"""
        bucket = "s3://nowhere/orders"
        endpoint = "http://127.0.0.1:{port}"
        region = "us-east-1"
        access_key = "who"
        secret_key = "knows"
        """

    with pytest.raises(TimedOut, match="the push was stopped after 20ms") as raised:
        ask.carry_out(
            Invocation(stop=threading.Event()),
            _config(home, away),
            "orders",
            Push(),
            timeout=timedelta(milliseconds=20),
        )

    assert raised.value.hint == "run it again: it goes on from there"


def test_time_that_is_not_up_changes_nothing(home: Path) -> None:
    stop = threading.Event()

    document = ask.carry_out(
        Invocation(stop=stop), _config(home), "orders", Push(), timeout=timedelta(hours=1)
    )

    assert document["already_synced"] is False
    assert not stop.is_set()


def test_a_pull_elsewhere_needs_nobody(home: Path) -> None:
    config = _config(home)
    _carried_out(config, Push())
    (home / "config.toml").write_text(_toml(home))

    with wiring.lock(config, "orders"):
        done = _run(home, "pull", "--to", str(home / "there"))

    assert done.stderr == ""
    assert "pulled" in done.stdout
    assert (home / "there" / "1" / "chunk").exists()


@pytest.mark.parametrize("command", ["push", "pull"])
def test_nothing_of_http_is_loaded_where_no_daemon_is_asked(home: Path, command: str) -> None:
    (home / "config.toml").write_text(_toml(home))

    done = _run(home, command, report=("fastapi", "uvicorn", "http.client", "ckptsync.api"))

    assert done.stdout.splitlines()[-1] == "loaded: []"


def _run(
    home: Path, *arguments: str, report: tuple[str, ...] = ()
) -> "subprocess.CompletedProcess[str]":
    """The command in a process of its own, which tells which of some modules it has loaded."""
    code = (
        "import sys, threading; from ckptsync.cli.main import run;"
        f"code = run({['-c', str(home / 'config.toml'), *arguments]!r}, threading.Event());"
        f"print('loaded:', [each for each in {report!r} if each in sys.modules]);"
        "sys.exit(code)"
    )
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE
    )


def _without(document: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    return {key: value for key, value in document.items() if key not in keys}


class _Meanwhile(threading.Event):
    """A stop that is not asked for; while somebody waits for it something happens, once."""

    def __init__(self, happen: Callable[[], None]) -> None:
        super().__init__()
        self._happen: Callable[[], None] | None = happen

    def wait(self, timeout: float | None = None) -> bool:
        del timeout
        if self._happen is not None:
            self._happen()
            self._happen = None
        return self.is_set()


def test_a_push_beside_a_copy_of_this_node_is_refused(home: Path) -> None:
    config, bucket = _config(home), LocalStore(home / "bucket")
    _carried_out(config, Push())
    head = read_head(bucket)

    def beats(_seconds: float) -> None:
        nodes.write(bucket, _beat("host-a", Role.PRIMARY))

    beats(0.0)
    write_tree(home / "storage" / "2", a_small_checkpoint("2"))

    with pytest.raises(PrimaryActive, match="at work on another machine"):
        _carried_out(config, Push(), stop=Waits(beats))

    assert read_head(bucket) == head


def test_a_switchover_that_is_stopped_while_the_engine_ends_starts_it_again(home: Path) -> None:
    stops = f"touch '{home}/stopping'; exec sleep 60"
    hooks = f"""
        [pipelines.orders.hooks]
        on_release = {json.dumps(["sh", "-c", stops])}
        on_activate = {json.dumps(["touch", f"{home}/started"])}
        """
    config = parse(_toml(home) + hooks, home / "config.toml")
    _carried_out(config, Push())
    nodes.write(LocalStore(home / "bucket"), _beat("host-b", Role.STANDBY))
    order = Switchover(to="host-b", timeout=timedelta(hours=1), engine_stopped=True)

    with pytest.raises(Cancelled):
        _carried_out(config, order, stop=_StopsOnce(home / "stopping"))

    assert (home / "started").exists()
    with wiring.wire(config, "orders", threading.Event()) as pipeline:
        assert pipeline.state.handovers.current() is None
        assert role_of(pipeline) is Role.PRIMARY


class _StopsOnce(threading.Event):
    """Is set from when a file is there."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def is_set(self) -> bool:
        return super().is_set() or self._file.exists()

    def wait(self, timeout: float | None = None) -> bool:
        return super().wait(min(timeout or 0.0, 0.01)) or self.is_set()


def _beat(node: str, role: Role) -> Heartbeat:
    return Heartbeat(
        node=node,
        node_id="some",
        machine="another",
        role=role,
        epoch=1,
        warm=None,
        pulling=None,
        at=datetime.now(UTC),
    )
