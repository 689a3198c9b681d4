"""The paths that a manifest may name."""

from bisect import bisect_left
from collections.abc import Sequence
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
    parents: set[str] = set(directories)
    for path in (*files, *directories):
        parent = path.rpartition("/")[0]
        while parent and parent not in parents:
            parents.add(parent)
            parent = parent.rpartition("/")[0]
    for directory in parents:
        at = bisect_left(files, directory)
        if at < len(files) and files[at] == directory:
            raise IntegrityError(f"{what} is damaged: {directory!r:.80} is a file and a directory")
