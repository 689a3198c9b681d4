"""Doctor tells of a prune that failed, and of one that is somebody else's."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ckptsync.errors import AccessDenied, IntegrityError, Refused, Unavailable
from ckptsync.model import ignore
from ckptsync.operations.carry_out import carry_out
from ckptsync.operations.doctor_finding import Finding, Verdict
from ckptsync.operations.doctor_pruning import pruning
from ckptsync.operations.orders import Prune
from ckptsync.operations.standby import Standby
from ckptsync.stores.base import ObjectStore
from ckptsync.stores.memory import MemoryStore
from tests.fakes.stores import FaultyStore
from tests.operations.actors import Odd
from tests.pipelines import Host


def examine(host: Host, store: ObjectStore) -> Finding:
    with host.running(store) as pipeline:
        (finding,) = pruning(pipeline)
    return finding


def prune(host: Host, store: ObjectStore, *, scheduled: bool = False) -> None:
    with host.running(store) as pipeline:
        carry_out(
            pipeline,
            Prune(scheduled=scheduled),
            standby=Standby(pipeline),
            withdraw=threading.Event(),
            progress=ignore,
        )


def test_a_prune_that_failed_is_found_with_its_hint_until_one_succeeds(
    bucket: MemoryStore, host: Host
) -> None:
    host.push_new("ckpt-1", bucket)
    refusal = Refused("that is much", hint="say --yes")
    with pytest.raises(Refused):
        prune(host, FaultyStore(bucket, fail_at={0: refusal}))
    at_once = examine(host, bucket)
    later = examine(replace(host, now=lambda: datetime.now(UTC) + timedelta(minutes=5)), bucket)
    prune(host, bucket)
    after = examine(host, bucket)

    assert (at_once.verdict, at_once.error, at_once.hint) == (Verdict.WARNING, None, "say --yes")
    assert later.detail == "the last prune failed 5m ago: that is much"
    assert after.verdict is Verdict.OK
    assert after.detail.startswith("the last prune: done ")


def test_a_prune_that_failed_without_advice_is_to_be_run_again(
    bucket: MemoryStore, host: Host
) -> None:
    host.push_new("ckpt-1", bucket)
    away = Unavailable(bucket.name, "read", "head.json", "timed out")
    with pytest.raises(Unavailable):
        prune(host, FaultyStore(bucket, fail_at={0: away}))

    assert examine(host, bucket).hint == "ckptsync prune orders"


def test_that_pruning_is_left_to_others_is_a_warning(bucket: MemoryStore, host: Host) -> None:
    host.push_new("ckpt-1", bucket)
    denied = AccessDenied(bucket.name, "delete", "x", "Access Denied")
    locked = Odd(bucket, lambda _number, call: denied if call.method == "delete" else None)
    prune(host, locked, scheduled=True)

    finding = examine(host, bucket)

    assert finding.verdict is Verdict.WARNING
    assert "leaves it to one that may" in finding.detail


def test_without_a_memory_nothing_is_said_of_pruning(bucket: MemoryStore, host: Host) -> None:
    with host.running(bucket) as pipeline:
        state = replace(pipeline.state, missing=IntegrityError("state.sqlite is damaged"))
        assert list(pruning(replace(pipeline, state=state))) == []
