"""The socket that a daemon listens on, in the directory of its pipeline's state.

Only the user of the daemon can reach it, and root: the directory is private, and so is the socket.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ckptsync.state.directories import make_private, refusal

_NAME: Final = "daemon.sock"


def socket_path(state_dir: Path, pipeline: str) -> Path:
    return state_dir / pipeline / _NAME


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """A short path to a socket; it leads there as long as the block lasts.

    A socket's address has room for 107 bytes, and a state directory may lie deeper than that.
    Raises OSError if its directory cannot be entered.
    """
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


class LocalSocket:
    """Bound, for a server to listen on. Hold the pipeline's lock until it is removed."""

    def __init__(self, path: Path) -> None:
        """Take the place of the socket that a daemon left when it was killed.

        Raises LocalDiskFull, PermissionRefused.
        """
        self._path = path
        make_private(path.parent)
        self.socket: Final = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            path.unlink(missing_ok=True)
            with reachable(path) as short:
                self.socket.bind(short)
                Path(short).chmod(0o600)  # in time: it does not listen yet
        except OSError as error:
            self.socket.close()
            raise refusal(f"cannot create {path}", error) from error

    def remove(self) -> None:
        """Let nobody find it any more; whoever is connected stays so."""
        with suppress(OSError):  # the next daemon replaces what cannot be removed
            self._path.unlink()
