"""ckptsync.json: what a repository is, and what this version may do with it."""

import json
from typing import Any

import pytest

from ckptsync.errors import IntegrityError, UnsupportedFormat
from ckptsync.hashing import Hash
from ckptsync.repository.descriptor import MIB, Descriptor, decode, encode
from tests.repository.samples import DESCRIPTOR

WHAT = "s3://dr/orders/ckptsync.json"


def changed(**fields: Any) -> bytes:
    return json.dumps({**json.loads(encode(DESCRIPTOR)), **fields}).encode()


@pytest.mark.parametrize("hash_", Hash)
def test_what_is_written_is_read_back(hash_: Hash) -> None:
    descriptor = DESCRIPTOR.model_copy(update={"hash": hash_})

    assert decode(encode(descriptor), WHAT) == descriptor


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", "ckptsync/head"),
        ("repository_id", "orders"),
        ("repository_id", None),
        ("created_at", "2026-11-20T09:30:00"),
        ("hosts", 2),
        ("hash", "md5"),
        ("chunk_size", 4 * MIB + 1),
        ("chunk_size", 2 * MIB),
        ("chunk_size", 1024 * MIB),
        ("chunk_size", "4194304"),
        ("pack_below", -1),
        ("pack_below", 17 * MIB),
        ("pack_below", 4 * MIB),
        ("pack_target", 0),
        ("crypto", {"cipher": "aes"}),
    ],
)
def test_what_makes_no_sense_is_damaged(field: str, value: object) -> None:
    """A file that is packed and does not fit into a chunk's buffer could never be stored."""
    with pytest.raises(IntegrityError, match=f"{WHAT} is damaged"):
        decode(changed(**{field: value}), WHAT)


def test_a_feature_that_reading_needs_is_named_before_anything_else() -> None:
    data = changed(read_features=["encryption"], crypto={"cipher": "aes"}, hash="md5")

    with pytest.raises(UnsupportedFormat, match="reading needs encryption") as caught:
        decode(data, WHAT)

    assert caught.value.exit_code == 2
    assert caught.value.hint == "upgrade ckptsync on this host"


def test_a_feature_that_writing_needs_leaves_reading_allowed() -> None:
    descriptor = decode(changed(write_features=["groups"]), WHAT)

    with pytest.raises(UnsupportedFormat, match="writing needs groups"):
        descriptor.require_writable(WHAT)
    DESCRIPTOR.require_writable(WHAT)


def test_a_newer_version_asks_for_an_upgrade() -> None:
    with pytest.raises(UnsupportedFormat, match="format version 2"):
        decode(changed(version=2), WHAT)


def test_the_largest_files_that_share_packs_fit_into_a_chunk() -> None:
    assert decode(changed(pack_below=2 * MIB), WHAT).pack_below == 2 * MIB
    assert Descriptor.model_fields["chunk_size"].default == 32 * MIB
