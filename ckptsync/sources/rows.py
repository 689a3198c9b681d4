"""What is known of each file of a pinned checkpoint, packed: there may be millions."""

import os
import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

UNHELD: Final = -1

_PACKED: Final = struct.Struct("<iHB5q")


class Row(NamedTuple):
    """A file as it was when it was opened."""

    descriptor: int
    """UNHELD where it is opened again for each read."""
    mode: int
    shared: bool
    size: int
    mtime_ns: int
    ctime_ns: int
    device: int
    inode: int

    @classmethod
    def of(cls, descriptor: int, facts: os.stat_result, *, loose: bool) -> "Row":
        return cls(
            descriptor,
            facts.st_mode & 0o777,
            loose or facts.st_nlink > 1,
            facts.st_size,
            facts.st_mtime_ns,
            facts.st_ctime_ns,
            facts.st_dev,
            facts.st_ino,
        )

    def still(self, facts: os.stat_result) -> bool:
        """Whether the file is unchanged. Deleting a name changes ctime and the links: not asked."""
        return (
            facts.st_size == self.size
            and facts.st_mtime_ns == self.mtime_ns
            and facts.st_ino == self.inode
            and facts.st_dev == self.device
        )


class Rows(Sequence[Row]):
    """55 bytes a file beyond its path."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self._packed = bytearray()

    def append(self, path: str, row: Row) -> None:
        self.paths.append(path)
        self._packed += _PACKED.pack(*row)

    def sort(self) -> None:
        """By path."""
        order = sorted(range(len(self.paths)), key=self.paths.__getitem__)
        size, packed = _PACKED.size, self._packed
        self._packed = bytearray(len(packed))
        for place, at in enumerate(order):
            self._packed[place * size : (place + 1) * size] = packed[at * size : (at + 1) * size]
        self.paths = [self.paths[at] for at in order]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Row:  # type: ignore[override] # slices are not needed
        if not 0 <= number < len(self.paths):
            raise IndexError(number)
        return Row(*_PACKED.unpack_from(self._packed, number * _PACKED.size))

    def __iter__(self) -> Iterator[Row]:
        return map(Row._make, _PACKED.iter_unpack(self._packed))
