"""What is called the latest: one rule for pull and show, and a list in spite of it."""

from collections.abc import Callable
from typing import Any

import pytest

from ckptsync.errors import IntegrityError
from ckptsync.operations import resolve
from ckptsync.operations.listing import details, stored
from ckptsync.repository.head import Entry, Head
from ckptsync.repository.repository import Repository, look
from ckptsync.stores.memory import MemoryStore
from tests.operations.actors import edit_head
from tests.pipelines import Host, contents, copy_of, snapshot, wanted

Edit = Callable[[Head], dict[str, Any]]


def with_state(head: Head, state: str) -> tuple[Entry, ...]:
    *others, newest = head.checkpoints
    return (*others, newest.model_copy(update={"state": state}))


UNTRUE: dict[str, Edit] = {
    "which is bad": lambda head: {"checkpoints": with_state(head, "bad")},
    "which is retired": lambda head: {"checkpoints": with_state(head, "retired")},
    "which is not among the checkpoints": lambda head: {"checkpoints": head.checkpoints[:-1]},
    "latest is null, though checkpoint": lambda _: {"latest": None},
    "latest is null: it names no live": lambda head: {"latest": None, "checkpoints": ()},
    "did not come from": lambda head: {
        "timeline": 2,
        "timelines": (*head.timelines, head.timelines[0].model_copy(update={"id": 2})),
    },
}


@pytest.mark.parametrize("told", UNTRUE)
def test_a_latest_that_cannot_be_it_is_an_integrity_error_for_pull_and_show(
    host: Host, other: Host, bucket: MemoryStore, told: str
) -> None:
    for number in (1, 2):
        host.push_new(f"ckpt-{number}", bucket)
    edit_head(bucket, **UNTRUE[told](edit_head(bucket)))
    seed = copy_of(bucket)

    for store, read_store in ((bucket, None), (MemoryStore(), seed)):
        with pytest.raises(IntegrityError, match=told) as caught:
            other.pull(store, wanted(), read_store=read_store)
        assert "head.json" in str(caught.value)
        assert caught.value.hint is not None
        assert "--checkpoint ID" in caught.value.hint
        with other.running(store, read_store) as pipeline:
            with pytest.raises(IntegrityError, match=told):
                details(pipeline, "latest")
            listed = stored(pipeline)
        assert len(listed.entries) == len(edit_head(seed).checkpoints)
        assert listed.latest is None
    assert not list(other.root.glob("*"))


def test_an_older_one_can_still_be_pulled_by_name(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    host.push_new("ckpt-1", bucket)
    host.push_new("ckpt-2", bucket)
    edit_head(bucket, checkpoints=with_state(edit_head(bucket), "bad"))

    assert other.restore(bucket, wanted("ckpt-1")).entry.engine_id == "ckpt-1"


def forked(host: Host, bucket: MemoryStore) -> Repository:
    """Three checkpoints, then one on a timeline that began at the second."""
    for number in (1, 2, 3):
        host.push_new(f"ckpt-{number}", bucket)
    host.go_back_to("ckpt-2", bucket)
    host.push_new("ckpt-4", bucket)
    found = look(bucket)
    assert isinstance(found, tuple)
    return found[0]


def test_behind_a_fork_lie_its_point_and_what_came_before_it(
    host: Host, bucket: MemoryStore
) -> None:
    repository = forked(host, bucket)

    found = resolve.candidates(repository, repository.head().head, "latest")

    assert [each.engine_id for each in found] == ["ckpt-4", "ckpt-2", "ckpt-1"]


def test_a_replica_that_lags_behind_a_fork_gives_the_fork_point(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    repository = forked(host, bucket)
    *older, newest = (
        {each.key for each in repository.manifest(entry).objects}
        for entry in repository.head().head.checkpoints
    )
    bucket.delete([max(newest.difference(*older))])
    kept = snapshot(bucket)

    restored = other.restore(MemoryStore(), read_store=bucket)

    assert restored.entry.engine_id == "ckpt-2"
    assert contents(other.root / "ckpt-2") == contents(host.root / "ckpt-2")
    assert snapshot(bucket) == kept
