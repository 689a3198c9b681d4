"""Manifests: written, read back, and what a reader does not believe."""

import json
import tracemalloc
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ckptsync.errors import IntegrityError, UnsupportedFormat
from ckptsync.hashing import Hash
from ckptsync.repository import keys, manifest_reader, packs
from ckptsync.repository import manifest as manifests_module
from ckptsync.repository.files import Chunked, Files, Packed
from ckptsync.repository.manifest import (
    HEADER_LIMIT,
    ROW_LIMIT,
    Manifest,
    encode,
    engine_record,
)
from ckptsync.repository.manifest_reader import decode, read_objects
from ckptsync.repository.objects import Codec, Frame, StoredObject
from tests.repository.samples import CHUNK, DESCRIPTOR, a_manifest, engines, manifests

MIB: Final = 1 << 20
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


def a_document(kind: str) -> dict[str, Any]:
    """Of a manifest with one file, in a pack or in three chunks."""
    digest = Hash.BLAKE3.of(b"it")
    files = Files()
    if kind == "pack":
        files.append("file", 100, 0o644, 0, digest, Packed(0, 0, 512))
    else:
        files.append("file", 2 * CHUNK + 1, 0o644, 0, digest, Chunked(((0, digest),) * 3))
    document = json.loads(text_of(encode(a_manifest(files, objects=(AN_OBJECT[kind],)))))
    assert isinstance(document, dict)
    return document


HEX: Final = Hash.BLAKE3.of(b"it").hex()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", True),
        ("size", 100.0),
        ("size", "100"),
        ("size", -1),
        ("size", 2**63),
        ("mode", True),
        ("mode", -1),
        ("mode", 420.0),
        ("mtime_ns", 0),
        ("mtime_ns", " 1"),
        ("mtime_ns", "1_0"),
        ("mtime_ns", "٣"),
        ("mtime_ns", "9" * 20),
        ("digest", HEX.upper()),
        ("digest", f"{HEX[:32]} {HEX[32:]}"),
        ("digest", HEX[:-2]),
        ("digest", f"tree:{HEX}"),
        ("pack", [True, 0, 512]),
        ("pack", [0, False, 512]),
        ("pack", [0, 0, 512.0]),
        ("pack", [0, 0]),
    ],
)
def test_a_file_row_has_one_spelling(field: str, value: object) -> None:
    document = a_document("pack")
    assert len(decode(stored(document), DESCRIPTOR, WHAT).files) == 1
    document["files"][0][field] = value

    with pytest.raises(IntegrityError, match="not a file row"):
        decode(stored(document), DESCRIPTOR, WHAT)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (1, True),
        (1, 10.0),
        (2, HEX.upper()),
        (2, f" {HEX}"),
        (4, [[True, 4096]]),
        (4, [[10, 4096.0]]),
        (4, [[10, -4096]]),
        (4, [[10]]),
    ],
)
def test_an_object_row_has_one_spelling(place: int, value: object) -> None:
    document = a_document("pack")
    document["objects"][0][place] = value

    with pytest.raises(IntegrityError, match="not an object row"):
        decode(stored(document), DESCRIPTOR, WHAT)


def test_the_digest_of_digests_is_marked_as_such() -> None:
    document = a_document("chunks")
    assert document["files"][0]["digest"].startswith("tree:")
    assert len(decode(stored(document), DESCRIPTOR, WHAT).files) == 1
    document["files"][0]["digest"] = HEX

    with pytest.raises(IntegrityError, match="not a file row"):
        decode(stored(document), DESCRIPTOR, WHAT)


