"""The names of objects, read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptsync.repository import keys
from tests.repository.samples import an_id


@given(st.integers(0, 2**63 - 1))
def test_the_name_of_a_condemned_list_tells_its_generation(generation: int) -> None:
    key = keys.condemned(generation)

    found = keys.CONDEMNED_PATTERN.fullmatch(key)

    assert found is not None
    assert int(found[1]) == generation
    assert key != keys.condemned(generation)


def test_the_name_of_a_manifest_tells_its_checkpoint() -> None:
    assert keys.checkpoint_of(keys.manifest(an_id(7))) == an_id(7)


@pytest.mark.parametrize(
    "key",
    [
        an_id(7),
        f"manifests/{an_id(7)}",
        f"{an_id(7)}.json.zst",
        f"manifests/manifests/{an_id(7)}.json.zst",
        f"manifests/{an_id(7)}.json.zst.json.zst",
        f"manifests/{an_id(7)}x.json.zst",
        f"manifests/{an_id(7)}\n.json.zst",
        f"manifests/{an_id(0xABC).upper()}.json.zst",
        "manifests/.json.zst",
        f"catalog/{an_id(7)}.json.zst",
    ],
)
def test_no_other_name_tells_a_checkpoint(key: str) -> None:
    assert keys.checkpoint_of(key) is None
