"""Packs and chunks: whatever goes in comes out by slicing, and tar can list it."""

import io
import tarfile

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ckptsync.hashing import Digest, Hash
from ckptsync.repository import packs
from ckptsync.repository.chunks import compress_in_place, compressible, spans
from ckptsync.repository.files import Packed
from ckptsync.repository.known import ALL_DAMAGED, Known, stored_object
from ckptsync.repository.objects import Codec, Frame, StoredObject
from ckptsync.repository.packs import MAX_FRAME, PackBuilder, footprint, is_sparse
from ckptsync.repository.untrusted import inflate
from ckptsync.state.journal import Upload
from tests.pipelines import KIB, MIB, noise

HASH = Hash.BLAKE3


def build(
    members: list[bytes], *, size: int = 4 * MIB, target: int = 4 * MIB
) -> tuple[StoredObject, bytes, list[Packed]]:
    """A pack of those members that fit."""
    builder = PackBuilder("packs/it", 7, memoryview(bytearray(size)), target=target)
    places = []
    for member in members:
        if not builder.fits(len(member)):
            break
        places.append(builder.add(HASH.of(member), member))
    stored, body = builder.finish(HASH)
    return stored, bytes(body), places


def take(stored: StoredObject, body: bytes, place: Packed, size: int) -> bytes:
    """As a reader does: one frame by its range, inflated, then sliced."""
    start = sum(frame.stored for frame in stored.frames[: place.frame])
    frame = stored.frames[place.frame]
    raw = inflate(body[start : start + frame.stored], limit=frame.raw, what="it")
    assert len(raw) == frame.raw
    return raw[place.offset : place.offset + size]


members_of_packs = st.lists(
    st.binary(max_size=2000)
    | st.integers(min_value=0, max_value=900 * KIB).map(lambda size: noise(size, size)),
    min_size=1,
    max_size=8,
)


@given(members_of_packs)
def test_every_member_comes_back_by_slicing(members: list[bytes]) -> None:
    stored, body, places = build(members)

    assert places
    for member, place in zip(members, places, strict=False):
        assert place.object == 7
        assert take(stored, body, place, len(member)) == member
    assert stored.size == len(body) == sum(frame.stored for frame in stored.frames)
    assert stored.digest == HASH.of(body)
    assert stored.codec is Codec.PACK
    assert all(0 < frame.raw <= MAX_FRAME for frame in stored.frames)
    assert packs.raw_bytes(stored) >= sum(footprint(len(each)) for each in members[: len(places)])


@given(members_of_packs)
def test_tar_lists_the_members_by_their_digests(members: list[bytes]) -> None:
    _, body, places = build(members)

    raw = zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True).read()
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        listed = [(each.name, each.size) for each in archive.getmembers()]

    assert listed == [(HASH.of(each).hex(), len(each)) for each in members[: len(places)]]


@given(st.lists(st.integers(min_value=1, max_value=MIB), max_size=40))
def test_what_fits_never_overflows_the_buffer(sizes: list[int]) -> None:
    builder = PackBuilder("packs/it", 0, memoryview(bytearray(2 * MIB)), target=2 * MIB)
    content = noise(MIB)
    for size in sizes:
        if builder.fits(size):
            builder.add(HASH.of(content[:size]), content[:size])

    stored, body = builder.finish(HASH)

    assert stored.size == len(body) <= 2 * MIB


def test_a_pack_never_gets_more_frames_than_a_reader_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "MAX_FRAMES", 3)

    stored, _, places = build(
        [noise(MIB, number) for number in range(5)], size=9 * MIB, target=9 * MIB
    )

    assert len(places) == 2
    assert len(stored.frames) == 3


@pytest.mark.parametrize(
    ("wanted", "sparse"), [(0, True), (24 * KIB, True), (25 * KIB, False), (100 * KIB, False)]
)
def test_a_pack_is_sparse_below_a_quarter(wanted: int, sparse: bool) -> None:
    pack = StoredObject(
        key="packs/it",
        size=9,
        digest=Digest(bytes(32)),
        codec=Codec.PACK,
        frames=(Frame(5, 60 * KIB), Frame(4, 40 * KIB)),
    )

    assert is_sparse(pack, wanted=wanted) is sparse


# Chunks


@given(st.integers(min_value=0, max_value=5000), st.integers(min_value=1, max_value=700))
def test_chunks_cover_a_file_once_and_all_but_the_last_are_whole(size: int, chunk: int) -> None:
    found = list(spans(size, chunk))

    assert [start for start, _ in found] == list(range(0, size, chunk))
    assert sum(length for _, length in found) == size
    assert all(length == chunk for _, length in found[:-1])


TEXT = b"0123456789abcdef" * (256 * KIB)


