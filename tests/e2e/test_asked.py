"""Commands on a host whose daemon has the pipeline: they look as they do without one."""

import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.daemons import daemon, eventually
from tests.e2e.site import Done, Site
from tests.pipelines import a_small_checkpoint, write_tree

_COMMANDS: Final[Mapping[tuple[str, ...], int]] = {
    ("push",): 0,
    ("push", "--json"): 0,
    ("push", "--error-if-none"): 4,
    ("push", "--checkpoint", "nonesuch", "--json"): 10,
    ("pull",): 0,
    ("pull", "--json"): 0,
}
"""With their exit codes."""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """With a checkpoint that was pushed, of an engine that does not run."""
    made = Site.on_disk(tmp_path / "host-a", layout="directory", hook=("false",))
    write_tree(made.storage() / "1", a_small_checkpoint(1))
    assert made.run("push").code == 0
    return made


def test_a_command_looks_the_same_whoever_does_the_work(site: Site) -> None:
    here = {command: _told(site, command) for command in _COMMANDS}
    with daemon(site):
        there = {command: _told(site, command) for command in _COMMANDS}

    assert there == here
    assert {command: told.code for command, told in there.items()} == _COMMANDS


def test_a_daemon_pulls_what_is_asked_for(site: Site) -> None:
    write_tree(site.storage() / "2", a_small_checkpoint(2))
    with daemon(site):
        assert site.run("push").code == 0
        pulled = site.run("pull", "--checkpoint", "1", "--json")

    assert pulled.code == 0, pulled.err
    assert pulled.document["outcome"] == "pulled"
    assert {each.name for each in site.storage().iterdir()} == {"1"}


def test_an_interrupted_command_leaves_the_daemon_at_work(site: Site) -> None:
    with _held(site) as hold, daemon(hold.site), hold.site.start("push") as push:
        eventually(hold.held.exists)
        push.process.send_signal(signal.SIGINT)
        done = push.done()
        hold.go.touch()
        eventually(lambda: _last_push(hold.site)["outcome"] == "done")

    assert (done.code, done.out) == (130, "")
    assert done.err == "error: the daemon goes on with the push\ntry: ckptsync status orders\n"


def test_a_command_whose_daemon_dies_cannot_tell(site: Site) -> None:
    with (
        _held(site) as hold,
        daemon(hold.site) as running,
        hold.site.start("push", "--json") as push,
    ):
        eventually(hold.held.exists)
        running.kill()
        done = push.done()

    assert done.code == 16
    assert done.document["error"]["kind"] == "CannotTell"
    assert done.document["error"]["message"] == (
        "the daemon of pipeline 'orders' has ended: whether the push was done is unknown"
    )
    assert hold.site.run("push").code == 0, "what the daemon left does not hold up the next one"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hold:
    site: Site
    held: Path
    """Is there once a push waits."""
    go: Path
    """Once it is there, pushes go on."""


@contextmanager
def _held(site: Site) -> Iterator[_Hold]:
    """The site with a hook that holds each push until it is told to go on; at the end it is."""
    held, go = site.home / "held", site.home / "go"
    wait = f"touch {held}; while ! test -e {go}; do sleep 0.02; done"
    site.config.unlink()
    try:
        yield _Hold(
            site=replace(site, hooks={"pre_push": ("sh", "-c", wait)}),
            held=held,
            go=go,
        )
    finally:
        go.touch()


def _last_push(site: Site) -> Any:
    (status,) = site.run("status", "--json").document["pipelines"]
    return status["last_push"]


def _told(site: Site, command: tuple[str, ...]) -> Done:
    """But for how long it took."""
    done = site.run(*command)
    return replace(done, out=re.sub(r'"seconds": [0-9.]+', '"seconds": 0', done.out))
