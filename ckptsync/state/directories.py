"""Files and directories that only this user may enter."""

import errno
import os
from pathlib import Path

from ckptsync.errors import CkptsyncError, LocalDiskFull, PermissionRefused


def make_private(directory: Path) -> None:
    """Create the directory and those above it, where they are missing.

    Raises LocalDiskFull, PermissionRefused.
    """
    try:
        missing = [path for path in (directory, *directory.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir(mode=0o700, exist_ok=True)
            give_to_owner_above(path)
    except OSError as error:
        raise refusal(f"cannot create {directory}", error) from error


def give_to_owner_above(path: Path) -> None:
    """What root makes in the state directory of another user is that user's: a daemon uses it too.

    Raises OSError.
    """
    if os.geteuid() == 0:
        above = path.parent.stat()
        os.chown(path, above.st_uid, above.st_gid, follow_symlinks=False)


def refusal(what: str, error: OSError) -> CkptsyncError:
    """What the operator is told when the system refused something in the state directory."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return LocalDiskFull(f"{what}: no space left on the disk", hint="free some space")
    return PermissionRefused(
        f"{what}: {error.strerror}",
        hint="run ckptsync as the user who owns it, or set daemon.state_dir",
    )
