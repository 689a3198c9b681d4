"""Every exit code that a script can meet, provoked for real."""

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ckptsync.state.lock import PipelineLock, lock_path
from tests.e2e.site import Site
from tests.fakes.feldera_engine import Engine
from tests.pipelines import noise, write_tree
from tests.servers import S3Server, free_ports


def test_0_when_there_is_nothing_left_to_push(site: Site) -> None:
    _push_one(site)

    done = site.run("push")

    assert done.code == 0
    assert done.out.startswith("already synced: ")


def test_4_when_there_is_nothing_left_to_push_and_a_script_wants_to_know(site: Site) -> None:
    _push_one(site)

    done = site.run("push", "--error-if-none", "--json")

    assert done.code == 4
    assert done.document["already_synced"] is True
    assert done.document["error"]["kind"] == "NothingToDo"


def test_0_or_4_when_there_is_nothing_to_pull(site: Site) -> None:
    told, asked = site.run("pull"), site.run("pull", "--error-if-none", "--json")

    assert told.code == 0
    assert told.out.startswith(f"no checkpoint found in file://{site.home}/bucket")
    assert asked.code == 4
    assert asked.document["outcome"] == "fresh"
    assert asked.document["searched"] == [f"file://{site.home}/bucket"]
    assert not site.storage().exists()


def test_0_when_a_local_checkpoint_is_kept(site: Site) -> None:
    id = _push_one(site)

    done = site.run("pull", "--json")

    assert done.code == 0
    assert done.document["outcome"] == "kept"
    assert done.document["checkpoint"]["engine_id"] == id
    assert "ckptsync pull orders --checkpoint latest" in site.run("pull").out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Missing command"),
        (("config",), "Missing command"),
        (("psuh",), "there is no command 'psuh'; did you mean 'push'?"),
        (("push", "--jsno"), "No such option"),
        (("push", "ordres"), "has no pipeline 'ordres'"),
        (("show",), "Missing argument"),
        (("verify", "--manifest", "x"), "--manifest goes with --directory"),
        (("verify", "--directory", "x", "--full"), "--directory goes without"),
        (("--log-level", "loud", "list"), "'loud' is not one of"),
        (("-c", "/nowhere/config.toml", "list"), "/nowhere/config.toml does not exist"),
    ],
)
def test_2_for_a_command_line_that_is_wrong(
    site: Site, arguments: Sequence[str], says: str
) -> None:
    done = site.run(*arguments)

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert says in done.err


def test_2_for_a_configuration_that_is_wrong(site: Site) -> None:
    site = replace(site, sync={"bukcet": "x", "transfers": 0})

    done = site.run("push", "--json")

    assert done.code == 2
    assert "did you mean 'bucket'?" in done.err
    assert "transfers = 0" in done.document["error"]["message"]


@pytest.mark.parametrize(
    ("bucket", "advice"), [("gs://b/p", "'ckptsync doctor' tells"), ("az://b/p", "gateway")]
)
def test_2_for_a_store_that_this_version_does_not_reach(
    site: Site, bucket: str, advice: str
) -> None:
    site = replace(site, buckets={"orders": bucket})

    for arguments in (("push",), ("config", "check")):
        done = site.run(*arguments)
        assert done.code == 2
        assert f"pipelines.orders.sync.bucket = '{bucket}': is not reached" in done.err
        assert advice in done.err


def test_2_for_every_mistake_at_once_whoever_knows_of_it(site: Site) -> None:
    site.home.mkdir(exist_ok=True)
    site.config.write_text(
        """
        [pipelines.orders]
        storage_path = "/srv/orders"
        layout = "fedlera"
        sync = { bucket = "gs://dr/orders", transfers = 0 }
        [pipelines.clicks]
        storage_path = "/srv/clicks"
        [pipelines.clicks.sync]
        bucket = "s3://dr/clicks"
        read_bucket = "az://seed/clicks"
        access_key = "A"
        secret_key_file = "/nonesuch/key"
        """
    )

    done = site.run("config", "check", "--json")

    error = done.document["error"]
    assert (done.code, error["kind"]) == (2, "ConfigError")
    assert sorted(each.partition(":")[0].partition(" =")[0] for each in error["problems"]) == [
        "pipelines.clicks.sync.read_bucket",
        "pipelines.clicks.sync.secret_key_file",
        "pipelines.orders.layout",
        "pipelines.orders.sync.bucket",
        "pipelines.orders.sync.transfers",
    ]
    assert all(each in error["message"] for each in error["problems"])
    assert "did you mean 'feldera'?" in done.err
    assert "/nonesuch/key, which should hold a secret, does not exist" in done.err


