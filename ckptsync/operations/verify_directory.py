"""Verify a restored directory against its manifest, without a bucket and without a network."""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final

from ckptsync.errors import SourceError
from ckptsync.hashing import Digest
from ckptsync.model import CheckpointId, Progress
from ckptsync.operations.target import descriptor_beside, manifest_beside
from ckptsync.repository import chunks, keys, manifest_reader
from ckptsync.repository import descriptor as descriptors
from ckptsync.repository.descriptor import Descriptor
from ckptsync.repository.files import Chunked, FileEntry
from ckptsync.repository.manifest import Manifest
from ckptsync.sources.faults import explained
from ckptsync.sources.layouts import Options, layout
from ckptsync.sources.opening import READ

_PIECE: Final = 1 << 20

_ONLY_ELSEWHERE: Final = (
    "only 'ckptsync pull --to DIR' puts it there, a pull in place does not; "
    "or name a manifest of a copy of the bucket with --manifest"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryReport:
    checkpoint: CheckpointId
    problems: tuple[str, ...]
    """Sentences, each about one path relative to the directory."""
    files: int
    """That the manifest names."""
    bytes: int
    """Read."""
    seconds: float

    @property
    def sound(self) -> bool:
        return not self.problems


def verify_directory(
    directory: Path, manifest_path: Path | None, *, progress: Progress
) -> DirectoryReport:
    """Compare a directory with a stored manifest, by default the one that a pull put beside it.

    Every file is read; nothing may be missing or too much but for what the layout derives from
    the checkpoint. Progress gets the bytes read; raising Cancelled ends the run.

    Raises SourceError if the directory or the manifest is not there; IntegrityError if the
    manifest is damaged; ConfigError if its layout is not installed; UnsupportedFormat,
    PermissionRefused.
    """
    started = monotonic()
    directory = directory.absolute()
    with explained(directory, "examined"):
        if not directory.is_dir():
            raise SourceError(f"{directory} is not a directory")
    path = manifest_path or manifest_beside(directory)
    descriptor = _descriptor(directory, manifest_path)
    expected = manifest_reader.decode(_read(path), descriptor, str(path))
    comparison = _Comparison(directory, expected, descriptor, progress)
    problems = tuple(comparison.problems())
    return DirectoryReport(
        checkpoint=expected.checkpoint,
        problems=problems,
        files=len(expected.files),
        bytes=comparison.read,
        seconds=monotonic() - started,
    )


def _descriptor(directory: Path, manifest_path: Path | None) -> Descriptor:
    """From beside the directory; with a manifest of its own from beside that.

    Above it, too, where a copy of a bucket has it.
    """
    near = () if manifest_path is None else manifest_path.absolute().parents[:2]
    candidates = (*(each / keys.DESCRIPTOR for each in near), descriptor_beside(directory))
    with explained(candidates[-1], "examined"):
        found = next((each for each in candidates if each.is_file()), None)
    if found is None:
        raise SourceError(
            f"{candidates[-1]} is not there: without the repository's descriptor it is not known "
            "how the digests in the manifest are to be read",
            hint=_ONLY_ELSEWHERE,
        )
    return descriptors.decode(_read(found), str(found))


def _read(path: Path) -> bytes:
    with explained(path, "read"):
        if path.is_file():
            return path.read_bytes()
    raise SourceError(
        f"{path} is not there",
        hint=_ONLY_ELSEWHERE,
    )


class _Comparison:
    def __init__(
        self, directory: Path, expected: Manifest, descriptor: Descriptor, progress: Progress
    ) -> None:
        self.read = 0
        self._directory = directory
        self._expected = expected
        self._hash = descriptor.hash
        self._chunk_size = descriptor.chunk_size
        self._progress = progress
        self._piece = memoryview(bytearray(_PIECE))

    def problems(self) -> Iterator[str]:
        expected = self._expected
        files, directories = _tree(self._directory)
        for entry in expected.files:
            facts = files.pop(entry.path, None)
            if facts is None:
                yield f"{entry.path} is missing"
            else:
                yield from self._compare(entry, facts)
        written_by = layout(expected.engine.layout, Options(root=self._directory))
        derived = written_by.derived(expected.engine, expected.files, self._hash)
        for path, digest in derived.items():
            facts = files.pop(path, None)
            if digest is not None and not self._holds(path, facts, digest):
                yield f"{path} is not what follows from the checkpoint"
        for path in expected.directories:
            if path not in directories:
                yield f"{path}/ is missing"
        pushed = set(expected.directories)
        unexpected = (path for path, empty in directories.items() if empty and path not in pushed)
        for path in (*files, *(f"{path}/" for path in unexpected)):
            yield f"{_printable(path)} is not in the checkpoint"

    def _holds(self, path: str, facts: os.stat_result | None, digest: Digest) -> bool:
        regular = facts is not None and stat.S_ISREG(facts.st_mode)
        return regular and self._hash.of_file(self._chunks(path)) == digest

    def _compare(self, entry: FileEntry, facts: os.stat_result) -> Iterator[str]:
        if not stat.S_ISREG(facts.st_mode):
            yield f"{entry.path} is not a regular file"
            return
        mode = stat.S_IMODE(facts.st_mode)
        if mode != entry.mode:
            yield f"{entry.path} has mode {mode:04o}, where {entry.mode:04o} was pushed"
        if facts.st_size != entry.size:
            yield f"{entry.path} has {facts.st_size:,} bytes, where {entry.size:,} were pushed"
            return
        found = self._chunks(entry.path)
        if self._hash.of_file(found) != entry.digest:
            yield f"{entry.path} holds other bytes than were pushed{self._where(entry, found)}"

    def _where(self, entry: FileEntry, found: Sequence[Digest]) -> str:
        """The first chunk of a file of several that differs."""
        if not isinstance(entry.location, Chunked) or len(found) == 1:
            return ""
        spans = chunks.spans(entry.size, self._chunk_size)
        for (start, length), digest, (_, pushed) in zip(
            spans, found, entry.location.chunks, strict=True
        ):
            if digest != pushed:
                return f", first between byte {start:,} and {start + length:,}"
        return ""

    def _chunks(self, path: str) -> Sequence[Digest]:
        """Read a file, a piece at a time. Raises Vanished, SourceError, PermissionRefused."""
        digests: list[Digest] = []
        with explained(self._directory / path, "read"):
            descriptor = os.open(self._directory / path, READ)
            try:
                for start, length in chunks.spans(os.fstat(descriptor).st_size, self._chunk_size):
                    digests.append(self._chunk(descriptor, start, start + length))
            finally:
                os.close(descriptor)
        return digests

    def _chunk(self, descriptor: int, start: int, end: int) -> Digest:
        hasher = self._hash.new()
        while count := os.preadv(descriptor, [self._piece[: end - start]], start):
            hasher.update(self._piece[:count])
            self._progress(count)
            self.read += count
            start += count
        return Digest(hasher.digest())


def _tree(top: Path) -> tuple[dict[str, os.stat_result], dict[str, bool]]:
    """What is no directory, with its facts; and the directories, each with whether it is empty.

    Sorted by path. Raises PermissionRefused.
    """
    files: dict[str, os.stat_result] = {}
    directories: dict[str, bool] = {}
    pending = [""]
    while pending:
        directory = pending.pop()
        with explained(top / directory, "listed"), os.scandir(top / directory) as entries:
            empty = True
            for entry in entries:
                empty = False
                path = f"{directory}/{entry.name}".removeprefix("/")
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)
                else:
                    files[path] = entry.stat(follow_symlinks=False)
        if directory:
            directories[directory] = empty
    return dict(sorted(files.items())), dict(sorted(directories.items()))


def _printable(path: str) -> str:
    return os.fsencode(path).decode(errors="backslashreplace")
