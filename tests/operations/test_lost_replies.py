"""Swaps whose answer gets lost, and stores that answer wrongly or not at all."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from ckptsync.errors import (
    AccessDenied,
    Cancelled,
    CannotTell,
    CkptsyncError,
    Contention,
    PreconditionFailed,
    Unavailable,
    UnfitStore,
)
from ckptsync.model import ignore
from ckptsync.operations.push import push
from ckptsync.repository import keys
from ckptsync.stores.memory import MemoryStore
from tests.fakes.stores import Call, FaultyStore, LyingStore
from tests.operations.actors import (
    LOST,
    Late,
    Odd,
    Stored,
    Verdict,
)
from tests.operations.invariants import require_sound
from tests.operations.races import READ, SWAP, unavailable
from tests.pipelines import Host, a_small_checkpoint, copy_of, snapshot


def test_a_swap_that_was_stored_but_not_answered_is_reported_as_committed(
    about_to_push: Host, bucket: MemoryStore
) -> None:
    report = about_to_push.push(Odd(bucket, lambda _, call: LOST if call == SWAP else None))

    assert not report.already_synced
    seen = require_sound(bucket)
    assert seen is not None
    assert seen.engine_ids == ("ckpt-1", "ckpt-2")
    assert about_to_push.push(bucket).already_synced


def test_a_swap_that_arrives_after_it_was_missed_commits_once(
    about_to_push: Host, bucket: MemoryStore
) -> None:
    late = Late(bucket)

    report = about_to_push.push(late)

    seen = require_sound(bucket)
    assert seen is not None
    assert seen.engine_ids == ("ckpt-1", "ckpt-2")
    assert seen.head.latest == report.entry.id
    assert late.calls.count(SWAP) == 1


def test_a_swap_that_arrives_after_it_was_missed_goes_back_once(
    about_to_push: Host, bucket: MemoryStore
) -> None:
    about_to_push.push(bucket)
    about_to_push.go_back_to("ckpt-1", bucket)
    late = Late(bucket)

    about_to_push.push(late)

    seen = require_sound(bucket)
    assert seen is not None
    assert [timeline.id for timeline in seen.head.timelines] == [1, 2]
    assert late.calls.count(SWAP) == 1


def test_a_swap_that_was_stored_and_then_refused_is_reported_as_committed(
    about_to_push: Host, bucket: MemoryStore
) -> None:
    """A gateway that repeats a request by itself sees its own write as a conflict."""

    def repeat(_number: int, call: Call) -> Verdict:
        if call != SWAP:
            return None
        swap = PreconditionFailed(bucket.name, "replace", keys.HEAD, "it has changed")
        return Stored(swap)

    report = about_to_push.push(Odd(bucket, repeat))

    seen = require_sound(bucket)
    assert seen is not None
    assert seen.head.latest == report.entry.id


@pytest.mark.parametrize("error", [unavailable(SWAP), Contention("s3", "put", "head.json", "409")])
@pytest.mark.parametrize("times", [1, 3])
def test_a_swap_that_was_not_stored_is_tried_again(
    about_to_push: Host, bucket: MemoryStore, error: CkptsyncError, times: int
) -> None:
    swaps = iter([error] * times)

    about_to_push.push(Odd(bucket, lambda _, call: next(swaps, None) if call == SWAP else None))

    seen = require_sound(bucket)
    assert seen is not None
    assert seen.engine_ids == ("ckpt-1", "ckpt-2")


@pytest.mark.parametrize("stored", [True, False])
def test_where_head_cannot_be_read_back_nothing_is_acknowledged(
    about_to_push: Host, bucket: MemoryStore, stored: bool
) -> None:
    swapped = False

    def decide(_number: int, call: Call) -> Verdict:
        nonlocal swapped
        if call == SWAP:
            swapped = True
            return LOST if stored else unavailable(call)
        return unavailable(call) if swapped and call == READ else None

    with pytest.raises(CannotTell) as caught:
        about_to_push.push(Odd(bucket, decide))
    assert caught.value.exit_code == 16
    assert caught.value.hint is not None

    report = about_to_push.push(bucket)

    assert report.already_synced is stored
    seen = require_sound(bucket)
    assert seen is not None
    assert seen.engine_ids == ("ckpt-1", "ckpt-2"), "committed not exactly once"


def test_where_reading_head_back_is_denied_nothing_is_acknowledged(
    about_to_push: Host, bucket: MemoryStore
) -> None:
    """Credentials may expire between a swap and its read-back."""
    swapped = False

    def decide(_number: int, call: Call) -> Verdict:
        nonlocal swapped
        if call == SWAP:
            swapped = True
            return LOST
        denied = AccessDenied(bucket.name, "read", call.key, "ExpiredToken")
        return denied if swapped and call == READ else None

    with pytest.raises(CannotTell):
        about_to_push.push(Odd(bucket, decide))

    assert about_to_push.push(bucket).already_synced


def test_a_writer_whose_swaps_failed_for_a_whole_day_is_still_the_writer(
    about_to_push: Host, bucket: MemoryStore
) -> None:
    """It must know the write that head carries, however many it intended since."""

    def refuse(_number: int, call: Call) -> Verdict:
        return unavailable(call) if call == SWAP else None

    for _ in range(60):
        with pytest.raises(CannotTell):
            about_to_push.push(Odd(bucket, refuse))

    assert about_to_push.push(bucket).entry.engine_id == "ckpt-2"


_REFUSED: Final = PreconditionFailed("s3://dr/orders", "replace", keys.HEAD, "it has changed")
_UNANSWERED: Final = unavailable(SWAP)


@pytest.mark.parametrize(
    ("answers", "raised"),
    [
        ([_REFUSED], Cancelled),
        ([_UNANSWERED], CannotTell),
        ([_UNANSWERED, _REFUSED], CannotTell),
        ([_REFUSED, _UNANSWERED], CannotTell),
    ],
)
def test_a_stop_after_a_swap_says_nothing_was_committed_only_where_that_is_certain(
    about_to_push: Host,
    bucket: MemoryStore,
    answers: Sequence[CkptsyncError],
    raised: type[CkptsyncError],
) -> None:
    pending = list(answers)
    with about_to_push.running(bucket) as pipeline:

        def decide(_number: int, call: Call) -> Verdict:
            if call != SWAP:
                return None
            if len(pending) == 1:
                pipeline.stop.set()
            return pending.pop(0)

        stopped = replace(pipeline, store=Odd(bucket, decide))
        with pytest.raises(raised) as caught:
            push(stopped, engine_id=None, new_timeline=False, progress=ignore)

    assert ("nothing was committed" in str(caught.value)) is (raised is Cancelled)
    assert about_to_push.push(bucket).entry.engine_id == "ckpt-2"


@pytest.mark.parametrize("verdict", [LOST, unavailable(SWAP)])
def test_an_unanswered_swap_does_not_fail_the_creation_of_a_repository(
    host: Host, bucket: MemoryStore, verdict: Verdict
) -> None:
    host.checkpoint("ckpt-1", a_small_checkpoint())
    verdicts = iter([verdict])

    host.push(Odd(bucket, lambda _, call: next(verdicts, None) if call == SWAP else None))

    seen = require_sound(bucket)
    assert seen is not None
    assert seen.engine_ids == ("ckpt-1",)


def test_a_bucket_that_fails_at_any_call_leaves_nothing_half(
    about_to_push: Host, bucket: MemoryStore, disk: Path
) -> None:
    committed = require_sound(bucket)
    for number in count():
        store, host = copy_of(bucket), about_to_push.copied_to(disk / f"{number}")
        faulty = FaultyStore(store, fail_at={number: unavailable(SWAP)})
        try:
            host.push(faulty)
        except Unavailable:
            assert require_sound(store, since=committed) == committed
        if number >= len(faulty.calls):
            break

        host.push(store)

        seen = require_sound(store, since=committed)
        assert seen is not None
        assert seen.engine_ids == ("ckpt-1", "ckpt-2")


# Stores that ignore conditions


def test_a_store_that_ignores_conditions_is_refused(host: Host, bucket: MemoryStore) -> None:
    host.checkpoint("ckpt-1", a_small_checkpoint())

    for _ in range(2):  # from the probe, then from its record
        with pytest.raises(UnfitStore) as caught:
            host.push(LyingStore(bucket))
        assert caught.value.exit_code == 13

    assert snapshot(bucket) == {}


def test_a_store_that_ignores_conditions_will_do_where_fencing_is_off(
    host: Host, bucket: MemoryStore
) -> None:
    careless = replace(host, fencing=False)
    careless.checkpoint("ckpt-1", a_small_checkpoint())

    careless.push(LyingStore(bucket))

    assert require_sound(bucket) is not None
