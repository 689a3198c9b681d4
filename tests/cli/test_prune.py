"""Pruning from the command line, and what it tells before and afterwards."""

import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from ckptsync.cli import previewing
from ckptsync.cli.commands.prune import lines
from ckptsync.model import CheckpointId
from ckptsync.operations.preview import Preview
from ckptsync.repository.head import Entry
from ckptsync.repository.retention import Listed, Plan, Policy, Verdict, Why
from tests.cli.buckets import LEAN, bucket, edit_entries, pushed, ruled, states
from tests.e2e.daemons import daemon
from tests.e2e.site import Site
from tests.pipelines import snapshot, write_tree

NOON: Final = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)
_IDLE: Final[Mapping[str, Any]] = {
    "pipeline": "orders",
    "bucket": "s3://acme",
    "retired": [],
    "revived": [],
    "forgotten": [],
    "kept": 12,
    "retired_now": 0,
    "bad_now": 0,
    "deleted_objects": 0,
    "deleted_bytes": 0,
    "listed": False,
    "orphans": None,
    "generation": None,
    "left_to_others": False,
    "put_off": False,
    "seconds": 0.84,
}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """With three checkpoints in its bucket, of which the rules now keep only the newest."""
    return ruled(pushed(tmp_path / "host-a", 3), **LEAN)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "nothing to prune in s3://acme: 12 checkpoints are kept"),
        ({"kept": 1}, "nothing to prune in s3://acme: 1 checkpoint is kept"),
        (
            {"retired_now": 1},
            "nothing to prune in s3://acme: 12 checkpoints are kept, 1 is retired",
        ),
        (
            {"retired_now": 2},
            "nothing to prune in s3://acme: 12 checkpoints are kept, 2 are retired",
        ),
        (
            {"kept": 1234, "retired_now": 1, "bad_now": 1},
            "nothing to prune in s3://acme: 1,234 checkpoints are kept, 1 is retired, "
            "1 is marked damaged (see --bad)",
        ),
        (
            {"bad_now": 2},
            "nothing to prune in s3://acme: 12 checkpoints are kept, "
            "2 are marked damaged (see --bad)",
        ),
        (
            {
                "retired": ["a", "b", "c"],
                "forgotten": ["d", "e"],
                "deleted_objects": 118,
                "deleted_bytes": 1_288_490_189,
            },
            "retired 3 checkpoints (they go in 1d unless kept), forgot 2, "
            "deleted 118 objects (1.2 GiB) from s3://acme, in 0.8 s",
        ),
        (
            {"retired": ["a"]},
            "retired 1 checkpoint (it goes in 1d unless kept) in s3://acme, in 0.8 s",
        ),
        (
            {"revived": ["a", "b"], "forgotten": ["c"]},
            "brought back 2 checkpoints, forgot 1 in s3://acme, in 0.8 s",
        ),
        (
            {"deleted_objects": 1, "deleted_bytes": 10},
            "deleted 1 object (10 B) from s3://acme, in 0.8 s",
        ),
        (
            {"deleted_objects": 40_000, "deleted_bytes": 10},
            "deleted 40,000 objects (10 B) from s3://acme, in 0.8 s",
        ),
    ],
)
def test_what_was_pruned_is_told_in_a_sentence(changes: Mapping[str, Any], told: str) -> None:
    assert list(lines({**_IDLE, **changes})) == [told]


@pytest.mark.parametrize(
    ("objects", "young", "told"),
    [
        (0, 0, "found nothing that no checkpoint refers to"),
        (1, 0, "found 1 object (4 KiB) that nothing refers to"),
        (
            5,
            2,
            "found 5 objects (4 KiB) that nothing refers to; "
            "2 more (1 MiB) are less than a day old, and stay for now",
        ),
        (
            0,
            1,
            "found nothing that no checkpoint refers to, but for "
            "1 object (1 MiB) less than a day old, which stays for now",
        ),
    ],
)
def test_what_a_look_through_the_bucket_found_is_told_besides(
    objects: int, young: int, told: str
) -> None:
    orphans = {
        "objects": objects,
        "bytes": objects and 4096,
        "young_objects": young,
        "young_bytes": young and 1 << 20,
    }

    assert list(lines({**_IDLE, "listed": True, "orphans": orphans}))[1:] == [told]


def _verdict(
    seq: int, state: str, why: Why, detail: str, *, retired: timedelta | None = None
) -> Verdict:
    listed = Listed(
        id=CheckpointId(f"0001-{seq:08x}-0123456789ab"),
        seq=seq,
        timeline=1,
        at=NOON - seq * HOUR,
        state=state,
        retired_at=None if retired is None else NOON - retired,
        engine_id=f"step-{seq}",
        bytes=2 << 30,
        new_bytes=1 << 30,
    )
    return Verdict(checkpoint=listed, keep=why is not Why.EXPIRED, why=why, detail=detail)


