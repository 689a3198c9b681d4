"""Repositories that version 1 wrote are read as they were meant, for ever; see `generate`."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from ckptsync.errors import UnsupportedFormat
from ckptsync.repository import keys
from ckptsync.repository.files import Chunked, Packed
from ckptsync.repository.objects import Codec
from ckptsync.repository.repository import Repository, look
from ckptsync.stores.local import LocalStore
from tests.fakes import feldera_engine
from tests.golden.generate import EXPECTED, VERSION, facts
from tests.operations.invariants import require_sound
from tests.pipelines import Host, a_small_checkpoint, wanted

WRITTEN: Final[dict[str, Any]] = json.loads((VERSION / EXPECTED).read_bytes())


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(home=tmp_path / "host")


@pytest.fixture
def copy(tmp_path: Path) -> LocalStore:
    """The repository of directories, to be changed."""
    shutil.copytree(VERSION / "directory", tmp_path / "bucket")
    return LocalStore(tmp_path / "bucket")


def opened(kind: str) -> Repository:
    found = look(LocalStore(VERSION / kind))
    assert isinstance(found, tuple)
    return found[0]


def edit(store: LocalStore, key: str, **fields: object) -> None:
    """Change the JSON text as another version would, without the code under test."""
    document = json.loads(store.get(key, limit=1 << 20).data)
    store.put(key, json.dumps({**document, **fields}).encode())


@pytest.mark.parametrize("kind", WRITTEN)
def test_every_object_is_there_and_every_checkpoint_is_listed(kind: str) -> None:
    seen = require_sound(LocalStore(VERSION / kind))

    assert seen is not None
    assert sorted(seen.engine_ids) == sorted(WRITTEN[kind])


def test_what_the_sample_is_meant_to_show_is_in_it() -> None:
    repository = opened("directory")
    head = repository.head().head
    assert [page.count for page in head.pages] == [2]
    assert [timeline.id for timeline in head.timelines] == [1, 2]
    manifest = repository.manifest(head.checkpoints[-1])
    assert {stored.codec for stored in manifest.objects} == set(Codec)
    locations = [entry.location for entry in manifest.files]
    assert any(isinstance(each, Packed) for each in locations)
    assert any(isinstance(each, Chunked) and len(each.chunks) == 2 for each in locations)
    assert None in locations
    assert manifest.directories
    assert not all(path.isascii() for path in manifest.files.paths)
    assert opened("feldera").descriptor.hash == "sha256"
    fingerprint = opened("feldera").head().head.checkpoints[0].fingerprint
    assert fingerprint is not None
    assert int(fingerprint) > 2**53


@pytest.mark.parametrize("id", WRITTEN["directory"])
def test_every_directory_comes_back_byte_for_byte(host: Host, id: str) -> None:
    host.restore(LocalStore(VERSION / "directory"), wanted(id))

    assert facts(host.root / id, host.root) == WRITTEN["directory"][id]


@pytest.mark.parametrize("id", WRITTEN["feldera"])
def test_every_engine_resumes_from_its_checkpoint(host: Host, id: str) -> None:
    host = replace(host, layout="feldera")

    host.restore(LocalStore(VERSION / "feldera"), wanted(id))

    resumed = feldera_engine.resume(host.root)
    assert resumed is not None
    assert resumed.uuid == id
    assert feldera_engine.contents(host.root, id) == WRITTEN["feldera"][id]


def test_reading_changes_nothing(host: Host) -> None:
    before = digests()

    host.restore(LocalStore(VERSION / "directory"))

    assert digests() == before


def digests() -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VERSION.rglob("*")
        if path.is_file()
    }


# What older versions owe newer ones


def adopt(host: Host, store: LocalStore) -> None:
    """Let the host remember what the writer of the repository would."""
    head = json.loads(store.get(keys.HEAD, limit=1 << 20).data)
    with host.running(store) as pipeline:
        pipeline.state.identity.begin(head["repository_id"], head["writer"]["instance"])
        pipeline.state.identity.intend(head["writer"]["write_id"])


def test_what_a_newer_version_added_to_head_survives_our_push(host: Host, copy: LocalStore) -> None:
    head = json.loads(copy.get(keys.HEAD, limit=1 << 20).data)
    later = {"level": [1, {"deep": 2**60 + 1}]}
    edit(
        copy,
        keys.HEAD,
        zz_later=later,
        writer={**head["writer"], "zz_later": later},
        timelines=[{**each, "zz_later": later} for each in head["timelines"]],
        checkpoints=[{**each, "zz_later": later} for each in head["checkpoints"]],
        pages=[{**each, "zz_later": later} for each in head["pages"]],
        sweep={**head["sweep"], "zz_later": later},
    )
    adopt(host, copy)
    host.checkpoint("ckpt-6", a_small_checkpoint())

    host.push(copy)

    after = json.loads(copy.get(keys.HEAD, limit=1 << 20).data)
    assert after["latest"].startswith("0002-00000006-")
    kept = [after, after["writer"], after["sweep"], *after["timelines"], *after["pages"]]
    kept += after["checkpoints"][:-1]
    assert [each["zz_later"] for each in kept] == [later] * len(kept)
    assert "zz_later" not in after["checkpoints"][-1]
    assert require_sound(copy) is not None


def test_a_push_goes_on_from_what_is_there(host: Host, copy: LocalStore) -> None:
    adopt(host, copy)
    host.restore(copy)
    (host.root / "ckpt-5").rename(host.root / "ckpt-6")

    report = host.push(copy)

    assert report.entry.new_bytes == 0
    assert report.entry.timeline == 2


@pytest.mark.parametrize("key", [keys.DESCRIPTOR, keys.HEAD])
def test_a_repository_of_version_2_is_left_alone(host: Host, copy: LocalStore, key: str) -> None:
    adopt(host, copy)
    edit(copy, key, version=2)
    host.checkpoint("ckpt-6", a_small_checkpoint())

    for act in (host.push, host.pull):
        with pytest.raises(UnsupportedFormat, match="newer ckptsync") as caught:
            act(copy)
        assert caught.value.hint is not None
        assert "upgrade" in caught.value.hint


def test_a_feature_that_reading_needs_stops_both(host: Host, copy: LocalStore) -> None:
    adopt(host, copy)
    edit(copy, keys.DESCRIPTOR, read_features=["encryption"])
    host.checkpoint("ckpt-6", a_small_checkpoint())

    for act in (host.push, host.pull):
        with pytest.raises(UnsupportedFormat, match="reading needs encryption"):
            act(copy)


def test_a_feature_that_writing_needs_stops_a_push_and_no_pull(
    host: Host, copy: LocalStore
) -> None:
    adopt(host, copy)
    edit(copy, keys.DESCRIPTOR, write_features=["groups"])
    host.restore(copy)
    host.checkpoint("ckpt-6", a_small_checkpoint())

    with pytest.raises(UnsupportedFormat, match="writing needs groups"):
        host.push(copy)

    seen = require_sound(copy)
    assert seen is not None
    assert seen.engine_ids[-1] == "ckpt-5"
