"""A checkpoint whose every file was opened before a byte of it is read.

An engine deletes by unlinking, so an open descriptor keeps the bytes whatever becomes of the name.
"""

import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ckptsync.errors import Vanished
from ckptsync.model import LocalCheckpoint
from ckptsync.sources.base import PinnedFile
from ckptsync.sources.faults import explain
from ckptsync.sources.opening import LIST, READ, Opening
from ckptsync.sources.rows import UNHELD, Row, Rows

SETTLED_NS: Final = 2_000_000_000

STAT_KEY: Final = struct.Struct("<5q")  # device, inode, size, mtime_ns, ctime_ns


def keep_all(_name: str) -> bool:
    """A `skip` that skips nothing."""
    return False


class OpenFiles:
    """A Pinned. Close it only when no thread reads from it any more.

    Files beyond the limit of open files are opened again for each read, and known by device,
    inode, size and time; what the engine deletes of these raises Vanished.
    """

    def __init__(
        self,
        root: Path,
        checkpoint: LocalCheckpoint,
        *,
        tree: str,
        loose: Iterable[str] = (),
        skip: Callable[[str], bool] = keep_all,
        immutable: bool,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Open the directory `tree` with all that is in it, and the files `loose`, under root.

        `immutable` promises that nobody writes into a file of a complete checkpoint. It is taken
        for granted of files with several hard links; these and the loose ones count as shared.

        Raises Vanished if a file is gone, SourceError for what is not a regular file.
        """
        self._checkpoint = checkpoint
        self._root = root
        self._immutable = immutable
        try:
            self._root_descriptor = os.open(root, LIST & ~os.O_NOFOLLOW)
        except OSError as error:
            raise explain(error, root, "opened") from error
        opening = Opening(root, self._root_descriptor)
        self._rows = opening.rows
        self._empty = opening.empty
        try:
            opening.tree(tree, skip)
            opening.loose(loose)
        except BaseException:
            self.close()
            raise
        self._rows.sort()
        self._empty.sort()
        self._pinned_ns = now_ns()

    @property
    def checkpoint(self) -> LocalCheckpoint:
        return self._checkpoint

    @property
    def files(self) -> Sequence[PinnedFile]:
        return _Files(self._rows)

    @property
    def directories(self) -> Sequence[str]:
        return self._empty

    @property
    def paths(self) -> Sequence[str]:
        """Those of `files`."""
        return self._rows.paths

    def stat_key(self, file: PinnedFile) -> bytes | None:
        """Device, inode, size, mtime and, unless the file is immutable, ctime: links change it."""
        row = self._rows[file.number]
        if self._immutable or row.shared:
            ctime_ns = 0
        elif self._pinned_ns - row.mtime_ns < SETTLED_NS:
            return None  # a write within the clock's granularity would not show
        else:
            ctime_ns = row.ctime_ns
        return STAT_KEY.pack(row.device, row.inode, row.size, row.mtime_ns, ctime_ns)

    def read_into(self, file: PinnedFile, start: int, into: memoryview) -> None:
        row = self._rows[file.number]
        descriptor = row.descriptor if row.descriptor != UNHELD else self._reopen(file.path, row)
        try:
            self._fill(descriptor, file, start, into)
        except OSError as error:
            raise explain(error, self._root / file.path, "read") from error
        finally:
            if row.descriptor == UNHELD:
                os.close(descriptor)

    def confirm(self) -> None:
        for path, row in zip(self._rows.paths, self._rows, strict=True):
            try:
                if row.descriptor == UNHELD:
                    facts = os.stat(path, dir_fd=self._root_descriptor, follow_symlinks=False)
                else:
                    facts = os.fstat(row.descriptor)
            except OSError as error:
                raise explain(error, self._root / path, "confirmed") from error
            if not row.still(facts):
                raise self._changed(path)

    def close(self) -> None:
        rows, self._rows = self._rows, Rows()
        for row in rows:
            if row.descriptor != UNHELD:
                os.close(row.descriptor)
        if self._root_descriptor != UNHELD:
            os.close(self._root_descriptor)
            self._root_descriptor = UNHELD

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def _fill(self, descriptor: int, file: PinnedFile, start: int, into: memoryview) -> None:
        filled = 0
        while filled < len(into):
            count = os.preadv(descriptor, [into[filled:]], start + filled)
            if count == 0:
                raise Vanished(
                    f"{self._root / file.path} ends at byte {start + filled:,}; it had "
                    f"{file.size:,} bytes when it was opened"
                )
            filled += count

    def _reopen(self, path: str, row: Row) -> int:
        try:
            descriptor = os.open(path, READ, dir_fd=self._root_descriptor)
        except OSError as error:
            raise explain(error, self._root / path, "opened again") from error
        if not row.still(os.fstat(descriptor)):
            os.close(descriptor)
            raise self._changed(path)
        return descriptor

    def _changed(self, path: str) -> Vanished:
        return Vanished(
            f"{self._root / path} changed after it was opened; the next try starts over"
        )


class _Files(Sequence[PinnedFile]):
    """Makes each PinnedFile when it is asked for."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> PinnedFile:  # type: ignore[override] # no slices
        return _pinned_file(number, self._rows.paths[number], self._rows[number])

    def __iter__(self) -> Iterator[PinnedFile]:
        for number, (path, row) in enumerate(zip(self._rows.paths, self._rows, strict=True)):
            yield _pinned_file(number, path, row)


def _pinned_file(number: int, path: str, row: Row) -> PinnedFile:
    return PinnedFile(
        number=number,
        path=path,
        size=row.size,
        mode=row.mode,
        mtime_ns=row.mtime_ns,
        shared=bool(row.shared),
    )
