"""What status says, and what it does not claim to know."""

import json
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from ckptsync.errors import (
    AccessDenied,
    CannotTell,
    CkptsyncError,
    Diverged,
    Fenced,
    HeadLost,
    IntegrityError,
    RollbackDetected,
    SourceError,
    Stopped,
    Unavailable,
    WrongRepository,
)
from ckptsync.model import Role, ignore
from ckptsync.operations.carry_out import carry_out
from ckptsync.operations.orders import Prune
from ckptsync.operations.pipeline import StandbySettings
from ckptsync.operations.roles import become
from ckptsync.operations.standby import Standby
from ckptsync.operations.status import BucketStatus, Memory, Status, status
from ckptsync.repository import keys
from ckptsync.repository.head import Entry, Keep
from ckptsync.repository.repository import read_head
from ckptsync.state.activation import Activation, Stage
from ckptsync.state.history import Outcome
from ckptsync.state.role import RoleChange
from ckptsync.state.switchover import Handover, HandoverStage
from ckptsync.state.warm import Warm
from ckptsync.stores.base import ObjectStore
from ckptsync.stores.local import LocalStore
from ckptsync.stores.memory import MemoryStore
from ckptsync.stores.s3 import S3Options, S3Store
from tests.operations import forgetting
from tests.operations.actors import Odd, before, edit_head, take_over
from tests.pipelines import Host
from tests.servers import free_ports

NOON: Final = datetime(2026, 11, 20, 12, tzinfo=UTC)


def _status(host: Host, store: ObjectStore) -> Status:
    with host.running(store) as pipeline:
        return status(pipeline)


def _bucket(found: Status) -> BucketStatus:
    assert isinstance(found.bucket, BucketStatus)
    return found.bucket


def _memory(found: Status) -> Memory:
    assert isinstance(found.memory, Memory)
    return found.memory


def _put_in(host: Host, role: Role, reason: str | None = None) -> RoleChange:
    change = RoleChange(role=role, at=NOON, epoch=1, reason=reason, problem=None)
    with host.running(MemoryStore()) as pipeline:
        pipeline.state.roles.change(change)
    return change


def _warm(host: Host, entry: Entry) -> None:
    with host.running(MemoryStore()) as pipeline:
        pipeline.state.warm.add(
            Warm(
                checkpoint_id=entry.id,
                entry=entry.model_dump_json(),
                revision=1,
                descriptor=b"",
                manifest=b"",
                source="s3://dr/orders",
                read_only=False,
                complete_at=NOON,
            ),
            keep=2,
        )


def test_an_empty_bucket_is_said_to_be_empty(tmp_path: Path) -> None:
    found = _status(Host(home=tmp_path), MemoryStore())

    assert found.bucket == BucketStatus()
    assert (found.local, found.unpushed, found.problem) == ((), (), None)


def test_a_store_that_does_not_answer_is_never_empty(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    away = S3Store(
        S3Options(bucket="b", endpoint=f"http://127.0.0.1:{port}", access_key="a", secret_key="s")
    )

    found = _status(Host(home=tmp_path), away)
    away.close()

    assert not isinstance(found.bucket, BucketStatus)
    assert found.unpushed is None
    assert isinstance(found.problem, CannotTell)


def test_a_lost_head_is_damage_and_not_emptiness(tmp_path: Path) -> None:
    host, store = Host(home=tmp_path), MemoryStore()
    host.push_new("step-1", store)
    store.delete([keys.HEAD])

    assert isinstance(_status(host, store).problem, HeadLost)


def test_a_bucket_that_went_back_in_time_is_shown_and_not_trusted(tmp_path: Path) -> None:
    host, store = Host(home=tmp_path), MemoryStore()
    host.push_new("step-1", store)
    old = store.get(keys.HEAD, limit=1 << 20).data
    newer = host.push_new("step-2", store)
    store.put(keys.HEAD, old)

    found = _status(host, store)

    assert isinstance(found.problem, RollbackDetected)
    latest = _bucket(found).latest
    assert latest is not None
    assert latest.id != newer.id


def test_a_push_meanwhile_is_no_journey_back_in_time(tmp_path: Path) -> None:
    host, store = Host(home=tmp_path), MemoryStore()
    host.push_new("step-1", store)
    pushed_meanwhile = Odd(store, before(1, lambda: host.push_new("step-2", store)))

    found = _status(host, pushed_meanwhile)

    assert [call.key for call in pushed_meanwhile.calls[:2]] == [keys.HEAD, keys.DESCRIPTOR]
    assert found.problem is None
    assert _bucket(found).is_writer


def test_a_bucket_that_was_emptied_lost_its_list(tmp_path: Path) -> None:
    host = Host(home=tmp_path)
    host.push_new("step-1", MemoryStore())

    found = _status(host, MemoryStore())

    assert isinstance(found.problem, HeadLost)
    assert "lost, not empty" in str(found.problem)
    assert found.unpushed is None


def test_a_repository_without_a_checkpoint_can_be_another_pipelines(tmp_path: Path) -> None:
    store = MemoryStore()
    Host(home=tmp_path / "a").push_new("step-1", store)
    store.delete([info.key for info in store.walk("") if info.key != keys.DESCRIPTOR])

    found = _status(Host(home=tmp_path / "b", pipeline="payments"), store)

    assert isinstance(found.problem, WrongRepository)
    assert _bucket(found).head is None


def test_another_pipelines_bucket_is_not_trusted(tmp_path: Path) -> None:
    store = MemoryStore()
    Host(home=tmp_path / "a").push_new("step-1", store)

    found = _status(Host(home=tmp_path / "b", pipeline="payments"), store)

    assert isinstance(found.problem, WrongRepository)


def test_the_writer_knows_itself_and_another_host_knows_it_is_not(tmp_path: Path) -> None:
    store, writer = MemoryStore(), Host(home=tmp_path / "a")
    writer.push_new("step-1", store)

    assert _bucket(_status(writer, store)).is_writer
    assert not _bucket(_status(Host(home=tmp_path / "b"), store)).is_writer


def test_a_local_storage_that_cannot_be_read_does_not_hide_the_bucket(tmp_path: Path) -> None:
    host, store = Host(home=tmp_path), MemoryStore()
    entry = host.push_new("step-1", store)
    broken = Host(home=tmp_path / "b")
    broken.root.parent.mkdir()
    broken.root.write_text("not a directory")

    found = _status(broken, store)

    assert isinstance(found.local, SourceError)
    assert isinstance(found.problem, CannotTell)
    assert found.unpushed is None
    assert _bucket(found).latest == entry


def test_looking_changes_nothing_in_the_bucket(tmp_path: Path) -> None:
    root = tmp_path / "bucket"
    root.mkdir()
    host = Host(home=tmp_path / "a")
    host.push_new("step-1", LocalStore(root))
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}

    _status(host, LocalStore(root))

    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_the_recovery_point_has_an_age(tmp_path: Path) -> None:
    host, store = Host(home=tmp_path), MemoryStore()
    host.push_new("step-1", store)

    age = _bucket(_status(host, store)).recovery_point_age

    assert age is not None
    assert abs(age.total_seconds()) < 60