@pytest.mark.parametrize(
    "raw",
    [
        TEXT,
        TEXT[:MIB],
        TEXT[:MIB] + noise(KIB),
        noise(KIB) + TEXT[:MIB],
        bytes(3 * MIB + 1),
        bytes(1),
        b"",
        noise(MIB + 1),
        noise(2 * MIB) + TEXT[: 2 * MIB],
        TEXT[: 2 * MIB] + noise(2 * MIB),
        TEXT[: 300 * KIB] + noise(3 * MIB),
        noise(3 * MIB) + TEXT[: 100 * KIB],
    ],
)
def test_a_chunk_compressed_in_place_inflates_to_what_it_was(raw: bytes) -> None:
    buffer = memoryview(bytearray(raw))

    coded = compress_in_place(buffer)

    if coded is None:
        assert len(zstandard.compress(raw, 1)) * 100 > 90 * len(raw)
    else:
        assert len(coded) * 100 <= 92 * len(raw)
        assert inflate(coded, limit=len(raw), what="it") == raw


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 400 * KIB)), min_size=1, max_size=12))
def test_any_mixture_survives_compression_in_place(pieces: list[tuple[bool, int]]) -> None:
    raw = b"".join(noise(size, size) if random else TEXT[:size] for random, size in pieces)

    coded = compress_in_place(memoryview(bytearray(raw)))

    assert coded is None or inflate(coded, limit=len(raw), what="it") == raw


@pytest.mark.parametrize(
    ("raw", "expected"),
    [(TEXT, True), (noise(MIB), False), (TEXT[: 256 * KIB] + noise(MIB), True), (b"a", False)],
)
def test_the_beginning_of_a_chunk_tells_whether_to_try(raw: bytes, expected: bool) -> None:
    assert compressible(memoryview(raw)) is expected


def test_the_sample_is_all_that_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    real = zstandard.compress

    def compress(data: memoryview, level: int) -> bytes:
        tried.append(len(data))
        return real(data, level)

    monkeypatch.setattr(zstandard, "compress", compress)

    compressible(memoryview(TEXT))

    assert tried == [256 * KIB]


# What is known of both


def an_upload(key: str, codec: Codec, *contents: tuple[bytes, int, int], size: int = 9) -> Upload:
    frames = ((size, 4096),) if codec is Codec.PACK else ()
    return Upload(
        key=key,
        generation=3,
        size=size,
        digest=bytes(32),
        codec=codec,
        frames=frames,
        contents=contents,
    )


@given(
    st.integers(min_value=0, max_value=2**40),
    st.integers(min_value=0, max_value=2**20 - 1),
    st.integers(min_value=0, max_value=2**32 - 1),
)
def test_a_place_in_a_pack_is_remembered_exactly(number: int, frame: int, offset: int) -> None:
    known, place = Known(), Packed(number, frame, offset)

    known.add_member(Digest(bytes(32)), place)

    assert known.member(Digest(bytes(32))) == place


def test_a_place_in_a_pack_never_serves_as_a_chunk_nor_the_other_way_round() -> None:
    small, large = HASH.of(b"small"), HASH.of(b"large")
    known = Known()
    known.add_uploads(
        [
            an_upload("packs/p", Codec.PACK, (small, 0, 512)),
            an_upload("chunks/c", Codec.RAW, (large, 0, 0)),
        ],
        damaged=(),
    )

    assert known.member(small) is not None
    assert known.chunk(small) is None
    number = known.chunk(large)
    assert number is not None
    assert known.member(large) is None
    assert known.object(number).key == "chunks/c"
    assert known.generation(number) == 3


def test_what_was_known_first_stays() -> None:
    digest, known = HASH.of(b"it"), Known()
    known.add_uploads(
        [an_upload(f"chunks/{name}", Codec.RAW, (digest, 0, 0)) for name in "ab"], damaged=()
    )

    number = known.chunk(digest)

    assert number is not None
    assert known.object(number).key == "chunks/a"


@pytest.mark.parametrize(
    ("damaged", "left"), [((), 2), (("chunks/a",), 1), (("chunks/a", "chunks/b"), 0)]
)
def test_damaged_uploads_are_not_known(damaged: tuple[str, ...], left: int) -> None:
    known = Known()
    digests = [HASH.of(b"a"), HASH.of(b"b")]
    known.add_uploads(
        [an_upload(f"chunks/{name}", Codec.RAW, (HASH.of(name.encode()), 0, 0)) for name in "ab"],
        damaged=damaged,
    )

    assert len([each for each in digests if known.chunk(each) is not None]) == left


def test_own_packs_are_never_dropped_as_sparse() -> None:
    """A failed push has just stored them; to store them again would never end."""
    digest, known = HASH.of(b"tiny"), Known()
    known.add_uploads([an_upload("packs/p", Codec.PACK, (digest, 0, 512))], damaged=())

    known.drop_sparse_packs([])

    assert known.member(digest) is not None


def test_an_upload_is_remembered_as_the_object_it_was() -> None:
    upload = an_upload("packs/p", Codec.PACK, size=77)

    stored = stored_object(upload)

    assert (stored.key, stored.size, stored.codec) == ("packs/p", 77, Codec.PACK)
    assert stored.frames == (Frame(77, 4096),)
    assert ALL_DAMAGED == "*"
