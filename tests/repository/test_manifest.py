"""Manifests: written, read back, and what a reader does not believe."""

import json
from contextlib import suppress
from typing import Any, Final

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ckptsync.errors import IntegrityError, UnsupportedFormat
from ckptsync.hashing import Hash
from ckptsync.repository import keys
from ckptsync.repository import manifest as manifests_module
from ckptsync.repository.files import Chunked, Files, Packed
from ckptsync.repository.manifest import Manifest, encode, engine_record
from ckptsync.repository.manifest_reader import decode
from ckptsync.repository.objects import Codec, Frame, StoredObject
from tests.repository.samples import DESCRIPTOR, a_manifest, engines, manifests

WHAT: Final = "s3://dr/orders/manifests/it"


def text_of(data: bytes) -> str:
    return zstandard.ZstdDecompressor().decompressobj().decompress(data).decode()


def stored(document: object) -> bytes:
    return zstandard.compress(json.dumps(document).encode())


@given(manifests())
def test_what_is_written_is_read_back(manifest: Manifest) -> None:
    read = decode(encode(manifest), DESCRIPTOR, WHAT)

    assert read.header == manifest.header
    assert read.objects == manifest.objects
    assert list(read.files) == list(manifest.files)
    assert read.directories == manifest.directories
    assert read.engine == manifest.engine
    assert encode(read) == encode(manifest)


@given(manifests())
def test_the_text_is_plain_json_in_ascii(manifest: Manifest) -> None:
    text = text_of(encode(manifest))

    assert text.isascii()
    document = json.loads(text)
    assert [row["path"] for row in document["files"]] == list(manifest.files.paths)
    assert all(isinstance(row["mtime_ns"], str) for row in document["files"])
    assert document["engine"]["step"] == str(manifest.engine.step)


@given(engines())
def test_numbers_beyond_2_to_the_53_travel_as_text(engine: Any) -> None:
    record = json.loads(engine_record(engine).model_dump_json())

    for field in ("step", "records", "fingerprint"):
        assert record[field] is None or isinstance(record[field], str)


@given(manifests(), st.data())
def test_no_change_of_a_value_makes_a_reader_crash(manifest: Manifest, draw: st.DataObject) -> None:
    """It reads what still makes sense, and calls the rest damaged."""
    document = json.loads(text_of(encode(manifest)))
    for _ in range(draw.draw(st.integers(min_value=1, max_value=3))):
        place = document
        while isinstance(place, dict | list) and place:
            names = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = draw.draw(st.sampled_from(names))
            if not isinstance(place[key], dict | list) or draw.draw(st.booleans()):
                place[key] = draw.draw(JUNK)
                break
            place = place[key]

    with suppress(IntegrityError, UnsupportedFormat):
        list(decode(stored(document), DESCRIPTOR, WHAT).files)


JUNK: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([-1, 0, 1, 2, 0.5, 1.0, 2**31, 2**63, 2**64, 2**200, 1e300]),
    st.sampled_from(["", "x", "raw", "tar+zstd", "00" * 32, "tree:" + "00" * 32, "9" * 5000]),
    st.sampled_from(["\ud800", "../x", "é", "0001-00000001-000000000001"]),
    st.sampled_from([[], {}, [[]], [{}], [[0, 0, 0]], [[0, "00" * 32]], {"a": 1}]),
)


@given(manifests(), st.data())
def test_no_change_of_a_byte_makes_a_reader_crash(manifest: Manifest, draw: st.DataObject) -> None:
    text = bytearray(text_of(encode(manifest)).encode())
    at = draw.draw(st.integers(min_value=0, max_value=len(text) - 1))
    text[at] = draw.draw(st.integers(min_value=0, max_value=255))

    with suppress(IntegrityError, UnsupportedFormat):
        list(decode(zstandard.compress(bytes(text)), DESCRIPTOR, WHAT).files)


@pytest.mark.parametrize("number", [0.0, 0.5, True, -1, 1, "0", None, 2**70])
@pytest.mark.parametrize("field", ["pack", "chunks"])
def test_a_reference_that_is_no_number_of_an_object_leads_nowhere(
    field: str, number: object
) -> None:
    digest = Hash.BLAKE3.of(b"it")
    files, location = Files(), Chunked(((0, digest),)) if field == "chunks" else Packed(0, 0, 512)
    files.append("file", 100, 0o644, 0, digest, location)
    document = json.loads(text_of(encode(a_manifest(files, objects=(AN_OBJECT[field],)))))
    assert decode(stored(document), DESCRIPTOR, WHAT).files[0].location == location
    row = document["files"][0]
    row[field] = [number, 0, 512] if field == "pack" else [[number, digest.hex()]]

    with pytest.raises(IntegrityError):
        decode(stored(document), DESCRIPTOR, WHAT)


AN_OBJECT: Final = {
    "pack": StoredObject(
        key=keys.pack(),
        size=10,
        digest=Hash.BLAKE3.of(b""),
        codec=Codec.PACK,
        frames=(Frame(10, 4096),),
    ),
    "chunks": StoredObject(key=keys.chunk(), size=100, digest=Hash.BLAKE3.of(b""), codec=Codec.RAW),
}


@given(manifests())
def test_unknown_fields_are_no_obstacle(manifest: Manifest) -> None:
    document = json.loads(text_of(encode(manifest)))
    document["new"] = {"at": ["the", "top"]}
    document["engine"]["new"] = 1
    for row in document["files"]:
        row["xattrs"] = {"user.a": "b"}

    read = decode(stored(document), DESCRIPTOR, WHAT)

    assert list(read.files) == list(manifest.files)


def test_too_many_files_are_refused_by_writer_and_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = manifest_of_empty_files(3)
    data = encode(manifest)
    monkeypatch.setattr(manifests_module, "MAX_FILES", 2)

    with pytest.raises(IntegrityError, match="3 files"):
        encode(manifest)
    with pytest.raises(IntegrityError, match="more than 2 files"):
        decode(data, DESCRIPTOR, WHAT)


def test_a_manifest_longer_than_a_reader_would_take_is_not_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manifest = manifest_of_empty_files(3)
    monkeypatch.setattr(manifests_module, "STORED_LIMIT", 100)

    with pytest.raises(IntegrityError, match="100 are allowed"):
        encode(manifest)


def test_lists_may_come_in_any_order() -> None:
    document = json.loads(text_of(encode(manifest_of_empty_files(2))))

    read = decode(stored(dict(reversed(document.items()))), DESCRIPTOR, WHAT)

    assert len(read.files) == 2


def manifest_of_empty_files(count: int) -> Manifest:
    files = Files()
    for number in range(count):
        files.append(f"{number}", 0, 0o644, 0, Hash.BLAKE3.of(b""), None)
    return a_manifest(files)
