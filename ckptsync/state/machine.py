"""Telling a host from a copy of it: a cloned disk, a copied state directory, a restored image."""

import hashlib
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

_ID: Final = Path("/etc/machine-id")
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


def machine(database: Path) -> str:
    """The same for every process that uses this very file on this host until it boots again.

    A copied disk keeps the machine's id and the file's number, but not the boot; a copied state
    directory keeps neither number.
    """
    facts = [_ID.read_text().strip() if _ID.exists() else socket.gethostname()]
    facts.append(_BOOT.read_text().strip())
    with suppress(OSError):  # it is not there, or not this user's
        status = database.stat()
        facts.append(f"{status.st_dev}:{status.st_ino}")
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:32]
