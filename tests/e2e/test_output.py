"""What is printed: the keys that scripts rely on, and nothing where nothing belongs."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import pytest

from tests.e2e.site import Site
from tests.e2e.terminal import terminal
from tests.fakes.feldera_engine import Engine
from tests.pipelines import noise, write_tree
from tests.servers import free_ports

_CHECKPOINT: Final = {
    "id", "engine_id", "step", "records", "timeline", "epoch", "at", "bytes", "new_bytes", "state",
}  # fmt: skip
_RUN: Final = {"outcome", "started_at", "finished_at", "error", "details"}
_KEYS: Final[Mapping[tuple[str, ...], set[str]]] = {
    ("push",): {"pipeline", "bucket", "checkpoint", "already_synced", "files", "seconds"},
    ("pull",): {
        "pipeline", "outcome", "checkpoint", "source", "target", "fetched_bytes", "seconds",
        "searched",
    },
    ("list",): {"pipeline", "storage_path", "bucket", "checkpoints"},
    ("show", "latest"): {"pipeline", "bucket", "checkpoint"},
    ("show", "latest", "--files"): {"pipeline", "bucket", "checkpoint", "files"},
    ("status",): {"pipelines"},
    ("verify",): {
        "pipeline", "bucket", "sound", "checkpoints", "problems", "objects", "checked_bytes",
        "seconds",
    },
    ("doctor",): {"pipelines"},
    ("prune",): {
        "pipeline", "bucket", "retired", "revived", "forgotten", "kept", "retired_now",
        "bad_now", "deleted_objects", "deleted_bytes", "listed", "orphans", "generation",
        "left_to_others", "put_off", "seconds",
    },
    ("prune", "-n"): {"pipeline", "bucket", "policy", "checkpoints", "orphans", "refused"},
    ("keep", "latest"): {"pipeline", "bucket", "name", "checkpoint", "until", "already", "revived"},
    ("unkeep", "mine"): {"pipeline", "bucket", "name", "checkpoint", "already"},
    ("config", "check"): {"config", "pipelines", "notes", "steady_state"},
    ("config", "example"): {"toml"},
}  # fmt: skip


@pytest.mark.parametrize("command", _KEYS, ids=" ".join)
def test_the_json_of_a_command_has_its_keys(site: Site, command: tuple[str, ...]) -> None:
    _push_one(site)

    done = site.run(*command, "--json")

    assert (done.code, done.err) == (0, "")
    assert set(done.document) == _KEYS[command]


def test_a_checkpoint_has_the_same_keys_wherever_it_is_told_of(site: Site) -> None:
    _push_one(site)
    with Engine(site.storage()) as engine:
        engine.checkpoint()
    local, pushed = site.run("list", "--json").document["checkpoints"]
    (verified,) = site.run("verify", "--json").document["checkpoints"]
    shown = site.run("show", "latest", "--json").document["checkpoint"]
    kept = site.run("pull", "--json").document["checkpoint"]
    (status,) = site.run("status", "--json").document["pipelines"]

    assert local["bytes"] > 0
    assert set(local) == set(pushed) == _CHECKPOINT | {"where", "latest", "keeps", "retired_at"}
    assert set(verified) == _CHECKPOINT | {"sound", "problems"}
    assert shown.keys() > _CHECKPOINT
    assert set(kept) == _CHECKPOINT
    assert set(status["latest"]) == set(status["newest_local"]) == _CHECKPOINT
    assert [set(each) for each in status["unpushed"]] == [_CHECKPOINT]
    assert set(status["last_push"]) == set(status["last_pull"]) == _RUN
    assert set(status["last_push"]["details"]["checkpoint"]) == _CHECKPOINT


def test_status_tells_what_the_bucket_would_restore_and_what_it_lacks(site: Site) -> None:
    pushed = _push_one(site)
    with Engine(site.storage()) as engine:
        newer = engine.checkpoint()

    (status,) = site.run("status", "--json").document["pipelines"]

    assert status["reachable"] is True
    assert status["problem"] is None
    assert status["head"]["writer"]["this_node"] is True
    assert status["head"]["checkpoints"] == 1
    assert status["latest"]["engine_id"] == pushed
    assert 0 <= status["recovery_point_age_seconds"] < 3600
    assert [each["engine_id"] for each in status["unpushed"]] == [newer]
    assert status["newest_local"]["engine_id"] == newer
    assert status["last_push"]["outcome"] == "done"
    assert status["last_pull"] is None
    assert status["probe"]["fences"] is True


def test_status_of_every_pipeline_does_not_stop_at_one_that_fails(site: Site) -> None:
    _push_one(site)
    both = replace(
        site,
        buckets={"broken": "s3://bucket/broken", **site.buckets},
        sync={"secret_key_file": "/nonesuch", "access_key": "a"},
    )
    both.write_config()

    done = both.run("status", "--json")

    broken, orders = done.document["pipelines"]
    assert done.code == 2
    assert broken["problem"]["kind"] == "ConfigError"
    assert broken["reachable"] is False
    assert "/nonesuch" in broken["problem"]["message"]
    assert orders["head"]["checkpoints"] == 1


def test_list_shows_local_and_stored_side_by_side(site: Site) -> None:
    _push_one(site)
    with Engine(site.storage()) as engine:
        engine.checkpoint()

    def where(*options: str) -> list[tuple[str, bool]]:
        rows = site.run("list", "--json", *options).document["checkpoints"]
        assert all(datetime.fromisoformat(row["at"]).tzinfo for row in rows)
        return [(row["where"], row["latest"]) for row in rows]

    assert where() == where("--local", "--remote") == [("local", False), ("both", True)]
    assert where("--remote") == [("bucket", True)]
    assert where("--local") == [("local", False), ("local", False)]


def test_list_for_people_is_a_table_whose_ids_can_be_copied(site: Site) -> None:
    id = _push_one(site)

    lines = site.run("list").out.splitlines()

    assert lines[0].split()[:4] == ["CHECKPOINT", "ENGINE", "ID", "STEP"]
    assert len(lines) == 2
    assert id in lines[1]
    assert lines[1].endswith("both   live, latest")
    assert site.run("list", "--remote").out.count(id) == 1


def test_list_and_show_tell_what_keeps_a_checkpoint(site: Site) -> None:
    _push_one(site)
    for options in (("--name", "drill", "--until", "2999-01-31"), ("--name", "audit")):
        assert site.run("keep", "latest", *options).code == 0

    listed, shown = site.run("list"), site.run("show", "latest")
    (row,) = site.run("list", "--json").document["checkpoints"]
    document = site.run("show", "latest", "--json").document["checkpoint"]

    state = "live, latest, kept as audit, drill (until 2999-01-31 23:59:59 UTC)"
    assert listed.out.splitlines()[1].endswith(state)
    assert state in shown.out
    assert row["keeps"] == document["keeps"] == ["audit", "drill"]
    assert row["retired_at"] is document["retired_at"] is None


def test_show_lists_every_file(site: Site) -> None:
    site = replace(site, layout="directory")
    write_tree(site.storage() / "step-1", {"a": b"1", "b/c": noise(5 << 20), "empty": b""})
    site.run("push")

    files = site.run("show", "step-1", "--files", "--json").document["files"]

    assert [(file["path"], file["bytes"]) for file in files] == [
        ("step-1/a", 1),
        ("step-1/b/c", 5 << 20),
        ("step-1/empty", 0),
    ]
    assert set(files[0]) == {"path", "bytes", "mode", "mtime_ns", "digest"}
    assert "step-1/b/c" in site.run("show", "step-1", "--files").out


def test_names_cannot_steer_the_terminal(site: Site) -> None:
    site = replace(site, layout="directory")
    write_tree(site.storage() / "step-1", {"\x1b[31mred\nline": b"1"})
    pushed = site.run("push")
    shown = site.run("show", "latest", "--files")

    assert "\x1b" not in pushed.out + pushed.err + shown.out
    assert "\\x1b[31mred\\x0aline" in shown.out


def test_a_pipeline_is_named_where_there_are_several(site: Site) -> None:
    two = replace(site, buckets={**site.buckets, "payments": f"file://{site.home}/payments"})
    (site.home / "payments").mkdir()
    with Engine(two.storage("payments")) as engine:
        engine.checkpoint()

    unnamed, named = two.run("push"), two.run("push", "payments", "--json")

    assert unnamed.code == 2
    assert "name one of orders, payments" in unnamed.err
    assert named.document["pipeline"] == "payments"
    assert len(two.run("status", "--json").document["pipelines"]) == 2


def test_every_option_can_come_from_the_environment(site: Site) -> None:
    _push_one(site)
    to = site.home / "to"

    done = site.run("pull", environment={"CKPTSYNC_PULL_TO": str(to), "CKPTSYNC_PULL_JSON": "1"})

    assert done.document["target"] == str(to)


def test_a_pull_takes_what_the_configuration_says(site: Site) -> None:
    site = replace(site, layout="directory")
    for step in (1, 2):
        write_tree(site.storage() / f"step-{step}", {"n": str(step).encode()})
        site.run("push")
    replace(site, sync={"start_from_checkpoint": "step-1"}).write_config()

    configured = site.run("pull", "--json").document
    asked = site.run("pull", "--to", str(site.home / "a"), "--json").document
    named = site.run("pull", "--checkpoint", "latest", "--to", str(site.home / "b"), "--json")

    assert (configured["outcome"], configured["checkpoint"]["engine_id"]) == ("kept", "step-1")
    assert (asked["outcome"], asked["checkpoint"]["engine_id"]) == ("pulled", "step-1")
    assert named.document["checkpoint"]["engine_id"] == "step-2"


def test_logs_are_for_those_who_ask(site: Site) -> None:
    with Engine(site.storage()) as engine:
        engine.checkpoint()
    quiet = site.run("list")
    verbose = site.run("-v", "push")
    as_json = site.run("--json-logs", "--log-level", "info", "pull", "--to", str(site.home / "to"))

    assert quiet.err == ""
    assert "checkpoint.committed" in verbose.err
    assert '"event": "checkpoint.pulled"' in as_json.err
    assert '"pipeline": "orders"' in as_json.err


def test_a_bar_is_drawn_on_a_terminal_only(site: Site) -> None:
    with Engine(site.storage()) as engine:
        engine.checkpoint()
    with terminal() as screen, site.start("push", stderr=screen.descriptor) as run:
        done = run.done()

    assert "push orders" in screen.text
    assert done.out.startswith("pushed ")
    assert site.run("pull", "--to", str(site.home / "to")).err == ""


def test_a_feldera_configuration_is_translated_and_then_valid(site: Site) -> None:
    site.home.mkdir(exist_ok=True)
    source = site.home / "feldera.json"
    source.write_text(
        """{"name": "orders", "runtime_config": {"workers": 8, "storage": {"backend":
        {"name": "file", "config": {"sync": {"bucket": "dr/orders", "checkers": 4,
        "access_key": "AKIA", "secret_key": "do-not-tell"}}}}}}"""
    )
    guarded = replace(site, secret="do-not-tell")

    lacking = guarded.run("config", "import", str(source))
    done = guarded.run("config", "import", str(source), "--storage-path", "/srv/orders")
    as_json = guarded.run(
        "config", "import", str(source), "--storage-path", "/srv/orders", "--json"
    ).document

    assert lacking.code == 2
    assert "--storage-path DIR" in lacking.err
    assert done.code == 0
    assert tomllib.loads(done.out)["pipelines"]["orders"]["sync"]["bucket"] == "dr/orders"
    assert "ignored: workers is the engine's own" in done.err
    assert "ignored: sync.checkers steers rclone" in done.err
    assert "warning: put the secret key into" in done.err
    assert set(as_json) == {"toml", "ignored", "warnings"}
    assert {each["setting"] for each in as_json["ignored"]} >= {"workers", "sync.checkers"}
    (site.home / "key").write_text("do-not-tell")
    site.config.write_text(
        re.sub('secret_key_file = ".*"', f'secret_key_file = "{site.home}/key"', done.out)
    )
    assert guarded.run("config", "check").code == 0


def test_the_example_is_a_valid_configuration(site: Site) -> None:
    site.home.mkdir(exist_ok=True)
    site.config.write_text(site.run("config", "example").out)

    done = site.run("config", "check")

    assert done.code == 0
    assert "is valid; pipelines: orders" in done.out


def test_doctor_finds_a_healthy_pipeline_healthy_and_an_ill_one_ill(
    any_site: Site,
) -> None:
    _push_one(any_site)
    healthy = any_site.run("doctor", "--json")
    ill = replace(any_site, buckets={"orders": "file:///nonesuch"})
    ill.write_config()
    told, as_json = ill.run("doctor"), ill.run("doctor", "--json").document

    assert healthy.code == 0
    assert {finding["verdict"] for finding in _findings(healthy.document)} <= {"ok", "warning"}
    assert told.code == 10
    assert "failed" in told.out
    assert told.err == "error: 1 check failed: bucket\n"
    assert (as_json["error"]["kind"], as_json["error"]["exit_code"]) == ("BucketNotFound", 10)


def test_doctor_examines_every_pipeline_and_stops_at_none(site: Site) -> None:
    _push_one(site)
    both = replace(
        site,
        buckets={"broken": "s3://bucket/broken", **site.buckets},
        sync={"secret_key_file": "/nonesuch", "access_key": "a"},
    )
    both.write_config()

    told, done = both.run("doctor"), both.run("doctor", "--json")

    broken, orders = done.document["pipelines"]
    assert told.code == done.code == 2
    assert [each["what"] for each in broken["findings"]] == ["configuration"]
    assert "secret_key_file: /nonesuch" in broken["findings"][0]["detail"]
    assert len(orders["findings"]) > 10
    assert told.out.splitlines()[0] == "broken"
    assert "\norders\n" in told.out
    assert told.err == "error: 1 check failed: broken: configuration\n"


def test_what_lies_in_read_bucket_is_not_shown_as_pushed(site: Site) -> None:
    id = _push_one(site)
    seeded = _with_an_empty_bucket(site)

    rows = seeded.run("list", "--json").document["checkpoints"]

    assert [(row["where"], row["engine_id"], row["latest"]) for row in rows] == [
        ("local", id, False),
        ("read_bucket", id, True),
    ]
    assert seeded.run("list").out.splitlines()[2].endswith("read_bucket  live, latest")


def test_local_checkpoints_have_a_size(site: Site) -> None:
    site = replace(site, layout="directory")
    write_tree(site.storage() / "step-1", {"a": b"1", "b/c": noise(5000), "empty": b""})

    (row,) = site.run("list", "--json").document["checkpoints"]

    assert (row["where"], row["bytes"], row["new_bytes"]) == ("local", 5001, None)
    assert " 4.9 KiB " in site.run("list").out


def test_a_bucket_of_another_pipeline_is_warned_of_in_a_sentence(site: Site) -> None:
    _push_one(site)
    other = replace(
        site, home=site.home.with_name("host-b"), buckets={"payments": site.buckets["orders"]}
    )
    warned = f"warning: {site.buckets['orders']} belongs to pipeline 'orders', not to this one\n"

    for command in (("list",), ("show", "latest"), ("verify",), ("pull", "--to", "to")):
        to = [str(site.home / each) if each == "to" else each for each in command]
        done = other.run(*to)
        assert (done.code, done.err) == (0, warned), command
    as_json = other.run("--json-logs", "list").err
    assert '"event": "repository.foreign"' in as_json


def test_a_store_that_is_away_is_told_of_once_and_not_at_each_try(site: Site) -> None:
    (port,) = free_ports(1)
    away = replace(
        site,
        buckets={"orders": "s3://bucket/orders"},
        sync={"endpoint": f"http://127.0.0.1:{port}", "access_key": "a", "secret_key": "hidden!"},
        secret="hidden!",
    )

    lines = away.run("list").err.splitlines()

    assert [line.partition(":")[0] for line in lines if not line.startswith("try: ")] == [
        "warning",
        "error",
    ]
    assert lines[0].endswith("; trying again")


def test_status_tells_what_a_run_came_to(site: Site) -> None:
    empty = replace(site, home=site.home.with_name("host-b"))
    empty.storage().parent.mkdir(parents=True)
    empty.run("pull")
    id = _push_one(site)
    site.run("push")
    site.run("pull")
    kept, found_none = site.run("status").out, empty.run("status").out
    empty.run("pull")
    pulled = empty.run("status").out

    assert re.search(r"last pull +done .*: found no checkpoint, changed nothing\n", found_none)
    assert re.search(rf"last pull +done .*: kept local checkpoint {id}\n", kept)
    assert re.search(r"last push +done .*: 0001-\S+ was there already\n", kept)
    assert re.search(rf"last pull +done .*: 0001-\S+ to {empty.storage()}\n", pulled)


def _findings(document: Any) -> list[Any]:
    return [finding for each in document["pipelines"] for finding in each["findings"]]


def _with_an_empty_bucket(site: Site) -> Site:
    """The same host, to which the bucket it pushed to is a read_bucket now."""
    empty = site.home / "empty"
    empty.mkdir()
    seeded = replace(
        site,
        buckets={"orders": f"file://{empty}"},
        sync={"read_bucket": site.buckets["orders"]},
    )
    seeded.write_config()
    return seeded


def _push_one(site: Site) -> str:
    with Engine(site.storage()) as engine:
        id = engine.checkpoint()
    done: Any = site.run("push")
    assert done.code == 0, done.err
    return id
