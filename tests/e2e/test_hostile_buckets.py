"""Whoever can write to the bucket cannot speak in our name on the operator's terminal."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.site import Done, Site
from tests.pipelines import write_tree

_FORGED: Final = "o\x1b]0;PWNED\x07\r\nerror: forged\ntry: forged"


@pytest.fixture
def site(site: Site) -> Site:
    """A host that has pushed one checkpoint."""
    site = replace(site, layout="directory")
    write_tree(site.storage() / "step-1", {"n": b"1"})
    assert site.run("push").code == 0
    return site


def test_a_descriptor_that_names_another_pipeline_is_told_on_one_line(site: Site) -> None:
    _edit(site, "ckptsync.json", lambda descriptor: descriptor.update(pipeline=_FORGED))
    write_tree(site.storage() / "step-2", {"n": b"2"})

    pushed = site.run("push")
    pulled = site.run("pull", "--to", str(site.home / "to"))

    assert pushed.code == 2
    for done in (pushed, pulled, site.run("status"), site.run("doctor"), site.run("list")):
        _require_honest(done)
    assert "PWNED" in pushed.err
    assert "PWNED" in pulled.err, "the owner is logged"


@pytest.mark.parametrize("feature", ["read_features", "write_features"])
def test_a_feature_with_a_strange_name_is_told_on_one_line(site: Site, feature: str) -> None:
    _edit(site, "ckptsync.json", lambda descriptor: descriptor.update({feature: [_FORGED]}))
    write_tree(site.storage() / "step-2", {"n": b"2"})

    done = site.run("push")

    assert done.code == 2
    _require_honest(done)
    assert "PWNED" in done.err


def test_a_node_with_a_strange_name_is_told_on_one_line(site: Site) -> None:
    _edit(site, "head.json", lambda head: head["writer"].update(node=_FORGED))
    other = replace(site, home=site.home.with_name("host-b"))
    write_tree(other.storage() / "step-2", {"n": b"2"})

    refused, status = other.run("push"), other.run("status")

    assert refused.code == 11
    for done in (refused, status, other.run("doctor")):
        _require_honest(done)
        assert "PWNED" in done.out + done.err


def test_an_engine_id_with_a_strange_name_is_told_on_one_line(site: Site) -> None:
    _edit(site, "head.json", lambda head: head["checkpoints"][0].update(engine_id=_FORGED))
    shutil.rmtree(site.storage())

    for command in (("list",), ("show", "latest"), ("pull", "--engine-stopped"), ("verify",)):
        _require_honest(site.run(*command))
    assert "PWNED" in site.run("list").out


def test_of_many_damaged_objects_a_few_are_shown_and_the_rest_counted(site: Site) -> None:
    keys = [f"chunks/{number:02x}/{number:064x}" for number in range(200)]
    _edit(site, "head.json", lambda head: head["checkpoints"][0].update(damaged=keys))

    text, as_json = site.run("show", "latest"), site.run("show", "latest", "--json")

    assert text.out.count("chunks/") == 10
    assert "and 190 more: --json names all" in text.out
    assert as_json.document["checkpoint"]["damaged"] == keys


def _edit(site: Site, name: str, change: Callable[[Any], None]) -> None:
    path: Path = site.home / "bucket" / name
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def _require_honest(done: Done) -> None:
    """What was printed is text, and every `error:` and `try:` in it is our own."""
    printed = (done.out + done.err).split("\n")
    assert all(line.isprintable() for line in printed)
    assert not [
        line for line in printed if line.lstrip().startswith(("error: forged", "try: forged"))
    ]
