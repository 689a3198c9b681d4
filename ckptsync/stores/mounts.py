"""What kind of file system a directory store lies on, and whether its locks can be trusted."""

import re
from pathlib import Path, PurePath
from typing import Final

_MOUNTINFO: Final = Path("/proc/self/mountinfo")
_SHARED: Final = re.compile(r"nfs4?|cifs|smb3?|smbfs|9p|ceph|glusterfs|lustre|afs|fuse(blk|\..*)?")
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


def sharing_warning(root: Path, mountinfo: str | None = None) -> str | None:
    """What to tell the operator before using a directory as a bucket; None if all is well.

    `mountinfo` is this process's own unless given.
    """
    if mountinfo is None:
        mountinfo = _MOUNTINFO.read_text(errors="surrogateescape")
    kind = filesystem_of(root.resolve(), mountinfo)
    if kind is None or not _SHARED.fullmatch(kind):
        return None
    return (
        f"{root} lies on {kind}: locks and syncing on network and FUSE file systems may not hold "
        "between hosts, so two primaries might not be told apart; a local disk or S3 is safer"
    )


def filesystem_of(path: PurePath, mountinfo: str) -> str | None:
    """The type of the file system that holds an absolute path, from /proc/self/mountinfo."""
    best: tuple[int, str] | None = None
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        mounted = PurePath(_OCTAL.sub(lambda code: chr(int(code[1], 8)), before.split(" ")[4]))
        # Of equals the later line counts: it was mounted over the earlier one.
        if path.is_relative_to(mounted) and (best is None or len(mounted.parts) >= best[0]):
            best = len(mounted.parts), after.split(" ")[0]
    return best[1] if best else None
