"""What an error of the operating system means to the operator."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ckptsync.errors import CkptsyncError, LocalDiskFull, PermissionRefused, SourceError, Vanished


@contextmanager
def explained(path: Path, doing: str) -> Iterator[None]:
    """Turn an OSError of the block into one of our errors; `doing` is a participle."""
    try:
        yield
    except OSError as error:
        raise explain(error, path, doing) from error


@contextmanager
def creating(path: Path) -> Iterator[None]:
    """As `explained`, where it is the parent directory that must be there, not the path."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _uncreatable(path) from error
    except OSError as error:
        raise explain(error, path, "created") from error


def explain(error: OSError, path: Path, doing: str) -> CkptsyncError:
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR | errno.ESTALE:
            return Vanished(f"{path} was gone when it should be {doing}")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return PermissionRefused(
                f"{path} cannot be {doing}: {error.strerror}",
                hint="run ckptsync as the user of the pipeline, or grant it access",
            )
        case errno.ELOOP:
            return SourceError(f"{path} cannot be {doing}: it is a symbolic link")
        case errno.EFBIG:
            return SourceError(
                f"{path} cannot be {doing}: no file may be that large here",
                hint="raise the limit of file sizes (ulimit -f) or use another filesystem",
            )
        case errno.ENOSPC | errno.EDQUOT:
            return LocalDiskFull(
                f"{path} cannot be {doing}: {error.strerror}", hint="free some space"
            )
        case errno.EMFILE | errno.ENFILE:
            return SourceError(
                f"{path} cannot be {doing}: {error.strerror}",
                hint="raise the limit of open files (LimitNOFILE in the unit)",
            )
        case errno.EXDEV:
            return SourceError(
                f"{path} cannot be {doing}: the work directory is on another filesystem",
                hint="set work_path to a directory on the filesystem of storage_path",
            )
        case _:
            return SourceError(f"{path} cannot be {doing}: {error.strerror or error}")


def _uncreatable(path: Path) -> SourceError:
    if path.parent.is_dir():
        return SourceError(
            f"{path} cannot be created: {path.parent} takes no new files or directories",
            hint="use a directory of an ordinary filesystem",
        )
    return SourceError(
        f"{path} cannot be created: its parent directory is not there",
        hint=f"mount its disk, or create {path.parent}",
    )
