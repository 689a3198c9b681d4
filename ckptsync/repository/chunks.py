"""Chunks: pieces of large files, each an object of its own, compressed where that pays."""

from collections.abc import Iterator
from typing import Final

import zstandard

_LEVEL: Final = 1
_SAMPLE: Final = 256 << 10
_PIECE: Final = 1 << 20


def spans(size: int, chunk_size: int) -> Iterator[tuple[int, int]]:
    """(start, length) of every chunk of a file."""
    for start in range(0, size, chunk_size):
        yield start, min(chunk_size, size - start)


def compressible(raw: memoryview) -> bool:
    """Whether a sample of the chunk saves enough."""
    sample = raw[:_SAMPLE]
    return _pays(len(zstandard.compress(sample, _LEVEL)), len(sample))


def compress_in_place(raw: memoryview) -> memoryview | None:
    """Compress a chunk within its own buffer, whose raw bytes are lost by that.

    None if the whole saves too little after all.
    """
    compressor = zstandard.ZstdCompressor(level=_LEVEL).compressobj(size=len(raw))
    written = 0
    for start in range(0, len(raw), _PIECE):
        piece = raw[start : start + _PIECE]
        coded = compressor.compress(piece)
        if written + len(coded) > start + len(piece):
            return None
        raw[written : written + len(coded)] = coded
        written += len(coded)
    coded = compressor.flush()
    if not _pays(written + len(coded), len(raw)):
        return None
    raw[written : written + len(coded)] = coded
    return raw[: written + len(coded)]


def _pays(coded: int, raw: int) -> bool:
    return coded * 100 <= raw * 92