def _preview(*verdicts: Verdict, **plan: list[int]) -> Preview:
    ids = {verdict.checkpoint.seq: verdict.checkpoint.id for verdict in verdicts}

    def named(action: str) -> frozenset[CheckpointId]:
        return frozenset(ids[seq] for seq in plan.get(action, ()))

    return Preview(
        verdicts=verdicts,
        plan=Plan(retire=named("retire"), revive=named("revive"), forget=named("forget")),
        orphans=None,
        refusal=None,
        policy=Policy(min_count=1, min_age=timedelta(0)),
        now=NOON,
    )


def test_a_preview_says_of_each_checkpoint_what_becomes_of_it_and_why() -> None:
    found = _preview(
        _verdict(6, "live", Why.LATEST, "what a pull takes"),
        _verdict(5, "retired", Why.KEPT, "kept as 'mine'", retired=HOUR),
        _verdict(4, "live", Why.EXPIRED, "5 newer, 4h old"),
        _verdict(3, "retired", Why.EXPIRED, "5 newer, 3h old", retired=3 * HOUR),
        _verdict(2, "retired", Why.EXPIRED, "5 newer, 2h old", retired=25 * HOUR),
        _verdict(1, "bad", Why.BAD, "found damaged"),
        _verdict(0, "bad", Why.BAD, "found damaged"),
        retire=[4],
        revive=[5],
        forget=[2, 1],
    )

    heading, *rows, summary = previewing.lines(found)

    assert heading.split("  ")[0] == "CHECKPOINT"
    assert [row.split("GiB  ")[-1].split(maxsplit=2) for row in rows] == [
        ["live", "keep", "what a pull takes"],
        ["retired", "revive", "kept as 'mine'"],
        ["live", "retire", "5 newer, 4h old"],
        ["retired", "waits", "retired 3h ago, forgotten in 21h"],
        ["retired", "forget", "retired 1d1h ago"],
        ["bad", "forget", "found damaged"],
        ["bad", "keep", "found damaged"],
    ]
    assert summary == (
        "2 kept, 1 to be brought back, 1 to be retired, 2 to be forgotten now, "
        "1 retired and waiting"
    )


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (0, "1 kept"),
        (1, "1 kept, 1 to be retired"),
        (1234, "1 kept, 1,234 to be retired"),
    ],
)
def test_a_preview_ends_with_what_it_comes_to(count: int, told: str) -> None:
    latest = _verdict(9999, "live", Why.LATEST, "what a pull takes")
    others = [_verdict(seq, "live", Why.EXPIRED, "old") for seq in range(count, 0, -1)]

    *_, summary = previewing.lines(_preview(latest, *others, retire=[*range(1, count + 1)]))

    assert summary == told


def test_a_preview_of_no_checkpoint_is_no_table() -> None:
    assert list(previewing.lines(_preview())) == ["no checkpoints"]


def test_a_dry_run_shows_what_goes_and_changes_nothing(site: Site) -> None:
    before = snapshot(bucket(site))

    told, done = site.run("prune", "-n"), site.run("prune", "--dry-run", "--json")

    assert (told.code, told.err, done.code, done.err) == (0, "", 0, "")
    assert told.out.splitlines()[-1] == "1 kept, 2 to be retired"
    document = done.document
    assert set(document) == {
        "pipeline", "bucket", "policy", "checkpoints", "orphans", "refused",
    }  # fmt: skip
    assert document["orphans"] is None
    assert document["policy"] == {"min_count": 1, "min_age": "0s"}
    assert document["refused"] is None
    assert [
        (each["engine_id"], each["keep"], each["why"], each["action"])
        for each in document["checkpoints"]
    ] == [
        ("step-3", True, "latest", None),
        ("step-2", False, "expired", "retire"),
        ("step-1", False, "expired", "retire"),
    ]
    assert set(document["checkpoints"][0]) == {
        "id", "engine_id", "timeline", "at", "bytes", "new_bytes", "state", "retired_at", "keep",
        "why", "detail", "action",
    }  # fmt: skip
    assert snapshot(bucket(site)) == before