def test_what_is_known_to_be_wrong_is_worse_than_what_cannot_be_told(tmp_path: Path) -> None:
    store = MemoryStore()
    Host(home=tmp_path / "a").push_new("step-1", store)
    broken = Host(home=tmp_path / "b", pipeline="payments")
    broken.root.parent.mkdir()
    broken.root.write_text("not a directory")

    assert isinstance(_status(broken, store).problem, WrongRepository)


def test_a_memory_that_is_gone_is_not_an_empty_one(tmp_path: Path) -> None:
    host, store = Host(home=tmp_path), MemoryStore()
    entry = host.push_new("step-1", store)
    damaged = IntegrityError("state.sqlite is damaged")
    with host.running(store) as pipeline:
        state = replace(pipeline.state, missing=damaged)
        found = status(replace(pipeline, state=state))

    assert found.memory is damaged
    assert _bucket(found).latest == entry
    assert isinstance(found.problem, CannotTell)
    assert str(found.problem) == str(damaged)


def test_the_configuration_says_what_a_new_node_is(tmp_path: Path) -> None:
    host, store = Host(home=tmp_path), MemoryStore()
    standby = replace(host, standby=StandbySettings(initially=True))

    assert _memory(_status(host, store)).role is Role.PRIMARY
    assert _memory(_status(standby, store)).role is Role.STANDBY
    assert _memory(_status(standby, store)).change is None


def test_a_role_is_told_with_how_it_came_to_be(tmp_path: Path) -> None:
    host, store = Host(home=tmp_path), MemoryStore()
    host.push_new("step-1", store)
    change = _put_in(host, Role.STANDBY, "rejoin")
    with host.running(store) as pipeline:
        pipeline.state.roles.pause(NOON)
        pipeline.state.handovers.save(
            Handover(
                node="host-b",
                deadline=NOON,
                timeout=timedelta(hours=1),
                stage=HandoverStage.RELEASED,
            )
        )
        activation = pipeline.state.activations.save(
            Activation(request="r", started_at=NOON, reason=None, forced=False, stage=Stage.FENCED)
        )

    found = _status(host, store)

    memory = _memory(found)
    assert (memory.role, memory.change, memory.epoch) == (Role.STANDBY, change, 1)
    assert memory.paused_since == NOON
    assert memory.activation == activation
    assert memory.handover is not None
    assert memory.handover.node == "host-b"
    assert found.problem is None


