"""Whose price list counts for a bucket."""

from typing import Any

import pytest

from ckptsync.config.model import Sync
from ckptsync.config.prices import Prices, prices


def priced(**sync: Any) -> Prices | None:
    return prices(Sync.model_validate({"bucket": "s3://dr/orders", **sync}))


@pytest.mark.parametrize(
    ("sync", "gib_month"),
    [
        ({}, 0.023),
        ({"endpoint": "https://s3.eu-central-1.amazonaws.com"}, 0.023),
        ({"storage_class": "STANDARD"}, 0.023),
        ({"storage_class": "STANDARD_IA"}, 0.0125),
        ({"bucket": "gs://dr/orders"}, 0.02),
        ({"endpoint": "https://storage.googleapis.com"}, 0.02),
    ],
)
def test_a_known_store_has_its_list(sync: dict[str, Any], gib_month: float) -> None:
    found = priced(**sync)

    assert found is not None
    assert found.gib_month == gib_month
    assert found.storage(10 << 30) == pytest.approx(10 * gib_month)


@pytest.mark.parametrize(
    "sync",
    [
        {"endpoint": "https://minio.example:9000"},
        {"endpoint": "https://amazonaws.com.example"},
        {"endpoint": "https://fakeamazonaws.com"},
        {"storage_class": "INTELLIGENT_TIERING"},
        {"endpoint": "https://storage.googleapis.com", "storage_class": "NEARLINE"},
        {"region": "cn-north-1"},
        {"bucket": "az://dr/orders"},
        {"bucket": "file:///mnt/dr"},
    ],
)
def test_what_is_not_known_is_not_made_up(sync: dict[str, Any]) -> None:
    assert priced(**sync) is None


def test_requests_are_charged_by_the_thousand() -> None:
    found = priced()

    assert found is not None
    assert found.requests(writes=1_000_000, reads=10_000_000) == pytest.approx(5 + 4)
