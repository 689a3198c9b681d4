"""What a manifest may ask to be put into a storage root, whatever the layout: from names alone."""

from collections.abc import Iterable, Sequence

from ckptsync.errors import IntegrityError
from ckptsync.model import File


def unfit(message: str) -> IntegrityError:
    """For a checkpoint in a bucket from which no engine could resume."""
    return IntegrityError(message, hint="pull another one with --checkpoint ID")


def require_tree(name: str, files: Iterable[File], directories: Sequence[str]) -> None:
    """Raises IntegrityError unless this is one directory in the storage root, and all in it."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise unfit(f"the checkpoint's name {name!r} cannot name a directory")
    require_directories_below(name, directories)
    empty = not directories
    for file in files:
        empty = False
        require_inside(file.path)
        if not file.path.startswith(f"{name}/"):
            raise unfit(f"the manifest of {name} names {file.path!r}, which is not in it")
    if empty:
        raise unfit(f"the manifest of {name} names nothing in it, not even an empty directory")


def require_inside(path: str) -> None:
    """Raises IntegrityError unless a path stays under the directory it is relative to."""
    if "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise unfit(f"the manifest names the path {path!r}, which leads out of its directory")


def require_directories_below(name: str, directories: Iterable[str]) -> None:
    """Raises IntegrityError unless each is the checkpoint's own directory or lies in it."""
    for directory in directories:
        require_inside(directory)
        if not f"{directory}/".startswith(f"{name}/"):
            raise unfit(
                f"the manifest of {name} names the directory {directory!r}, which is not in it"
            )
