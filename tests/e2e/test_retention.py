"""Pruning by real processes: what stays in a bucket, and what a kill or a race does to it."""

import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest

from ckptsync.cli import ask
from ckptsync.cli.invocation import Invocation
from ckptsync.config.load import parse
from ckptsync.errors import PreconditionFailed
from ckptsync.operations.orders import Push
from ckptsync.repository import keys
from ckptsync.repository.head import Entry, encode
from ckptsync.repository.repository import read_head
from ckptsync.stores.base import ObjectStore
from ckptsync.stores.local import LocalStore
from ckptsync.stores.s3 import S3Store
from tests.e2e.daemons import daemon
from tests.e2e.gate import gate
from tests.e2e.pair import configured, tree
from tests.e2e.site import PATIENCE, Done, Site
from tests.operations.forgetting import entries_of, repository_of
from tests.operations.invariants import require_sound
from tests.pipelines import Impatient, noise, write_tree
from tests.servers import S3Server

_DAY: Final = timedelta(hours=25)
_LEAN: Final = {"retention_min_count": 2, "retention_min_age": "0s"}
_GENEROUS: Final = {"retention_min_count": 100, "retention_min_age": "1d"}
_ELSE: Final = ("nodes/", "probe/", "RECOVER.md")
_CHUNK: Final = 100_000  # bytes: above pack_below


def _ruled(site: Site, **sync: Any) -> Site:
    """The host by these rules from now on."""
    return configured(replace(site, layout="directory", sync={**site.sync, **sync}))


def _store(site: Site, server: S3Server | None = None) -> ObjectStore:
    bucket = site.buckets["orders"]
    if server is None:
        return LocalStore(Path(bucket.removeprefix("file://")))
    return S3Store(server.options(bucket.split("/", 3)[3]))


@pytest.fixture
def lean(any_site: Site) -> Site:
    """It keeps the two newest."""
    return _ruled(any_site, **_LEAN)


@pytest.fixture
def store(lean: Site, request: pytest.FixtureRequest) -> Iterator[ObjectStore]:
    on_s3 = lean.buckets["orders"].startswith("s3://")
    with closing(_store(lean, request.getfixturevalue("seaweedfs") if on_s3 else None)) as opened:
        yield opened


