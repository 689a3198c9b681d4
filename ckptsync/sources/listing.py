"""Listing directories of the storage root."""

from pathlib import Path

from ckptsync.errors import SourceError
from ckptsync.sources.faults import explained


def require_root(root: Path) -> None:
    """Raises SourceError unless the storage root is a directory; PermissionRefused."""
    with explained(root, "examined"):
        if root.is_dir():
            return
        problem = "is not a directory" if root.exists() else "does not exist"
    raise SourceError(
        f"the storage root {root} {problem}",
        hint="check storage_path, and that its disk is mounted",
    )


def names(directory: Path) -> frozenset[str]:
    """Raises Vanished."""
    with explained(directory, "listed"):
        return frozenset(path.name for path in directory.iterdir())
