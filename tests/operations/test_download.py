"""Bits that flip on the way, and the pieces that packs are read in."""

from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from ckptsync.errors import IntegrityError
from ckptsync.hashing import Digest
from ckptsync.operations.pieces import pack_pieces
from ckptsync.repository import keys
from ckptsync.repository.files import Files, Packed
from ckptsync.repository.manifest import Manifest
from ckptsync.repository.objects import Codec, Frame, StoredObject
from ckptsync.stores.memory import MemoryStore
from tests.operations.victims import require_refused
from tests.pipelines import CHUNK, Host, a_small_checkpoint, contents, copy_of, noise
from tests.repository.samples import a_manifest

Flips = Callable[[int], bool]


class Flipping(MemoryStore):
    """Flips bits in the answers to some `read_into`, by how often that range was read."""

    def __init__(self, inner: MemoryStore, flips: Flips) -> None:
        super().__init__(inner.name)
        self._objects = copy_of(inner)._objects
        self._flips = flips
        self.reads: dict[tuple[str, int], int] = {}

    def read_into(self, key: str, start: int, into: memoryview) -> None:
        super().read_into(key, start, into)
        number = self.reads[key, start] = self.reads.get((key, start), 0) + 1
        if self._flips(number):
            middle = len(into) // 2
            for at in range(middle, min(len(into), middle + 700), 100):  # not padding alone
                into[at] ^= 1


@pytest.fixture
def filled(host: Host, bucket: MemoryStore) -> MemoryStore:
    """A checkpoint with a pack, raw and compressed chunks."""
    host.checkpoint("ckpt-1", {**a_small_checkpoint(), "big": noise(2 * CHUNK + 1)})
    host.push(bucket)
    return bucket


def test_bits_that_flip_on_the_way_are_read_again(
    host: Host, other: Host, filled: MemoryStore
) -> None:
    store = Flipping(filled, lambda number: number == 1)

    with structlog.testing.capture_logs() as logs:
        other.pull(store)

    assert contents(other.root) == contents(host.root)
    assert set(store.reads.values()) == {2}
    warned = [each["key"] for each in logs if each["event"] == "download.read_again"]
    assert sorted(warned) == sorted(key for key, _ in store.reads)
    assert len(warned) >= 6


def test_what_two_reads_show_is_believed(filled: MemoryStore, disk: Path) -> None:
    store = Flipping(filled, lambda _: True)

    error = require_refused(Host(home=disk / "victim"), store, IntegrityError)

    assert "is damaged" in str(error)
    assert max(store.reads.values()) <= 6, "twice for each of two pulls and a poll"


def test_what_was_right_the_first_time_is_not_written_again(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    """One of many small files in one piece of a pack arrives damaged."""
    host.checkpoint("ckpt-1", {f"{number:03}": noise(3000, number) for number in range(300)})
    host.push(bucket)
    moved: list[int] = []

    store = Flipping(bucket, lambda number: number == 1)
    other.pull(store, progress=moved.append)

    assert list(store.reads.values()) == [2]
    assert sum(moved) == 300 * 3000
    assert contents(other.root) == contents(host.root)


# Pieces of packs


def a_packed_manifest(frames: list[int], *places: tuple[int, int]) -> Manifest:
    """Packs that all have frames of these lengths, and a file at each (object, frame)."""
    objects = tuple(
        StoredObject(
            key=keys.pack(),
            size=sum(frames),
            digest=Digest(bytes(32)),
            codec=Codec.PACK,
            frames=tuple(Frame(each, 4096) for each in frames),
        )
        for _ in range(max((number for number, _ in places), default=0) + 1)
    )
    files = Files()
    for number, place in enumerate(places):
        files.append(f"{number:06}", 100, 0o644, 0, Digest(bytes(32)), Packed(*place, 512))
    return a_manifest(files, objects=objects)


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ((), []),
        (((0, 0),), [(0, 10, [0])]),
        (((0, 2),), [(30, 30, [2])]),
        (((0, 0), (0, 1)), [(0, 30, [0, 1])]),
        (((0, 0), (0, 0), (0, 1)), [(0, 30, [0, 1])]),
        (((0, 0), (0, 2)), [(0, 10, [0]), (30, 30, [2])]),
        (((0, 0), (0, 1), (0, 2)), [(0, 30, [0, 1]), (30, 30, [2])]),
        (((0, 1), (1, 2)), [(10, 20, [1]), (30, 30, [2])]),
        (((0, 2), (1, 0)), [(30, 30, [2]), (0, 10, [0])]),
    ],
)
def test_neighbouring_frames_of_a_pack_are_read_at_once_as_far_as_a_buffer_goes(
    places: tuple[tuple[int, int], ...], expected: list[tuple[int, int, list[int]]]
) -> None:
    manifest = a_packed_manifest([10, 20, 30], *places)

    pieces = list(pack_pieces(manifest, range(len(places)), limit=45))

    found = [(each.start, each.size, [frame for frame, _ in each.frames]) for each in pieces]
    assert found == expected
    files = [number for each in pieces for _, numbers in each.frames for number in numbers]
    assert files == list(range(len(places)))


def test_every_second_frame_of_a_long_pack_is_a_piece_of_its_own() -> None:
    count = 40_000
    manifest = a_packed_manifest([10] * count, *((0, frame) for frame in range(0, count, 2)))

    pieces = list(pack_pieces(manifest, range(count // 2), limit=CHUNK))

    assert [each.start for each in pieces] == list(range(0, 10 * count, 20))
