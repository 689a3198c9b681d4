"""One large file, and very many small ones, with the settings that a repository has by default."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from blake3 import blake3

from ckptsync.stores.local import LocalStore
from tests.pipelines import KIB, MIB, Host, noise

_LARGE: Final = 2 << 30


@pytest.fixture
def bucket(tmp_path: Path) -> LocalStore:
    (tmp_path / "bucket").mkdir()
    return LocalStore(tmp_path / "bucket")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(home=tmp_path / "host", chunk_size=32 * MIB, pack_below=MIB)


def digests(top: Path) -> dict[str, str]:
    files = (path for path in top.rglob("*") if path.is_file())
    return {
        path.relative_to(top).as_posix(): blake3().update_mmap(path).hexdigest() for path in files
    }


def require_roundtrip(host: Host, bucket: LocalStore) -> None:
    pushed = host.push(bucket)
    reader = replace(host, home=host.home.parent / "reader")
    reader.restore(bucket)

    restored = digests(reader.root)
    assert restored == digests(host.root)
    assert len(restored) == pushed.files


def test_a_file_of_two_gibibytes_comes_back(host: Host, bucket: LocalStore) -> None:
    block = noise(MIB)
    host.root.joinpath("ckpt-1").mkdir(parents=True)
    with (host.root / "ckpt-1" / "large").open("wb") as file:
        for number in range(_LARGE // MIB):  # every block another one, none compressible
            file.write(block[number:] + block[:number])

    require_roundtrip(host, bucket)


def test_ten_thousand_files_of_eight_kibibytes_come_back(host: Host, bucket: LocalStore) -> None:
    host.checkpoint("ckpt-1", {f"{n % 100}/{n}": noise(8 * KIB, n) for n in range(10_000)})

    require_roundtrip(host, bucket)
