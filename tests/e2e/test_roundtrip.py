"""What is pushed comes back, byte for byte, by the command as it is installed."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.site import Site
from tests.fakes.feldera_engine import Engine, contents, resume
from tests.pipelines import noise, write_tree


def test_a_feldera_pipeline_survives_the_loss_of_its_host(any_site: Site) -> None:
    with Engine(any_site.storage()) as engine:
        engine.run(3)
        id = engine.checkpoint()
    assert any_site.run("push").code == 0
    assert any_site.run("verify", "--full").code == 0
    shutil.rmtree(any_site.storage())
    shutil.rmtree(any_site.state)

    done = any_site.run("pull")

    assert (done.code, done.err) == (0, "")
    assert f"engine id {id}" in done.out
    resumed = resume(any_site.storage())
    assert resumed is not None
    assert resumed.uuid == id
    assert contents(any_site.storage(), id) == engine.written[id]


def test_a_directory_of_checkpoints_survives_the_loss_of_its_disk(any_site: Site) -> None:
    site = replace(any_site, layout="directory")
    files = {"model.bin": noise(5 << 20), "meta/step.json": b"{}", "empty": b""}
    write_tree(site.storage() / "step-7", files)
    assert site.run("push").code == 0
    shutil.rmtree(site.storage())

    assert site.run("pull", "--engine-stopped").code == 0

    found = site.storage() / "step-7"
    assert {path: (found / path).read_bytes() for path in files} == files


def test_only_what_is_new_is_uploaded(site: Site) -> None:
    site = replace(site, layout="directory")
    shared = noise(6 << 20)
    write_tree(site.storage() / "step-1", {"weights": shared, "small": b"1"})
    site.run("push")
    write_tree(site.storage() / "step-2", {"weights": shared, "small": b"2"})

    pushed = site.run("push", "--json").document

    assert pushed["already_synced"] is False
    assert pushed["checkpoint"]["bytes"] > len(shared)
    assert pushed["checkpoint"]["new_bytes"] < 64 << 10


def test_a_named_checkpoint_is_pushed_and_a_named_one_pulled(site: Site) -> None:
    site = replace(site, layout="directory")
    for step in (1, 2, 3):
        write_tree(site.storage() / f"step-{step}", {"n": str(step).encode()})
        assert site.run("push", "--checkpoint", f"step-{step}").code == 0
    second = site.run("show", "step-2", "--json").document["checkpoint"]["id"]

    for wanted in ("step-2", second):
        to = site.home / f"to-{wanted}"
        assert site.run("pull", "--checkpoint", wanted, "--to", str(to)).code == 0
        assert (to / "step-2" / "n").read_bytes() == b"2"


def test_what_was_restored_elsewhere_can_be_verified_offline(site: Site, tmp_path: Path) -> None:
    _push_one(site)
    to = tmp_path / "drill"
    assert site.run("pull", "--to", str(to)).code == 0
    (site.config).unlink()

    whole = site.run("verify", "--directory", str(to), environment={"CKPTSYNC_CONFIG": "/nowhere"})
    batch = next(to.glob("*.feldera"))
    batch.write_bytes(batch.read_bytes()[::-1])
    damaged = site.run("verify", "--directory", str(to), "--json")

    assert whole.code == 0
    assert "whole" in whole.out
    assert damaged.code == 12
    assert damaged.document["error"]["kind"] == "IntegrityError"
    assert any(batch.name in problem for problem in damaged.document["problems"])


def test_a_running_engine_is_not_pulled_over(site: Site) -> None:
    _push_one(site)
    with Engine(site.storage()):
        done = site.run("pull", "--checkpoint", "latest")

    assert done.code == 13
    assert "an engine is running" in done.err


def test_an_engine_can_write_while_its_checkpoints_are_pushed(site: Site) -> None:
    with Engine(site.storage()) as engine:
        engine.run(2)
        pushed = site.run("push", "--json").document["checkpoint"]["engine_id"]
        engine.run(3)

    to = site.home / "to"
    assert site.run("pull", "--to", str(to), "--checkpoint", pushed).code == 0
    assert contents(to, pushed) == engine.written[pushed]


@pytest.mark.parametrize("layout", ["feldera", "directory"])
def test_a_rebuilt_host_sees_what_the_bucket_holds(site: Site, layout: str) -> None:
    site = replace(site, layout=layout)
    if layout == "feldera":
        _push_one(site)
    else:
        write_tree(site.storage() / "step-1", {"n": b"1"})
        site.run("push")
    rebuilt = replace(site, home=site.home.with_name("host-b"))

    done = rebuilt.run("list", "--json")

    assert done.code == 0
    (row,) = done.document["checkpoints"]
    assert (row["where"], row["latest"], row["state"]) == ("bucket", True, "live")


def _push_one(site: Site) -> str:
    with Engine(site.storage()) as engine:
        id = engine.checkpoint()
    assert site.run("push").code == 0
    return id