def test_what_no_rule_keeps_is_retired_and_a_day_later_deleted(site: Site) -> None:
    before = snapshot(bucket(site))

    retired = site.run("prune")
    after_retiring = states(site)
    idle = site.run("prune")
    edit_entries(site, _retired_a_day_ago)
    forgotten = site.run("prune", "--json")

    assert retired.out.startswith(
        f"retired 2 checkpoints (they go in 1d unless kept) in {site.buckets['orders']}, in "
    )
    assert after_retiring == {"step-1": "retired", "step-2": "retired", "step-3": "live"}
    assert idle.out.startswith("nothing to prune in ")
    assert idle.out.splitlines()[0].endswith(": 1 checkpoint is kept, 2 are retired")
    assert set(forgotten.document) == set(_IDLE)
    assert len(forgotten.document["forgotten"]) == 2
    assert forgotten.document["deleted_objects"] >= 4, "a manifest and a pack of each"
    assert states(site) == {"step-3": "live"}
    gone = before.keys() - snapshot(bucket(site)).keys()
    assert len(gone) == forgotten.document["deleted_objects"]
    assert site.run("verify", "--full").code == 0


def test_4_where_there_is_nothing_to_prune(site: Site) -> None:
    assert site.run("prune").code == 0

    idle, dry = (site.run("prune", "--error-if-none", *more) for more in ((), ("-n",)))

    where = site.buckets["orders"]
    assert (idle.code, idle.out, idle.err) == (
        4,
        "",
        f"error: there was nothing to prune in {where}: 1 checkpoint is kept, 2 are retired\n",
    )
    assert (dry.code, dry.err) == (4, f"error: there is nothing to prune in {where}\n")
    assert dry.out.splitlines()[-1] == "1 kept, 2 retired and waiting"
    actions = [each["action"] for each in site.run("prune", "-n", "--json").document["checkpoints"]]
    assert actions == [None, "wait", "wait"]


def test_rules_that_the_operator_changed_back_revive(site: Site) -> None:
    site.run("prune")
    ruled(site)

    revived = site.run("prune", "--json").document["revived"]

    assert len(revived) == 2
    assert set(states(site).values()) == {"live"}


def test_13_where_new_rules_would_let_much_go_until_somebody_insists(tmp_path: Path) -> None:
    site = ruled(pushed(tmp_path / "host-a", 22), **LEAN)

    dry, refused = site.run("prune", "-n", "--json"), site.run("prune", "--json")
    insisting = site.run("prune", "-n", "--yes", "--json")

    assert set(states(site).values()) == {"live"}
    assert (dry.code, refused.code) == (13, 13)
    assert dry.document["refused"] == dry.document["error"] == refused.document["error"]
    assert "21 checkpoints would go" in dry.document["refused"]["message"]
    assert len(dry.document["checkpoints"]) == 22
    assert (insisting.code, insisting.document["refused"]) == (0, None)
    assert len(site.run("prune", "--yes", "--json").document["retired"]) == 21


def test_a_look_through_the_bucket_finds_what_nobody_refers_to(site: Site) -> None:
    for name, days in (("a" * 32, 2), ("b" * 32, 0)):
        _orphan(site, f"chunks/{name[:2]}/{name}", b"left", days=days)

    done = site.run("prune", "--orphans")

    assert done.code == 0, done.err
    assert done.out.splitlines()[1] == (
        "found 1 object (4 B) that nothing refers to; "
        "1 more (4 B) is less than a day old, and stays for now"
    )
    chunks = {key for key in snapshot(bucket(site)) if key.startswith("chunks/")}
    assert chunks == {f"chunks/bb/{'b' * 32}"}


def test_a_damaged_one_is_only_forgotten_if_that_is_asked_for(site: Site) -> None:
    ruled(site)
    edit_entries(site, lambda entry: {"state": "bad"} if entry.engine_id == "step-1" else {})

    def actions(*more: str) -> list[tuple[str, bool, str | None]]:
        rows = site.run("prune", "-n", "--json", *more).document["checkpoints"]
        return [(each["why"], each["keep"], each["action"]) for each in rows]

    assert actions()[-1] == ("bad", True, None)
    assert actions("--bad")[-1] == ("bad", False, "forget")
    assert site.run("prune", "--error-if-none").code == 4
    assert len(site.run("prune", "--bad", "--json").document["forgotten"]) == 1
    assert list(states(site)) == ["step-2", "step-3"]


def _orphan(site: Site, key: str, data: bytes, *, days: int = 2) -> None:
    bucket(site).put(key, data)
    path = Path(site.buckets["orders"].removeprefix("file://"), key)
    os.utime(path, (time.time() - days * 86_400,) * 2)


