"""The paths that a manifest may name."""

from collections.abc import Sequence
from heapq import merge
from itertools import pairwise
from typing import Final

from ckptsync.errors import IntegrityError

MAX_PATH: Final = 4096
"""Bytes of UTF-8."""


def check(path: object, what: str) -> str:
    """Return the path if it stays inside whatever root it is joined to.

    Relative, `/`-separated, and no part is empty, `.` or `..`. Raises IntegrityError.
    """
    if not isinstance(path, str):
        raise IntegrityError(f"{what} is damaged: a path is not text: {path!r:.80}")
    try:
        length = len(path.encode())
    except UnicodeEncodeError:
        raise IntegrityError(f"{what} names a path that is not UTF-8: {path!a:.80}") from None
    unsafe = (
        not 0 < length <= MAX_PATH
        or "\0" in path
        or "\\" in path
        or any(part in ("", ".", "..") for part in path.split("/"))
    )
    if unsafe:
        raise IntegrityError(f"{what} names an unsafe path: {path!r:.80}")
    return path


def check_tree(files: Sequence[str], directories: Sequence[str], what: str) -> None:
    """Raises IntegrityError unless both are strictly sorted and no path is two things.

    Sorted means by code point; a file is never also a directory, given or implied.
    """
    for paths in (files, directories):
        for before, after in pairwise(paths):
            if before >= after:
                raise IntegrityError(
                    f"{what} is damaged: {after!r:.80} is out of order or there twice"
                )
    declared = frozenset(directories)
    both = next(iter(declared.intersection(files)), None)
    if both is not None:
        raise IntegrityError(f"{what} is damaged: {both!r:.80} is a file and a directory")
    # The paths that begin with a file's stand right behind it, so the files that begin the
    # current path are a stack. Those below its top were compared with the top when that came.
    beginning: list[str] = []
    for path in merge(files, directories):
        while beginning and not path.startswith(beginning[-1]):
            beginning.pop()
        if beginning and path[len(beginning[-1])] == "/":
            raise IntegrityError(
                f"{what} is damaged: {beginning[-1]!r:.80} is a file and a directory"
            )
        if path not in declared:
            beginning.append(path)
