"""The socket file: who can reach it, and what becomes of it."""

import socket
import stat
from pathlib import Path
from typing import Final

import pytest

from ckptsync.api.local_socket import LocalSocket, reachable, socket_path
from ckptsync.errors import PermissionRefused

_DEEP: Final = "d" * 200


def test_the_socket_and_its_directory_are_private(tmp_path: Path) -> None:
    path = socket_path(tmp_path / "state", "orders")

    bound = LocalSocket(path)

    assert stat.S_ISSOCK(path.stat().st_mode)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    bound.socket.close()


@pytest.mark.parametrize("deep", ["", _DEEP, f"{_DEEP}/{_DEEP}/{_DEEP}"])
def test_it_is_reached_however_deep_it_lies(tmp_path: Path, deep: str) -> None:
    path = socket_path(tmp_path / deep, "orders")
    bound = LocalSocket(path)
    bound.socket.listen()

    _connect(path)

    bound.socket.close()


def test_the_socket_of_a_daemon_that_was_killed_is_replaced(tmp_path: Path) -> None:
    path = socket_path(tmp_path, "orders")
    LocalSocket(path).socket.close()  # as the kernel does it; the file stays
    with pytest.raises(ConnectionRefusedError):
        _connect(path)

    bound = LocalSocket(path)
    bound.socket.listen()

    _connect(path)
    bound.socket.close()


def test_nobody_finds_it_once_it_is_removed(tmp_path: Path) -> None:
    path = socket_path(tmp_path, "orders")
    bound = LocalSocket(path)
    bound.socket.listen()

    bound.remove()
    bound.remove()

    with pytest.raises(FileNotFoundError):
        _connect(path)
    bound.socket.close()


def test_what_lies_in_its_place_and_cannot_be_removed_is_told(tmp_path: Path) -> None:
    path = socket_path(tmp_path, "orders")
    path.mkdir(parents=True)

    with pytest.raises(PermissionRefused, match=r"cannot create .*/orders/daemon\.sock: Is a dir"):
        LocalSocket(path)


def _connect(path: Path) -> None:
    with reachable(path) as short, socket.socket(socket.AF_UNIX) as client:
        client.connect(short)
