"""Where there is no polkit: what the daemon asks for is done by root, and nothing else is."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

pytestmark = pytest.mark.host

SCRIPTS: Final = Path(__file__).parents[2] / "systemd"
TOKEN: Final = "0b5c2f5e-6f0c-4a7e-9d3c-3f6d8f1f2a11"

# It notes what it is told. A file 'condition' makes it skip starts, as a unit's condition does.
_SYSTEMCTL: Final = """#!/bin/sh
cd "{host}"
case $1 in
    is-active) cat state; [ "$(cat state)" = active ]; exit ;;
esac
echo "$@" >> called
[ ! -e meanwhile ] || sh meanwhile
[ ! -e broken ] || exit 1
[ -e condition ] || case $1 in start) echo active > state ;; stop) echo inactive > state ;; esac
"""


class Site:
    """A host with both scripts, a runtime directory, and a systemctl that only takes notes."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.requests = home / "ckptsync" / "orders"
        self.requests.mkdir(parents=True)
        self.answers = home / "ckptsync-engine" / "orders"
        self.answers.mkdir(parents=True)
        (home / "state").write_text("inactive\n")
        (home / "systemctl").write_text(_SYSTEMCTL.format(host=home))
        (home / "systemctl").chmod(0o755)
        for name in ("request-engine", "answer-request"):
            script = (SCRIPTS / name).read_text()
            assert "\nrun=/run\n" in script
            (home / name).write_text(script.replace("\nrun=/run\n", f"\nrun={home}\n"))
            (home / name).chmod(0o755)
        self._asking: list[subprocess.Popen[str]] = []

    def ask(self, wish: str) -> "subprocess.Popen[str]":
        """What the daemon's hook does; returns once the request is there."""
        before = self.waiting()
        process = subprocess.Popen(
            [self.home / "request-engine", wish, "orders"], stderr=subprocess.PIPE, text=True
        )
        self._asking.append(process)
        deadline = time.monotonic() + 60
        while not {each for each in self.waiting() - before if each.startswith(f"{wish}.")}:
            assert process.poll() is None, "it ended without having asked"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return process

    def answer(self, wish: str) -> int:
        """What root's unit does where a request is waiting."""
        return subprocess.run(
            [self.home / "answer-request", wish, "orders"],
            check=False,
            stderr=subprocess.DEVNULL,
            env={"PATH": f"{self.home}:{os.environ['PATH']}"},
        ).returncode

    def waiting(self) -> set[str]:
        return {path.name for path in self.requests.iterdir()}

    def called(self) -> list[str]:
        notes = self.home / "called"
        return notes.read_text().splitlines() if notes.exists() else []

    def close(self) -> None:
        for process in self._asking:
            process.kill()
            process.communicate()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path.resolve())
    yield made
    made.close()


def test_a_request_is_carried_out_once_and_answered(site: Site) -> None:
    for wish in ("start", "stop"):
        asking = site.ask(wish)

        assert site.answer(wish) == 0
        assert site.answer(wish) == 0

        assert asking.wait(60) == 0
    assert site.called() == ["start pipeline@orders.service", "stop pipeline@orders.service"]
    assert site.waiting() == set()


@pytest.mark.parametrize("obstacle", ["broken", "condition"])
def test_whoever_asked_learns_that_the_engine_did_not_start(site: Site, obstacle: str) -> None:
    (site.home / obstacle).touch()
    asking = site.ask("start")

    assert site.answer("start") == 1

    _, said = asking.communicate(timeout=60)
    assert asking.returncode == 1
    assert said == "systemd could not start pipeline@orders.service, see its journal\n"


def test_an_engine_that_crashed_is_stopped(site: Site) -> None:
    (site.home / "condition").touch()
    (site.home / "state").write_text("failed\n")
    asking = site.ask("stop")

    site.answer("stop")

    assert asking.wait(60) == 0


def test_requests_of_the_same_kind_are_answered_together(site: Site) -> None:
    asking = [site.ask("start"), site.ask("start")]

    site.answer("start")

    assert [each.wait(60) for each in asking] == [0, 0]
    assert site.called() == ["start pipeline@orders.service"]


def test_a_request_that_comes_while_another_is_carried_out_is_not_lost(site: Site) -> None:
    (site.home / "meanwhile").write_text(f"touch {site.requests}/start.{TOKEN}")
    first = site.ask("start")

    site.answer("start")

    assert first.wait(60) == 0
    assert site.waiting() == {f"start.{TOKEN}"}
    assert TOKEN not in (site.answers / "start").read_text()


def test_an_older_answer_is_nobodys(site: Site) -> None:
    (site.answers / "start").write_text(f"{TOKEN} done\n")
    (site.home / "broken").touch()
    asking = site.ask("start")

    site.answer("start")

    assert asking.wait(60) == 1


def test_a_stop_withdraws_the_start_that_nobody_has_taken(site: Site) -> None:
    site.ask("start")
    stopping = site.ask("stop")

    site.answer("start")
    site.answer("stop")

    assert stopping.wait(60) == 0
    assert site.called() == ["stop pipeline@orders.service"]


def test_a_request_that_is_given_up_is_withdrawn(site: Site) -> None:
    asking = site.ask("start")

    asking.terminate()

    _, said = asking.communicate(timeout=60)
    assert asking.returncode == 1
    assert said == "no answer: is ckptsync-engine-start@orders.path active?\n"
    assert site.waiting() == set()


@pytest.mark.parametrize("wish", ["restart", "", "../start"])
def test_only_starts_and_stops_can_be_asked_for(site: Site, wish: str) -> None:
    done = subprocess.run(
        [site.home / "request-engine", wish, "orders"], capture_output=True, check=False
    )

    assert done.returncode == 2
    assert site.waiting() == set()


# What a daemon that was broken into may leave there


@pytest.mark.parametrize(
    "name",
    ["start.", "start.*", "start.a b", "start.$(touch x)", "start.;stop ssh", "start.`id`",
     "start.x", "start.-rf", "start.\n0", "start.A"],
)  # fmt: skip
def test_a_request_of_another_name_starts_nothing_and_goes(site: Site, name: str) -> None:
    (site.requests / name).write_text("reboot\n")

    assert site.answer("start") == 0

    assert site.called() == []
    assert site.waiting() == set()
    assert not (site.home / "x").exists()


def test_no_request_is_opened(site: Site) -> None:
    secret = site.home / "secret"
    secret.write_text(TOKEN)
    (site.requests / f"start.{TOKEN}").symlink_to(secret)
    os.mkfifo(site.requests / "start.f")
    (site.requests / "start.d").mkdir()

    assert site.answer("start") == 0

    assert site.waiting() == set()
    assert secret.read_text() == TOKEN


def test_a_directory_that_cannot_be_deleted_starts_nothing(site: Site) -> None:
    (site.requests / "start.d").mkdir()
    (site.requests / "start.d" / "file").touch()

    assert site.answer("start") == 0

    assert site.called() == []


def test_nothing_is_deleted_where_a_link_leads(site: Site) -> None:
    elsewhere = site.home / "elsewhere"
    site.requests.rename(elsewhere)
    (elsewhere / f"start.{TOKEN}").touch()
    site.requests.symlink_to(elsewhere)

    assert site.answer("start") != 0

    assert [path.name for path in elsewhere.iterdir()] == [f"start.{TOKEN}"]
    assert site.called() == []