def test_2_for_another_pipelines_bucket(site: Site) -> None:
    _push_one(site)
    other = replace(
        site, home=site.home.with_name("host-b"), buckets={"payments": site.buckets["orders"]}
    )
    _checkpoint(other, "payments")

    done = other.run("push")

    assert done.code == 2
    assert "belongs to pipeline 'orders', not to 'payments'" in done.err


def test_5_while_another_process_is_at_work(site: Site) -> None:
    _push_one(site)
    with PipelineLock(lock_path(site.state, "orders")):
        push, pull = site.run("push", "--json"), site.run("pull")
        elsewhere = site.run("pull", "--to", str(site.home / "to"))

    assert push.code == pull.code == 5
    assert push.document["error"]["kind"] == "Busy"
    assert elsewhere.code == 0, "restoring elsewhere disturbs nobody"


def test_5_for_a_push_to_a_store_that_is_away_and_16_for_its_status(site: Site) -> None:
    away = _away(site)
    _checkpoint(away)

    pushed, status = away.run("push"), away.run("status", "--json")

    assert pushed.code == 5
    assert away.run("doctor").code == 5
    assert pushed.err.splitlines()[-1].startswith("error: s3://bucket/orders: cannot ")
    assert status.code == 16
    (pipeline,) = status.document["pipelines"]
    assert pipeline["reachable"] is False
    assert pipeline["problem"]["kind"] == status.document["error"]["kind"] == "CannotTell"
    assert pipeline["unpushed"] is None
    assert pipeline["last_push"]["outcome"] == "failed"
    assert pipeline["last_push"]["error"]["kind"] == "Unavailable"
    assert "unknown: s3://bucket/orders" in away.run("status").out


def test_5_for_a_pull_from_a_store_that_is_away_and_never_a_fresh_start(site: Site) -> None:
    done = _away(site).run("pull", "--json")

    assert done.code == 5
    assert done.document["error"]["exit_code"] == 5
    assert "outcome" not in done.document


def test_10_for_a_checkpoint_that_is_not_there(site: Site) -> None:
    strict = replace(site, sync={"fail_if_no_checkpoint": True})
    empty = strict.run("pull")
    _push_one(strict)

    assert empty.code == 10
    assert "checkpoint not found" in empty.err
    for arguments in (
        ("pull", "--checkpoint", "nonesuch"),
        ("show", "nonesuch"),
        ("push", "--checkpoint", "nonesuch"),
        ("verify", "--checkpoint", "nonesuch"),
    ):
        done = strict.run(*arguments, "--json")
        assert (done.code, done.document["error"]["kind"]) == (10, "CheckpointNotFound")


def test_10_for_a_bucket_that_is_not_there(site: Site, s3_site: Site) -> None:
    shutil.rmtree(site.home / "bucket")
    _checkpoint(site)
    s3 = replace(s3_site, buckets={"orders": "s3://nonesuch/orders"})
    _checkpoint(s3)

    for each in (site, s3):
        for command in ("push", "list", "status"):
            done = each.run(command, "--json")
            assert (done.code, done.document["error"]["kind"]) == (10, "BucketNotFound")


def test_11_for_a_host_that_is_not_the_writer(site: Site) -> None:
    _push_one(site)
    other = replace(site, home=site.home.with_name("host-b"))
    _checkpoint(other)

    done = other.run("push")

    assert done.code == 11
    assert "is written by node 'host-a'" in done.err
    (seen,) = other.run("status", "--json").document["pipelines"]
    assert seen["head"]["writer"] == {
        **seen["head"]["writer"],
        "node": "host-a",
        "this_node": False,
    }


def test_11_for_a_bucket_that_went_back_in_time(site: Site) -> None:
    _push_one(site)
    old = (site.home / "bucket" / "head.json").read_bytes()
    _push_one(site)
    (site.home / "bucket" / "head.json").write_bytes(old)

    push, status = site.run("push"), site.run("status")

    assert push.code == status.code == site.run("doctor").code == 11
    assert "went back in time" in push.err
    assert "not to be trusted" in status.out