def test_a_dry_run_sums_up_what_nobody_refers_to_and_deletes_nothing(site: Site) -> None:
    ruled(site)
    _orphan(site, f"chunks/aa/{'a' * 32}", b"left")
    before = snapshot(bucket(site))

    told = site.run("prune", "-n", "--orphans", "--error-if-none")
    document = site.run("prune", "-n", "--orphans", "--json").document

    assert told.code == 0, told.err
    assert told.out.splitlines()[0] == "found 1 object (4 B) that nothing refers to"
    assert told.out.splitlines()[-1] == "3 kept"
    assert document["orphans"] == {
        "objects": 1, "bytes": 4, "young_objects": 0, "young_bytes": 0,
    }  # fmt: skip
    assert snapshot(bucket(site)) == before


def test_a_dry_run_shows_what_is_refused_until_somebody_insists(site: Site) -> None:
    _orphan(site, f"chunks/aa/{'a' * 32}", b"left" * 1_000_000)

    dry = site.run("prune", "-n", "--orphans", "--json")
    refused = site.run("prune", "--orphans", "--json")
    insisting = site.run("prune", "-n", "--orphans", "--yes", "--json")

    assert (dry.code, refused.code, insisting.code) == (13, 13, 0)
    assert dry.document["refused"] == refused.document["error"]
    assert dry.document["orphans"]["bytes"] == 4_000_000
    assert insisting.document["refused"] is None


def test_a_dry_run_ends_as_the_prune_would_of_a_node_that_was_displaced(
    site: Site, tmp_path: Path
) -> None:
    shared = Path(site.buckets["orders"].removeprefix("file://"))
    other = Site.on_disk(tmp_path / "host-b", bucket=shared, layout="directory")
    other.storage().mkdir(parents=True)
    assert other.run("activate", "--force", "--engine-stopped", "--yes").code == 0
    assert site.run("prune", "-n").code == 11, "although it has not noticed yet"
    assert site.run("push").code == 11

    dry, insisting = (site.run("prune", "-n", *more, "--json") for more in ((), ("--yes",)))
    refused = site.run("prune", "--json")

    assert (dry.code, insisting.code, refused.code) == (11, 11, 11)
    assert dry.document["refused"] == insisting.document["refused"] == refused.document["error"]
    assert len(dry.document["checkpoints"]) == 3


def test_an_empty_bucket_is_nothing_to_prune(tmp_path: Path) -> None:
    site = Site.on_disk(tmp_path / "host-a")

    done, dry = site.run("prune"), site.run("prune", "-n")
    codes = [site.run("prune", *more, "--error-if-none").code for more in ((), ("-n",))]

    assert (done.code, dry.code, codes) == (0, 0, [4, 4])
    assert dry.out == "no checkpoints\n"


def test_a_standby_that_never_ran_prunes_for_the_primary(site: Site, tmp_path: Path) -> None:
    """So a primary need not be allowed to delete."""
    shared = Path(site.buckets["orders"].removeprefix("file://"))
    pruner = Site.on_disk(
        tmp_path / "pruner", bucket=shared, layout="directory", sync={**LEAN, "standby": True}
    )

    retired = pruner.run("prune", "--json")
    edit_entries(site, _retired_a_day_ago)
    forgotten = pruner.run("prune", "--json")

    assert len(retired.document["retired"]) == 2, retired.err
    assert len(forgotten.document["forgotten"]) == 2
    assert forgotten.document["deleted_objects"] >= 4
    write_tree(site.storage() / "step-4", {"n": b"4"})
    assert site.run("push").code == 0, "the primary is still the writer"
    assert site.run("verify", "--full").code == 0


def test_a_daemon_prunes_as_the_command_does(site: Site) -> None:
    with daemon(site):
        dry = site.run("prune", "-n", "--json")
        done = site.run("prune", "--json")

    assert (dry.code, done.code) == (0, 0), done.err
    assert set(done.document) == set(_IDLE)
    assert states(site) == {"step-1": "retired", "step-2": "retired", "step-3": "live"}


def _retired_a_day_ago(entry: Entry) -> Mapping[str, Any]:
    if entry.retired_at is None:
        return {}
    return {"retired_at": entry.retired_at - timedelta(hours=25)}


def role_of(site: Site) -> str:
    (status,) = site.run("status", "--json").document["pipelines"]
    return str(status["role"]["role"])


@pytest.mark.parametrize("command", [("prune",), ("keep", "latest"), ("unkeep", "x"), ("push",)])
def test_a_node_that_a_lost_head_stopped_goes_on_once_it_is_back(
    site: Site, command: tuple[str, ...]
) -> None:
    head = Path(site.buckets["orders"].removeprefix("file://")) / "head.json"
    away = head.rename(head.with_suffix(".away"))
    assert site.run("prune").code == 12
    assert role_of(site) == "stopped"

    away.rename(head)

    assert site.run(*command).code == 0
    assert role_of(site) == "primary"