def _files(step: int) -> Mapping[str, bytes]:
    """Some are those of the step before, and some come back after a while."""
    return {
        "own": noise(_CHUNK, step),
        "slow": noise(_CHUNK, ("slow", step // 3)),
        "again": noise(_CHUNK, ("again", step % 4)),
        "small": noise(200, ("small", step % 5)),
    }


def _write(site: Site, step: int) -> None:
    write_tree(site.storage() / f"step-{step}", _files(step))


def _push(site: Site, step: int) -> None:
    _write(site, step)
    done = site.run("push")
    assert done.code == 0, done.err


def _push_here(site: Site, steps: Sequence[int]) -> None:
    """In this process, which takes less time."""
    config = parse(site.config.read_text(), site.config)
    for step in steps:
        _write(site, step)
        ask.carry_out(Invocation(stop=Impatient()), config, "orders", Push())


def _let_a_day_pass(store: ObjectStore) -> None:
    """For what is retired. Raises PreconditionFailed if somebody else was at head meanwhile."""
    old = read_head(store)
    changes = {
        "revision": old.head.revision + 1,
        "write_id": uuid4().hex,
        "checkpoints": tuple(map(_a_day_older, old.head.checkpoints)),
    }
    store.put(keys.HEAD, encode(old.head.model_copy(update=changes)), expect=old.version)


def _a_day_older(entry: Entry) -> Entry:
    if entry.retired_at is None:
        return entry
    return entry.model_copy(update={"retired_at": entry.retired_at - _DAY})


def _states(store: ObjectStore) -> Mapping[str, str]:
    return {each.engine_id: each.state for each in entries_of(store)}


def _require_nothing_to_spare(store: ObjectStore) -> None:
    """There is what head needs, what nodes write for each other and for people, and no more."""
    head, repository = read_head(store).head, repository_of(store)
    needed = {keys.HEAD, keys.DESCRIPTOR}
    needed |= {page.key for page in head.pages} | {each.key for each in head.sweep.lists}
    for entry in repository.entries(head):
        needed.add(keys.manifest(entry.id))
        needed |= {stored.key for stored in repository.manifest(entry).objects}
    there = {info.key for info in store.walk("")}
    assert {key for key in there if not key.startswith(_ELSE)} == needed


def _require_restorable(site: Site, store: ObjectStore) -> None:
    """Each that is live or retired, as it was written."""
    for name in _states(store):
        to = site.home / f"restored-{name}"
        done = site.run("pull", "--checkpoint", name, "--to", str(to))
        assert done.code == 0, done.err
        assert tree(to / name) == _files(int(name.removeprefix("step-")))


# What stays


def test_a_bucket_holds_only_what_is_kept_once_a_day_has_passed(
    lean: Site, store: ObjectStore
) -> None:
    for step in range(6):
        _push(lean, step)
    retired = {f"step-{step}": "retired" for step in range(4)}
    assert _states(store) == {**retired, "step-4": "live", "step-5": "live"}

    _let_a_day_pass(store)
    _push(lean, 6)
    assert _states(store) == {"step-4": "retired", "step-5": "live", "step-6": "live"}
    pruned = lean.run("prune", "--json")
    assert pruned.code == 0, pruned.err
    assert pruned.document["deleted_objects"] >= 8, "the push had swept less than an hour ago"
    _require_nothing_to_spare(store)
    assert lean.run("verify", "--full").code == 0
    _require_restorable(lean, store)
    (status,) = lean.run("status", "--json").document["pipelines"]
    counted = {state: status["head"][state] for state in ("checkpoints", "live", "retired", "bad")}
    assert counted == {"checkpoints": 3, "live": 2, "retired": 1, "bad": 0}
    assert status["last_prune"]["details"]["deleted_objects"] == pruned.document["deleted_objects"]


def test_what_is_kept_by_name_stays_until_it_is_let_go(lean: Site, store: ObjectStore) -> None:
    _push(lean, 0)
    assert lean.run("keep", "latest", "--name", "mine").code == 0
    for step in range(1, 4):
        _push(lean, step)
    _let_a_day_pass(store)
    lean.run("prune")
    assert _states(store) == {"step-0": "live", "step-2": "live", "step-3": "live"}
    assert re.search(r"bucket +reachable, holds 3 checkpoints, 1 kept by name\n", _told(lean))

    assert lean.run("unkeep", "mine").code == 0
    assert lean.run("prune").out.startswith("retired 1 checkpoint (it goes in 1d unless kept)")
    held = r"bucket +reachable, holds 3 checkpoints \(2 live, 1 retired\)\n"
    assert re.search(held, _told(lean))
    _let_a_day_pass(store)
    assert lean.run("prune").code == 0
    assert _states(store) == {"step-2": "live", "step-3": "live"}
    _require_nothing_to_spare(store)
    pruned = r"last prune +done .*: forgot 1, deleted \d+ objects \(.*\)\n"
    assert re.search(pruned, _told(lean))


def _told(site: Site) -> str:
    return site.run("status").out


def test_the_history_tells_what_was_pruned_and_kept(site: Site) -> None:
    site = _ruled(site, **_LEAN)
    for step in range(3):
        _push(site, step)
    for command in ("keep step-0 --name mine", "keep step-0 --name mine", "unkeep mine"):
        assert site.run(*command.split()).code == 0
    site.run("unkeep", "mine")
    site.run("prune")

    lines = site.run("history").out.splitlines()[1:]
    ran = [tuple(re.split(r" {2,}", line)[1:]) for line in lines]
    first = entries_of(_store(site))[0].id
    assert ran[0] == ("prune done", "-", "retired 1")
    assert ran[1][:2] == ("unkeep done", "-")
    assert ran[1][2].startswith("there was no keep 'mine'; 2 times since ")
    assert ran[2][2].startswith(f"{first} was kept as 'mine'; 2 times since ")
    assert ran[3] == ("prune done", "-", "retired 1")
    assert [each[0] for each in ran[4:]] == ["push done", "timeline 1", "push done"]


# Whoever does it


_IN_TURN: Final[Sequence[tuple[str, int]]] = (
    ("prune --json", 0),
    ("prune --error-if-none", 4),
    ("keep latest --name mine --until 2999-01-31 --json", 0),
    ("keep latest --name mine --until 2999-01-31", 0),
    ("keep step-0 --name mine", 13),
    ("keep nonesuch --json", 10),
    ("unkeep mine --json", 0),
    ("unkeep mine", 0),
)
"""Commands that leave a bucket as they found it, with their exit codes."""


@pytest.mark.parametrize("standby", [False, True], ids=["primary", "standby"])
def test_prune_and_keep_look_the_same_whoever_does_the_work(site: Site, standby: bool) -> None:
    primary = _ruled(site, **_LEAN)
    for step in range(2):
        _push(primary, step)
    host = primary
    if standby:
        other = replace(primary, home=primary.home.with_name("host-b"))
        host = _ruled(other, standby=True, pull_interval="1h")
    host.run("prune")

    def told() -> list[Done]:
        done = [host.run(*command.split()) for command, _code in _IN_TURN]
        return [replace(each, out=re.sub(r'"seconds": [0-9.]+', "", each.out)) for each in done]

    here = told()
    with daemon(host) as running:
        there = told()
        assert running.role() == ("standby" if standby else "primary")
    assert there == here
    assert [done.code for done in there] == [code for _command, code in _IN_TURN]


def test_a_push_by_hand_succeeds_though_the_prune_after_it_does_not(
    lean: Site, store: ObjectStore
) -> None:
    _push(lean, 0)
    store.put("nodes/host-x.json", b"damaged")
    _write(lean, 1)
    done = lean.run("push")

    assert done.code == 0
    assert done.out.startswith("pushed ")
    warning = "warning: the push is done, but the bucket was not pruned after it: "
    assert done.err.startswith(f"{warning}nodes/host-x.json cannot be read, ")
    (status,) = lean.run("status", "--json").document["pipelines"]
    assert status["last_push"]["outcome"] == "done"
    assert status["last_prune"]["outcome"] == "failed"
    assert "host-x" in status["last_prune"]["error"]["message"]
    by_hand = lean.run("prune", "--json")
    assert (by_hand.code, by_hand.document["error"]["kind"]) == (12, "IntegrityError")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_push_whose_prune_is_interrupted_still_answers(
    s3_site: Site, seaweedfs: S3Server, number: signal.Signals
) -> None:
    site = _ruled(s3_site, **_LEAN)
    _push(site, 0)
    _write(site, 1)
    with gate(seaweedfs, "GET", "nodes%2F", free=0) as held:
        _ruled(site, endpoint=held.server.endpoint)
        with site.start("push", "--json") as run:
            assert held.reached.wait(PATIENCE)
            held.away.set()
            run.process.send_signal(number)
            held.opened.set()
            done = run.done()
    configured(site)

    assert (done.code, done.document["checkpoint"]["engine_id"]) == (0, "step-1")
    told = [line for line in done.err.splitlines() if "pruned" in line]
    assert len(told) == 1
    assert "the bucket was not pruned after it: " in told[0]
    assert "stopped" in told[0]
    assert site.run("prune").code == 0


def test_a_prune_that_is_interrupted_ends_and_the_next_one_does_it(
    s3_site: Site, seaweedfs: S3Server
) -> None:
    site = _ruled(s3_site, **_GENEROUS)
    _push_here(site, range(3))
    with (
        closing(_store(site, seaweedfs)) as store,
        gate(seaweedfs, "GET", "nodes%2F", free=0) as held,
    ):
        head = read_head(store).head
        _ruled(site, **_LEAN, endpoint=held.server.endpoint)
        with site.start("prune", "--json") as run:
            assert held.reached.wait(PATIENCE)
            held.away.set()
            run.process.send_signal(signal.SIGINT)
            held.opened.set()
            done = run.done()
        assert (done.code, done.document["error"]["kind"]) == (130, "Cancelled")
        assert read_head(store).head == head
        assert _ruled(site, **_LEAN).run("prune").out.startswith("retired 1 checkpoint ")


# Kills and races


def test_a_prune_that_is_killed_at_any_moment_loses_nothing_and_leaves_nothing(
    s3_site: Site, seaweedfs: S3Server
) -> None:
    kills, count = 20, 26
    site = _ruled(s3_site, **_GENEROUS)
    _push_here(site, range(count))
    chance = random.Random(7)
    killed = 0
    with closing(_store(site, seaweedfs)) as store:
        site = _ruled(site, retention_min_count=count - 1, retention_min_age="0s")
        started = time.monotonic()
        assert site.run("prune", "--orphans").code == 0
        takes = time.monotonic() - started
        for kill in range(1, kills + 1):
            site = _ruled(site, retention_min_count=count - 1 - kill)
            _let_a_day_pass(store)
            with site.start("prune", "--orphans") as run:
                with suppress(subprocess.TimeoutExpired):
                    run.process.wait(chance.uniform(0.3, 1.0) * takes)
                run.process.kill()
                killed += run.process.wait(PATIENCE) == -signal.SIGKILL
            require_sound(store)
        assert killed > kills // 2
        for _ in range(2):
            _let_a_day_pass(store)
            done = site.run("prune", "--orphans")
            assert done.code == 0, done.err
        live = count - 1 - kills
        assert list(_states(store).items()) == [
            (f"step-{step}", "live") for step in range(count - live, count)
        ]
        _require_nothing_to_spare(store)
        assert site.run("verify", "--full").code == 0
        _require_restorable(site, store)


def test_two_hosts_that_prune_at_once_leave_a_third_what_it_pushes(
    s3_site: Site, seaweedfs: S3Server
) -> None:
    primary = _ruled(s3_site, **_LEAN)
    pruners = [
        _ruled(replace(primary, home=primary.home.with_name(name)), standby=True)
        for name in ("pruner-1", "pruner-2")
    ]
    _push(primary, 0)
    over = threading.Event()
    done: list[Done] = []

    def pruning(site: Site) -> None:
        while not over.is_set():
            done.append(site.run("prune", "--orphans", "--json"))

    def hurrying(store: ObjectStore) -> None:
        while not over.wait(0.05):
            with suppress(PreconditionFailed):
                _let_a_day_pass(store)

    with closing(_store(primary, seaweedfs)) as store, ThreadPoolExecutor(3) as at_work:
        try:
            work = [at_work.submit(pruning, each) for each in pruners]
            work.append(at_work.submit(hurrying, store))
            until = time.monotonic() + 15.0
            step = 0
            while time.monotonic() < until:
                step += 1
                _push(primary, step)
        finally:
            over.set()
        for each in work:
            each.result()
        assert step > 3
        assert [each.err for each in done if each.code] == []
        assert sum(each.document["deleted_objects"] for each in done) > 0
        require_sound(store)
        verified = primary.run("verify", "--full")
        assert verified.code == 0, verified.out
        assert f"step-{step}" in _states(store)
        _require_restorable(primary, store)