def test_12_for_a_byte_that_flipped_in_the_bucket(site: Site) -> None:
    site = replace(site, layout="directory")
    write_tree(site.storage() / "step-1", {"weights": noise(1 << 20)})
    site.run("push")
    (chunk,) = (site.home / "bucket" / "chunks").glob("*/*")
    data = bytearray(chunk.read_bytes())
    data[1000] ^= 1
    chunk.write_bytes(data)
    to = site.home / "to"

    pulled, quick, full = (
        site.run("pull", "--to", str(to)),
        site.run("verify"),
        site.run("verify", "--full", "--json"),
    )

    assert pulled.code == 12
    assert not to.exists()
    assert quick.code == 0, "only --full reads the bytes"
    assert full.code == 12
    (verified,) = full.document["checkpoints"]
    assert [problem["key"] for problem in verified["problems"]] == [f"chunks/{_key(chunk)}"]


def test_12_for_an_object_that_is_gone(site: Site) -> None:
    _push_one(site)
    (pack, *_) = (site.home / "bucket" / "packs").glob("*/*")
    pack.unlink()

    done = site.run("verify")

    assert done.code == 12
    assert f"packs/{_key(pack)}" in done.out
    assert done.err.startswith("error: ")


def test_12_for_a_head_that_is_lost_and_never_a_fresh_start(site: Site) -> None:
    _push_one(site)
    (site.home / "bucket" / "head.json").unlink()
    shutil.rmtree(site.storage())

    for command in ("pull", "list", "status", "verify"):
        done = site.run(command, "--json")
        assert (done.code, done.document["error"]["kind"]) == (12, "HeadLost"), command


def test_12_for_a_bucket_that_was_emptied(site: Site) -> None:
    _push_one(site)
    _checkpoint(site)
    shutil.rmtree(site.home / "bucket")
    (site.home / "bucket").mkdir()

    for command in (("push",), ("list",), ("status",), ("verify",), ("show", "latest")):
        done = site.run(*command, "--json")
        assert (done.code, done.document["error"]["kind"]) == (12, "HeadLost"), command
    assert site.run("doctor", "--json").document["error"]["kind"] == "HeadLost"
    assert "holds no checkpoint" not in site.run("status").out


def test_13_for_a_checkpoint_that_no_bucket_has(site: Site) -> None:
    _push_one(site)
    _checkpoint(site)

    refused = site.run("pull", "--checkpoint", "latest")
    forced = site.run("pull", "--checkpoint", "latest", "--force")

    assert refused.code == 13
    assert "'ckptsync push' first, or pull with --force" in refused.err
    assert forced.code == 0


def test_13_for_another_life_of_the_engine(site: Site) -> None:
    for _ in range(3):
        _push_one(site)
    shutil.rmtree(site.storage())
    _checkpoint(site)

    refused, insisted = site.run("push"), site.run("push", "--new-timeline", "--json")

    assert refused.code == 13
    assert insisted.code == 0
    assert insisted.document["checkpoint"]["timeline"] == 2


@pytest.mark.parametrize(
    ("hook", "code", "says"),
    [
        (("true",), 13, "an engine is running"),
        (("false",), 0, "pulled "),
        (("sh", "-c", "exit 3"), 0, "pulled "),
        (("sh", "-c", "exit 2"), 16, "exited with 2"),
        (("sh", "-c", "kill -9 $$"), 16, "was ended by signal 9"),
        (("nonesuch",), 16, "could not be run"),
        (None, 13, "--engine-stopped"),
    ],
)
def test_the_hook_says_whether_the_engine_runs(
    site: Site, hook: tuple[str, ...] | None, code: int, says: str
) -> None:
    site = replace(site, layout="directory", hook=hook)
    write_tree(site.storage() / "step-1", {"n": b"1"})
    site.run("push")
    shutil.rmtree(site.storage())

    done = site.run("pull")

    assert done.code == code
    assert says in done.out + done.err


def test_14_for_a_key_that_the_store_does_not_know(tmp_path: Path, seaweedfs: S3Server) -> None:
    site = Site.on_s3(tmp_path / "host-a", seaweedfs, "wrong", secret="not-the-right-key")
    _checkpoint(site)

    for command in ("push", "list", "status"):
        done = site.run(command, "--json")
        assert (done.code, done.document["error"]["kind"]) == (14, "AccessDenied")
    assert site.run("doctor").code == 14


