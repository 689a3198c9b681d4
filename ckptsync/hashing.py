"""Content digests: BLAKE3 with 256 bits, or SHA-256 where a policy demands it."""

import hashlib
from collections.abc import Iterable
from enum import StrEnum
from typing import NewType, Protocol

from blake3 import blake3

Digest = NewType("Digest", bytes)
"""32 raw bytes; lower-case hex wherever a person or a file format sees it."""

DIGEST_SIZE = 32


class Hasher(Protocol):
    def update(self, data: bytes | bytearray | memoryview, /) -> object: ...
    def digest(self) -> bytes: ...


class Hash(StrEnum):
    """The hash function of a repository, chosen when it is created."""

    BLAKE3 = "blake3"
    SHA256 = "sha256"

    def new(self) -> Hasher:
        return blake3() if self is Hash.BLAKE3 else hashlib.sha256()

    def of(self, data: bytes | bytearray | memoryview) -> Digest:
        hasher = self.new()
        hasher.update(data)
        return Digest(hasher.digest())

    def of_file(self, chunks: Iterable[Digest]) -> Digest:
        """The digest of a file from those of its chunks.

        One chunk: that chunk's. Several: the digest over their concatenation, so that no byte
        is hashed twice. None: that of no bytes.
        """
        digests = list(chunks)
        return digests[0] if len(digests) == 1 else self.of(b"".join(digests))
