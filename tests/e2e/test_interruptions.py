"""Signals, and two processes at once. A gate before the server holds a run in its middle."""

import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.gate import Gate, gate
from tests.e2e.site import PATIENCE, Running, Site
from tests.e2e.terminal import terminal
from tests.pipelines import noise, write_tree
from tests.servers import S3Server

_CHUNKS = 6
_FILE = noise(_CHUNKS * (4 << 20) - 1)


@pytest.fixture
def site(tmp_path: Path, seaweedfs: S3Server) -> Site:
    """A host with one large checkpoint that is sent a chunk at a time."""
    site = Site.on_s3(tmp_path / "host-a", seaweedfs, secrets.token_hex(8), transfers=1)
    write_tree(site.storage() / "step-1", {"weights": _FILE, "small": b"1"})
    return replace(site, layout="directory")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_push_leaves_no_checkpoint_and_the_next_goes_on(
    site: Site, seaweedfs: S3Server, number: signal.Signals
) -> None:
    with _held(site, seaweedfs, "PUT", "/chunks/") as (run, held):
        run.process.send_signal(number)
        held.opened.set()
        done = run.done()
        sent = held.passed
    site.write_config()
    nothing = site.run("list", "--remote", "--json").document["checkpoints"]
    with gate(seaweedfs, "PUT", "/chunks/", free=_CHUNKS) as counted:
        replace(site, sync={**site.sync, "endpoint": counted.server.endpoint}).write_config()
        again = site.run("push", "--json")

    assert done.code == 130
    assert done.err.startswith("error: stopped on request")
    assert sent < _CHUNKS
    assert nothing == []
    assert again.code == 0
    assert sent + counted.passed == _CHUNKS, "what was sent before is not sent again"
    to = site.home / "to"
    site.write_config()
    assert site.run("pull", "--to", str(to)).code == 0
    assert (to / "step-1" / "weights").read_bytes() == _FILE


def test_an_interrupted_pull_leaves_nothing_half_restored(site: Site, seaweedfs: S3Server) -> None:
    assert site.run("push").code == 0
    to = site.home / "to"
    with _held(site, seaweedfs, "GET", "/chunks/", "pull", "--to", str(to)) as (run, held):
        run.process.send_signal(signal.SIGINT)
        held.opened.set()
        done = run.done()
    site.write_config()

    assert done.code == 130
    assert not to.exists()
    assert site.run("pull", "--to", str(to)).code == 0
    assert (to / "step-1" / "weights").read_bytes() == _FILE


def test_an_interruption_is_an_error_record_and_a_row_of_the_history(
    site: Site, seaweedfs: S3Server
) -> None:
    with _held(site, seaweedfs, "PUT", "/chunks/", "push", "--json") as (run, held):
        run.process.send_signal(signal.SIGINT)
        held.opened.set()
        done = run.done()
    site.write_config()
    (status,) = site.run("status", "--json").document["pipelines"]

    assert done.document["error"]["kind"] == "Cancelled"
    assert status["last_push"]["outcome"] == "failed"
    assert status["last_good_push"] is None
    assert status["last_push"]["error"]["kind"] == "Cancelled"


def test_a_second_signal_ends_it_at_once(site: Site, seaweedfs: S3Server) -> None:
    with _held(site, seaweedfs, "PUT", "/chunks/") as (run, _held_open):
        run.process.send_signal(signal.SIGINT)
        _await_default(run.process.pid, signal.SIGINT)
        run.process.send_signal(signal.SIGINT)
        assert run.done().code == -signal.SIGINT
    site.write_config()

    (status,) = site.run("status", "--json").document["pipelines"]
    assert status["last_push"]["outcome"] == "interrupted"
    assert site.run("push").code == 0


def test_a_person_is_told_that_it_is_stopping(site: Site, seaweedfs: S3Server) -> None:
    with (
        terminal() as screen,
        _held(site, seaweedfs, "PUT", "/chunks/", stderr=screen.descriptor) as (run, held),
    ):
        run.process.send_signal(signal.SIGINT)
        _await_default(run.process.pid, signal.SIGINT)
        held.opened.set()
        assert run.done().code == 130

    assert "once more ends it at once" in screen.text
    assert "error: stopped on request" in screen.text


def test_of_two_pushes_at_once_one_is_told_to_wait(site: Site, seaweedfs: S3Server) -> None:
    with _held(site, seaweedfs, "PUT", "/chunks/") as (run, held):
        second = site.run("push", "--json")
        held.opened.set()
        first = run.done()

    assert second.code == 5
    assert second.document["error"]["kind"] == "Busy"
    assert str(run.process.pid) in second.err
    assert first.code == 0


@contextmanager
def _held(
    site: Site,
    server: S3Server,
    method: str,
    part: str,
    *command: str,
    stderr: int = subprocess.PIPE,
) -> Iterator[tuple[Running, Gate]]:
    """A push, or another command, that waits at its third request of this kind."""
    with gate(server, method, part, free=2) as held:
        replace(site, sync={**site.sync, "endpoint": held.server.endpoint}).write_config()
        with site.start(*(command or ("push",)), stderr=stderr) as run:
            assert held.reached.wait(PATIENCE), "the request never came"
            yield run, held


def _await_default(process: int, number: signal.Signals) -> None:
    """Wait until a process no longer handles a signal by itself."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        status = Path(f"/proc/{process}/status").read_text()
        caught = int(next(line for line in status.splitlines() if line[:7] == "SigCgt:")[8:], 16)
        if not caught >> (number - 1) & 1:
            return
        time.sleep(0.01)
    raise AssertionError(f"process {process} still catches {number}")