# Bounds


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("beginning", "piece", "end"),
    [
        ('"x":[', "[],", "[]]"),
        ('"x":{', '"%d":[],', '"y":0}'),
        ("", '"%d":0,', '"x":0'),
        ('"files":[{"x":[', "[],", "[]]}]"),
        ('"files":[{"chunks":[', "[],", "[]]}]"),
        ('"files":[{"chunks":[[', "[],", "[]]]}]"),
        ('"objects":[', "[],", "[]]"),
        ('"objects":[[[', "[],", "[]]]]"),
        ('"directories":["', "aaaa", '"]'),
    ],
)
def test_memory_is_bounded_whatever_a_manifest_says(
    beginning: str, piece: str, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As trees of Python's objects these would take hundreds of mebibytes."""
    monkeypatch.setattr(manifests_module, "INFLATED_LIMIT", 16 * MIB)
    count = 12 * MIB // len(piece % 123456 if "%" in piece else piece)
    middle = "".join(piece % n for n in range(count)) if "%" in piece else piece * count
    hostile = f'{{"format":"ckptsync/manifest","version":1,{beginning}{middle}{end}}}'.encode()
    data = zstandard.compress(hostile)
    del middle, hostile

    tracemalloc.start()
    with pytest.raises(IntegrityError):
        decode(data, DESCRIPTOR, WHAT)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert most < 110 * MIB


def test_a_header_may_be_as_long_as_the_limit_says_and_no_longer() -> None:
    manifest = manifest_of_empty_files(1)
    spare = HEADER_LIMIT - len(manifest.header.model_dump_json()) - 100
    for length, fine in ((spare, True), (spare + 200, False)):
        engine = manifest.header.engine.model_copy(update={"lineage": "x" * length})
        header = manifest.header.model_copy(update={"engine": engine})
        document = json.loads(text_of(encode(manifest)))
        document["engine"]["lineage"] = "x" * length
        if fine:
            assert decode(encode(replace(manifest, header=header)), DESCRIPTOR, WHAT)
        else:
            with pytest.raises(IntegrityError, match="bytes beside its lists"):
                encode(replace(manifest, header=header))
            with pytest.raises(IntegrityError, match="no value that ends within"):
                decode(stored(document), DESCRIPTOR, WHAT)


@pytest.mark.parametrize("count", [13, 900, 40_000])
def test_a_file_of_many_chunks_is_read_back(count: int) -> None:
    """The longest row is beyond what any other row may take."""
    files, digest = Files(), Hash.BLAKE3.of(b"it")
    files.append("a", count * CHUNK, 0o644, 0, digest, Chunked(((0, digest),) * count))
    files.append("é", CHUNK, 0o644, 0, digest, Chunked(((0, digest),)))
    manifest = a_manifest(files, objects=(AN_OBJECT["chunks"],))
    text = text_of(encode(manifest))
    assert (len(text) > ROW_LIMIT) is (count == 40_000)

    for data in (encode(manifest), zstandard.compress(text.replace("\\u00e9", "é").encode())):
        assert list(decode(data, DESCRIPTOR, WHAT).files) == list(files)


def test_a_file_of_too_many_chunks_is_refused_by_writer_and_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    document = a_document("chunks")
    data = stored(document)
    manifest = decode(data, DESCRIPTOR, WHAT)
    monkeypatch.setattr(manifests_module, "MAX_CHUNKS", 2)
    monkeypatch.setattr(manifest_reader, "MAX_CHUNKS", 2)

    with pytest.raises(IntegrityError, match="3 chunks of one file"):
        encode(manifest)
    with pytest.raises(IntegrityError, match="not a file row"):
        decode(data, DESCRIPTOR, WHAT)
    monkeypatch.setattr(manifest_reader, "ROW_LIMIT", 250)
    with pytest.raises(IntegrityError, match="more than 2 chunks"):
        decode(data, DESCRIPTOR, WHAT)


def test_a_row_that_is_read_piece_by_piece_is_checked_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    document = a_document("chunks")
    whole = decode(stored(document), DESCRIPTOR, WHAT)
    monkeypatch.setattr(manifest_reader, "ROW_LIMIT", 250)

    assert list(decode(stored(document), DESCRIPTOR, WHAT).files) == list(whole.files)
    for chunk in ([0, HEX.upper()], [True, HEX], [], 7):
        document["files"][0]["chunks"][1] = chunk
        with pytest.raises(IntegrityError, match="not a chunk"):
            decode(stored(document), DESCRIPTOR, WHAT)


def test_too_many_frames_or_directories_are_refused_by_writer_and_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pack = replace(AN_OBJECT["pack"], frames=(Frame(5, 4096), Frame(5, 4096)))
    framed = a_manifest(Files(), objects=(pack, pack))
    with_directories = replace(a_manifest(Files()), directories=("a", "b", "c"))
    for manifest, what in ((framed, "frames"), (with_directories, "directories")):
        data = encode(manifest)
        with monkeypatch.context() as patched:
            patched.setattr(manifests_module, "MAX_FILES", 2)
            with pytest.raises(IntegrityError, match=what):
                encode(manifest)
            with pytest.raises(IntegrityError, match=what):
                decode(data, DESCRIPTOR, WHAT)


def test_a_pack_of_too_many_frames_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    document = a_document("pack")
    monkeypatch.setattr(packs, "MAX_FRAMES", 0)

    with pytest.raises(IntegrityError, match="cannot be what its row says"):
        decode(stored(document), DESCRIPTOR, WHAT)


# Only the objects


@given(manifests(), st.randoms())
def test_the_objects_alone_are_those_of_the_whole_in_whatever_order(
    manifest: Manifest, random: Any
) -> None:
    document = json.loads(text_of(encode(manifest)))
    members = list(document.items())
    random.shuffle(members)

    assert read_objects(encode(manifest), DESCRIPTOR, WHAT) == manifest.objects
    assert read_objects(stored(dict(members)), DESCRIPTOR, WHAT) == manifest.objects


def test_nothing_behind_the_objects_is_read() -> None:
    text = text_of(encode(a_manifest(Files(), objects=(AN_OBJECT["pack"],))))
    beginning, files, _ = text.partition('"files":[')
    assert files

    found = read_objects(
        zstandard.compress(f"{beginning}{files}no json".encode()), DESCRIPTOR, WHAT
    )

    assert found == (AN_OBJECT["pack"],)


@pytest.mark.parametrize("count", [60_000, 0])
def test_objects_are_read_however_far_on_their_list_ends(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the first beginning, or behind files that are."""
    objects = (AN_OBJECT["chunks"],) * max(count, 1)
    document = json.loads(text_of(encode(a_manifest(Files(), objects=objects))))
    if not count:
        row = a_document("pack")["files"][0]
        files = [{**row, "path": f"{number}"} for number in range(30_000)]
        document = {"files": files, **{key: document[key] for key in document if key != "files"}}
    data = stored(document)
    assert len(text_of(data)) > 1 << 22

    assert read_objects(data, DESCRIPTOR, WHAT) == objects

    monkeypatch.setattr(manifest_reader, "_BEGINNINGS", (1 << 20, 1 << 22))
    assert read_objects(data, DESCRIPTOR, WHAT) == objects
    monkeypatch.setattr(manifests_module, "INFLATED_LIMIT", 1 << 22)
    with pytest.raises(IntegrityError, match="inflates to more than"):
        read_objects(data, DESCRIPTOR, WHAT)


@given(manifests(), st.data())
def test_a_manifest_cut_short_before_its_objects_end_tells_none(
    manifest: Manifest, draw: st.DataObject
) -> None:
    text = text_of(encode(manifest))
    end = text.index('],\n"files":[')
    cut = text[: draw.draw(st.integers(min_value=0, max_value=end))]

    assert read_objects(zstandard.compress(text[: end + 1].encode() + b","), DESCRIPTOR, WHAT) == (
        manifest.objects
    )
    with pytest.raises(IntegrityError, match="is damaged"):
        read_objects(zstandard.compress(cut.encode()), DESCRIPTOR, WHAT)


def test_a_manifest_without_a_list_of_objects_tells_none() -> None:
    document = a_document("pack")
    del document["objects"]

    with pytest.raises(IntegrityError, match="it has no list of objects"):
        read_objects(stored(document), DESCRIPTOR, WHAT)


@pytest.mark.parametrize("rows", [None, [["of a", "new", "kind"]]])
def test_the_objects_of_a_newer_version_are_not_guessed(rows: object) -> None:
    """It may refer to objects elsewhere, too."""
    document = a_document("pack")
    document["version"] = 2
    if rows is not None:
        document["objects"] = rows

    with pytest.raises(UnsupportedFormat, match="format version 2"):
        read_objects(stored(document), DESCRIPTOR, WHAT)
    if rows is None:
        with pytest.raises(UnsupportedFormat):
            read_objects(stored(dict(reversed(document.items()))), DESCRIPTOR, WHAT)
    document["format"] = "another"
    document["version"] = 1
    with pytest.raises(IntegrityError, match="is damaged: format"):
        read_objects(stored(document), DESCRIPTOR, WHAT)


@given(manifests(), st.data())
def test_objects_that_the_whole_reader_takes_are_what_the_other_tells(
    manifest: Manifest, draw: st.DataObject
) -> None:
    """Whatever one byte is changed to: what can be pulled is never swept for a lack of sense."""
    text = bytearray(text_of(encode(manifest)).encode())
    at = draw.draw(st.integers(min_value=0, max_value=len(text) - 1))
    text[at] = draw.draw(st.integers(min_value=0, max_value=255))
    data = zstandard.compress(bytes(text))

    with suppress(IntegrityError, UnsupportedFormat):
        whole = decode(data, DESCRIPTOR, WHAT)
        try:
            assert read_objects(data, DESCRIPTOR, WHAT) == whole.objects
        except IntegrityError as error:
            assert "no list of objects" in str(error)  # noqa: PT017
