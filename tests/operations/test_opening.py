"""What a push looks at before it writes: the descriptor, and what the store can do."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ckptsync.errors import (
    CkptsyncError,
    IntegrityError,
    UnfitStore,
    UnsupportedFormat,
    WrongRepository,
)
from ckptsync.repository import keys
from ckptsync.stores.memory import MemoryStore
from tests.fakes.stores import LyingStore
from tests.operations.races import snapshot_with_probes
from tests.pipelines import Host


def with_descriptor(bucket: MemoryStore, **changes: Any) -> None:
    stored = json.loads(bucket.get(keys.DESCRIPTOR, limit=1 << 20).data)
    bucket.put(keys.DESCRIPTOR, json.dumps(stored | changes).encode())


@pytest.mark.parametrize(
    ("meddle", "raised"),
    [
        (lambda bucket: bucket.delete([keys.DESCRIPTOR]), IntegrityError),
        (lambda bucket: bucket.put(keys.DESCRIPTOR, b"garbage"), IntegrityError),
        (lambda bucket: bucket.put(keys.DESCRIPTOR, b""), IntegrityError),
        (lambda bucket: with_descriptor(bucket, repository_id="x"), IntegrityError),
        (lambda bucket: with_descriptor(bucket, repository_id="0" * 32), IntegrityError),
        (lambda bucket: with_descriptor(bucket, version=2), UnsupportedFormat),
        (lambda bucket: with_descriptor(bucket, read_features=["later"]), UnsupportedFormat),
        (lambda bucket: with_descriptor(bucket, write_features=["later"]), UnsupportedFormat),
        (lambda bucket: with_descriptor(bucket, pipeline="payments"), WrongRepository),
    ],
    ids=[
        "deleted",
        "garbage",
        "cut to nothing",
        "no id",
        "another id",
        "another version",
        "unknown for reading",
        "unknown for writing",
        "another pipeline",
    ],
)
def test_beside_a_descriptor_that_does_not_fit_nothing_is_written(
    about_to_push: Host,
    bucket: MemoryStore,
    meddle: Callable[[MemoryStore], object],
    raised: type[CkptsyncError],
) -> None:
    sound = bucket.get(keys.DESCRIPTOR, limit=1 << 20).data
    meddle(bucket)
    stored = snapshot_with_probes(bucket)
    about_to_probe = replace(about_to_push, place="not probed yet")

    with pytest.raises(raised) as caught:
        about_to_probe.push(bucket)

    assert bucket.name in str(caught.value)
    assert snapshot_with_probes(bucket) == stored
    bucket.put(keys.DESCRIPTOR, sound)
    assert about_to_push.push(bucket).entry.engine_id == "ckpt-2"


def test_what_was_seen_of_one_server_is_not_believed_of_another(
    about_to_push: Host, bucket: MemoryStore
) -> None:
    """The bucket's name leads to a gateway by now, which shows the same objects."""
    stored = snapshot_with_probes(bucket)
    moved = replace(about_to_push, place="s3://dr/orders behind a gateway")

    with pytest.raises(UnfitStore):
        moved.push(LyingStore(bucket))

    changed = {key for key, data in snapshot_with_probes(bucket).items() if stored[key] != data}
    assert changed <= {"probe/host-a.json"}
    assert about_to_push.push(bucket).entry.engine_id == "ckpt-2"