@pytest.mark.parametrize(
    ("role", "problem"),
    [
        (Role.PRIMARY, None),
        (Role.STANDBY, None),
        (Role.ACTIVATING, None),
        (Role.ACTIVATION_FAILED, None),
        (Role.RELEASED, None),
        (Role.UNFENCED, None),
        (Role.FENCED, Fenced),
        (Role.DIVERGED, Diverged),
        (Role.STOPPED, Stopped),
    ],
)
def test_a_role_that_only_an_operator_ends_is_a_problem(
    tmp_path: Path, role: Role, problem: type[CkptsyncError] | None
) -> None:
    host, store = Host(home=tmp_path), MemoryStore()
    host.push_new("step-1", store)
    _put_in(host, role, "found in head")

    found = _status(host, store).problem

    if problem is None:
        assert found is None
    else:
        assert type(found) is problem
        assert found.exit_code == 11
        assert "found in head" in str(found)


def test_a_fenced_node_is_one_also_while_the_bucket_does_not_answer(tmp_path: Path) -> None:
    host, store = Host(home=tmp_path), MemoryStore()
    _put_in(host, Role.FENCED)
    away = Odd(store, lambda _number, call: Unavailable(store.name, "read", call.key, "timed out"))

    assert isinstance(_status(host, away).problem, Fenced)


def test_a_standby_lags_by_what_was_committed_after_its_checkpoint(tmp_path: Path) -> None:
    store = MemoryStore()
    writer, standby = Host(home=tmp_path / "a"), Host(home=tmp_path / "b", node="host-b")
    first = writer.push_new("step-1", store)
    latest = writer.push_new("step-2", store)
    _warm(standby, first)

    behind = _status(standby, store)
    _warm(standby, latest)
    beside = _status(standby, store)

    assert behind.warm == first
    assert behind.lag == latest.at - first.at
    assert (beside.warm, beside.lag) == (latest, timedelta(0))
    assert _memory(beside).warm == latest.id


def test_a_warm_checkpoint_is_known_without_the_bucket_but_not_its_lag(tmp_path: Path) -> None:
    store = MemoryStore()
    standby = Host(home=tmp_path / "b", node="host-b")
    entry = Host(home=tmp_path / "a").push_new("step-1", store)
    _warm(standby, entry)
    away = Odd(store, lambda _number, call: Unavailable(store.name, "read", call.key, "timed out"))

    found = _status(standby, away)

    assert (_memory(found).warm, found.warm, found.lag) == (entry.id, None, None)


def test_a_node_that_was_displaced_while_it_was_down_is_not_shown_as_sound(
    host: Host, bucket: MemoryStore
) -> None:
    host.push_new("ckpt-1", bucket)
    with host.running(bucket) as pipeline:
        become(pipeline, Role.PRIMARY)
    take_over(bucket)

    with host.running(bucket) as pipeline:
        assert isinstance(status(pipeline).problem, Fenced)


def test_checkpoints_are_counted_by_their_state_and_those_kept_by_name(tmp_path: Path) -> None:
    host, store = Host(home=tmp_path), MemoryStore()
    first, second, third, _latest = (host.push_new(name, store) for name in "1234")
    forgetting.retire(store, first.id, second.id)
    forgetting.mark_bad(store, third.id)
    for name, until in (("mine", None), ("yours", None), ("theirs", NOON - timedelta(days=4000))):
        keep = Keep(checkpoint=first.id, by="a test", until=until)
        edit_head(store, keeps={**read_head(store).head.keeps, name: keep})

    found = _bucket(_status(host, store))

    counts = {state: found.count(state) for state in ("live", "retired", "bad")}
    assert counts == {"live": 1, "retired": 2, "bad": 1}
    assert found.kept == 1, "one checkpoint, by two names; a third has expired"


def test_the_last_prune_is_told_with_why_it_failed(tmp_path: Path) -> None:
    host, store = Host(home=tmp_path), MemoryStore()
    host.push_new("1", store)
    assert _memory(_status(host, store)).last_prune is None
    store.put("nodes/host-x.json", b"damaged")
    with host.running(store) as pipeline, pytest.raises(IntegrityError):
        carry_out(
            pipeline,
            Prune(),
            standby=Standby(pipeline),
            withdraw=threading.Event(),
            progress=ignore,
        )

    memory = _memory(_status(host, store))

    assert memory.last_prune is not None
    assert memory.last_prune.outcome is Outcome.FAILED
    assert "host-x" in (memory.last_prune.details or "")
    assert "hint" in json.loads(memory.last_prune.details or "{}")["error"]
    assert not memory.prune_left_to_others


def test_a_node_that_may_not_delete_leaves_pruning_to_others_for_a_day(tmp_path: Path) -> None:
    host, store = Host(home=tmp_path), MemoryStore()
    host.push_new("1", store)
    denied = Odd(
        store,
        lambda _number, call: (
            AccessDenied(store.name, "delete", call.key, "not you")
            if call.method == "delete"
            else None
        ),
    )
    assert not _memory(_status(host, store)).prune_left_to_others
    with pytest.raises(AccessDenied):
        host.prune(denied)

    later = replace(host, now=lambda: datetime.now(UTC) + timedelta(hours=25))

    assert _memory(_status(host, store)).prune_left_to_others
    assert not _memory(_status(later, store)).prune_left_to_others
    host.prune(store)
    assert not _memory(_status(host, store)).prune_left_to_others, "it was allowed since"
