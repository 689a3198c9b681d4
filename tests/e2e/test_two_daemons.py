"""The life of a pipeline on two hosts: real daemons, real engines, one bucket."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.daemons import Daemon, daemon, eventually
from tests.e2e.engines import HostEngine, engine
from tests.e2e.pair import Pair, events, kind, tree
from tests.e2e.site import Site
from tests.fakes.feldera_engine import PIDLOCK
from tests.operations.invariants import require_sound


def _may_start(site: Site) -> int:
    return site.run("may-start").code


def _committed(*daemons: Daemon) -> Sequence[str]:
    """What these reported as committed in all of their lives."""
    return [
        event["checkpoint"] for each in daemons for event in events(each, "checkpoint.committed")
    ]


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair.on_disk(tmp_path)


@pytest.fixture
def engines(pair: Pair) -> Iterator[tuple[HostEngine, HostEngine]]:
    with engine(pair.a) as of_a, engine(pair.b) as of_b:
        yield of_a, of_b


def test_a_pipeline_outlives_its_host_and_comes_home(
    pair: Pair, engines: tuple[HostEngine, HostEngine]
) -> None:
    of_a, of_b = engines
    a, b = of_a.site, of_b.site
    with ExitStack() as running:
        of_a.start()
        on_a, on_b = running.enter_context(daemon(a)), running.enter_context(daemon(b))
        eventually(lambda: len(_committed(on_a)) > 2 and on_b.snapshot().warm)
        assert (_may_start(a), _may_start(b)) == (0, 13)

        on_a.kill()
        of_a.kill()
        newest, acknowledged = pair.head, _committed(on_a)
        latest = pair.latest
        alive = b.run("activate", "--yes", "--json")
        taken = b.run("activate", "--yes", "--json", "--force", "--reason", "host-a burns")

        assert (alive.code, kind(alive)) == (13, "PrimaryActive")
        assert taken.code == 0, taken.err
        assert (taken.document["epoch"], taken.document["left_behind"]) == (2, 0)
        assert taken.document["checkpoint"] == newest.latest
        assert latest is not None
        assert (of_b.resumed["uuid"], of_b.resumed["files"]) == (latest, of_a.written[latest])
        pair.require_kept(acknowledged)
        eventually(lambda: pair.latest in of_b.written)
        assert (_may_start(a), _may_start(b)) == (11, 0)

        of_a.start(gated=False)
        on_a = running.enter_context(daemon(a))
        eventually(lambda: not of_a.runs)
        left = tree(a.storage(), leave_out={PIDLOCK})
        assert on_a.snapshot().role == "fenced"
        assert _may_start(a) == 11
        rejoined = a.run("rejoin", "--yes", "--json")
        assert rejoined.code == 0, rejoined.err
        assert tree(Path(rejoined.document["quarantine"])) == left
        eventually(lambda: on_a.snapshot().warm)
        assert (_may_start(a), _may_start(b)) == (13, 0)

        back = b.run("switchover", "--yes", "--json", "--reason", "home again")
        assert back.code == 0, back.err
        assert (back.document["node"], back.document["epoch"]) == ("host-a", 3)
        eventually(lambda: on_a.snapshot().role == "primary")
        last = list(of_b.written)[-1]
        assert (of_a.resumed["uuid"], of_a.resumed["files"]) == (last, of_b.written[last])
        assert not of_b.runs
        assert (_may_start(a), _may_start(b)) == (0, 13)
        committed = _committed(on_b)
        eventually(lambda: pair.head.timeline == 3 and pair.head.latest not in committed)
        eventually(lambda: on_b.snapshot().warm)
        for host in (a, b):
            begun = [
                (each["epoch"], each["reason"], _fork(each)) for each in _history(host, "timeline")
            ]
            assert begun == [
                (1, "create", None),
                (2, "activate: host-a burns", newest.latest),
                (3, "activate: switchover from host-b", committed[-1]),
            ]
        released = [each for each in _history(b, "role") if each["role"] == "released"]
        assert [each["reason"] for each in released] == ["switchover to host-a: home again"]
    pair.require_kept(_committed(on_a, on_b))
    require_sound(pair.store)


def _history(site: Site, kind: str) -> Sequence[Any]:
    """Its events of a kind, the oldest first."""
    events = site.run("history", "--json", "--limit", "500").document["events"]
    return [each for each in reversed(events) if each["kind"] == kind]


def _fork(timeline: Any) -> str | None:
    """The checkpoint that it goes on from."""
    checkpoint: str | None = timeline["parent"] and timeline["parent"]["checkpoint"]
    return checkpoint