def test_14_for_a_push_without_a_state_directory_and_0_for_who_only_reads(site: Site) -> None:
    id = _push_one(site)
    shutil.rmtree(site.state)
    site.state.write_text("no directory")
    _checkpoint(site)
    to = site.home / "to"

    for reading in ("list", "show latest", "verify", f"pull --to {to}"):
        done = site.run(*reading.split())
        assert done.code == 0, reading
        assert done.err.startswith("warning: going on without what this host remembers")
        assert str(site.state) in done.err
        assert id in done.out or reading == "verify"
    assert to.is_dir()
    for writing in ("push", "pull --checkpoint latest --force"):
        assert site.run(*writing.split()).code == 14, writing
    doctor = site.run("doctor", "--json")
    (examined,) = doctor.document["pipelines"]
    assert doctor.code == 14
    assert [each["what"] for each in examined["findings"] if each["verdict"] == "failed"] == [
        "state"
    ]


def test_12_for_a_push_with_a_damaged_database_and_0_for_who_only_reads(site: Site) -> None:
    _push_one(site)
    (database,) = (site.state / "orders").glob("*.sqlite")
    database.write_bytes(b"scribbled over" * 1000)

    assert site.run("push").code == 12
    listed = site.run("list", "--json")
    assert listed.code == 0
    assert [row["where"] for row in listed.document["checkpoints"]] == ["both"]
    assert str(database) in listed.err


def test_16_for_the_status_of_a_storage_or_state_that_cannot_be_read(site: Site) -> None:
    id = _push_one(site)
    (database,) = (site.state / "orders").glob("*.sqlite")
    database.write_bytes(b"scribbled over" * 1000)

    done, told = site.run("status", "--json"), site.run("status").out

    assert (done.code, done.document["error"]["kind"]) == (16, "CannotTell")
    (seen,) = done.document["pipelines"]
    assert seen["reachable"] is True
    assert seen["latest"]["engine_id"] == id
    assert seen["state_problem"]["kind"] == "IntegrityError"
    assert re.search(r"last push +unknown\n", told)
    assert re.search(rf"state +unavailable: {database}", told)
    assert "never" not in told
    assert "bucket  " in told
    assert "unknown: " not in told

    shutil.rmtree(site.storage())
    site.storage().write_text("no directory")
    database.unlink()
    assert site.run("status").code == 16
    shutil.rmtree(site.home / "bucket")
    worse = site.run("status", "--json")
    assert (worse.code, worse.document["error"]["kind"]) == (10, "BucketNotFound")


def test_70_for_a_bug_with_its_origin(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    (plugin / "odd-1.0.dist-info").mkdir(parents=True)
    (plugin / "odd.py").write_text("def layout(options):\n    return None\n")
    (plugin / "odd-1.0.dist-info" / "METADATA").write_text("Name: odd\nVersion: 1.0\n")
    entry = "[ckptsync.layouts]\nodd = odd:layout\n"
    (plugin / "odd-1.0.dist-info" / "entry_points.txt").write_text(entry)
    site = Site.on_disk(tmp_path / "host-a", layout="odd")

    done = site.run("push", "--json", environment={"PYTHONPATH": str(plugin)})

    assert done.code == 70
    assert done.document["error"]["kind"] == "Bug"
    assert "Traceback" in done.err


def test_1_for_output_that_cannot_be_written(site: Site) -> None:
    _push_one(site)

    with Path("/dev/full").open("w") as full:
        done = site.run("show", "latest", "--files", stdout=full.fileno())

    assert done.code == 1
    assert "cannot write the output: No space left" in done.err


def test_a_reader_that_leaves_early_is_no_drama(site: Site) -> None:
    _push_one(site)
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = site.run("show", "latest", "--files", stdout=writer)
    finally:
        os.close(writer)

    assert (done.code, done.err) == (1, "")


def _away(site: Site) -> Site:
    (port,) = free_ports(1)
    return replace(
        site,
        buckets={"orders": "s3://bucket/orders"},
        sync={"endpoint": f"http://127.0.0.1:{port}", "access_key": "a", "secret_key": "hidden!"},
        secret="hidden!",
    )


def _checkpoint(site: Site, name: str = "orders") -> str:
    with Engine(site.storage(name)) as engine:
        return engine.checkpoint()


def _push_one(site: Site) -> str:
    id = _checkpoint(site)
    done = site.run("push")
    assert done.code == 0, done.err
    return id


def _key(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
