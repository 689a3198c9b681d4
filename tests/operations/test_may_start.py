"""Whether the engine may start: every role, every head, every storage."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from structlog.testing import capture_logs

from ckptsync.errors import (
    AccessDenied,
    BucketNotFound,
    CannotTell,
    CkptsyncError,
    Diverged,
    Fenced,
    ForeignWriter,
    HeadLost,
    IntegrityError,
    NotPrimary,
    Refused,
    RollbackDetected,
    Stopped,
    Unavailable,
    UnsupportedFormat,
    WrongRepository,
)
from ckptsync.model import Role
from ckptsync.operations.may_start import Permission, may_start
from ckptsync.operations.pipeline import StandbySettings, Takeover
from ckptsync.operations.resolve import LATEST
from ckptsync.repository import keys
from ckptsync.repository.head import encode
from ckptsync.repository.repository import read_head
from ckptsync.state.activation import Activation, Stage
from ckptsync.state.role import RoleChange
from ckptsync.stores.base import ObjectStore
from ckptsync.stores.memory import MemoryStore
from tests.fakes.stores import Call
from tests.operations.actors import Odd, before, edit_head, take_over, write_as_a_clone
from tests.pipelines import Host, snapshot

NOON: Final = datetime(2026, 11, 20, 12, tzinfo=UTC)
AWAY: Final = Unavailable("s3://dr/orders", "read", "head.json", "timed out")


def _ask(
    host: Host, store: ObjectStore, *, read_store: ObjectStore | None = None, fresh: bool = False
) -> Permission:
    with host.running(store, read_store) as pipeline:
        return may_start(pipeline, fresh=fresh)


def _put_in(host: Host, role: Role, stage: Stage | None = None, why: str | None = None) -> None:
    change = RoleChange(role=role, at=NOON, epoch=1, reason=why, problem=None)
    with host.running(MemoryStore()) as pipeline:
        pipeline.state.roles.change(change)
        if stage is not None:
            pipeline.state.activations.save(
                Activation(request="r", started_at=NOON, reason=None, forced=False, stage=stage)
            )


def _unanswering(store: ObjectStore, error: CkptsyncError = AWAY) -> Odd:
    return Odd(store, lambda _number, _call: error)


def _silent(_number: int, call: Call) -> None:
    raise AssertionError(f"the bucket was asked to {call.method} {call.key}")


@pytest.fixture
def primary(host: Host, bucket: MemoryStore) -> Host:
    """The writer of the bucket, with its checkpoint on its disk."""
    host.push_new("step-1", bucket)
    _put_in(host, Role.PRIMARY)
    return host


def test_the_primary_may_start_after_one_read_of_head_and_one_look_for_a_copy(
    primary: Host, bucket: MemoryStore
) -> None:
    watched = Odd(bucket, lambda _number, _call: None)

    permission = _ask(primary, watched)

    assert (permission.role, permission.verified) == (Role.PRIMARY, True)
    assert permission.reason == "it is the primary of s3://dr/orders, at epoch 1"
    assert watched.calls == [Call("get", keys.HEAD), Call("stat", "nodes/host-a.json")]


def test_a_node_that_pushes_by_hand_is_a_primary_without_a_role(
    host: Host, bucket: MemoryStore
) -> None:
    host.push_new("step-1", bucket)

    assert _ask(host, bucket).role is Role.PRIMARY
    assert not _ask(host, _unanswering(bucket)).verified


def test_the_first_start_of_all_is_let_through(host: Host, bucket: MemoryStore) -> None:
    assert _ask(host, bucket).reason == "nothing was ever pushed to s3://dr/orders"


@pytest.mark.parametrize(
    ("role", "error"),
    [
        (Role.STANDBY, NotPrimary),
        (Role.ACTIVATING, NotPrimary),
        (Role.ACTIVATION_FAILED, NotPrimary),
        (Role.FENCED, Fenced),
        (Role.RELEASED, Fenced),
        (Role.DIVERGED, Diverged),
        (Role.STOPPED, Stopped),
    ],
)
def test_most_roles_decide_by_themselves(
    primary: Host, bucket: MemoryStore, role: Role, error: type[CkptsyncError]
) -> None:
    _put_in(primary, role, why="because")

    with pytest.raises(error) as refusal:
        _ask(primary, Odd(bucket, _silent))

    assert refusal.value.exit_code == (13 if error is NotPrimary else 11)
    assert "orders" in (refusal.value.hint or "")


def test_a_fenced_node_says_who_fenced_it(primary: Host, bucket: MemoryStore) -> None:
    _put_in(primary, Role.FENCED, why="node 'host-b' took over at epoch 2")

    with pytest.raises(Fenced, match=r"is fenced from 'orders': node 'host-b' took over"):
        _ask(primary, bucket)


def test_who_is_to_begin_as_a_standby_waits_for_its_activation(
    host: Host, bucket: MemoryStore
) -> None:
    standby = replace(host, standby=StandbySettings(initially=True))

    with pytest.raises(NotPrimary):
        _ask(standby, Odd(bucket, _silent))


def test_an_unfenced_node_runs_without_the_bucket(primary: Host, bucket: MemoryStore) -> None:
    _put_in(primary, Role.UNFENCED)

    permission = _ask(primary, Odd(bucket, _silent))

    assert (permission.role, permission.verified) == (Role.UNFENCED, False)


@pytest.mark.parametrize("role", [Role.ACTIVATING, Role.ACTIVATION_FAILED])
@pytest.mark.parametrize("stage", Stage)
def test_the_hook_that_ends_an_activation_may_start_the_engine(
    primary: Host, bucket: MemoryStore, role: Role, stage: Stage
) -> None:
    _put_in(primary, role, stage)

    if stage is Stage.CONFIRMED:
        assert _ask(primary, bucket).role is Role.PRIMARY
    elif stage is Stage.UNFENCED:
        assert _ask(primary, bucket).role is Role.UNFENCED
    else:
        with pytest.raises(NotPrimary):
            _ask(primary, bucket)


def test_an_activation_long_done_makes_no_primary_of_a_standby(
    primary: Host, bucket: MemoryStore
) -> None:
    _put_in(primary, Role.STANDBY, Stage.CONFIRMED)

    with pytest.raises(NotPrimary):
        _ask(primary, bucket)


@pytest.mark.parametrize(
    "error",
    [
        AWAY,
        AccessDenied("s3://dr/orders", "read", "head.json", "Forbidden"),
        BucketNotFound("s3://dr/orders", "read", "head.json", "no such bucket"),
    ],
)
def test_who_was_the_primary_may_start_unverified_and_a_warning_says_so(
    primary: Host, bucket: MemoryStore, error: CkptsyncError
) -> None:
    with capture_logs() as logs:
        permission = _ask(primary, _unanswering(bucket, error))

    assert not permission.verified
    assert [(each["event"], each["error"]) for each in logs] == [("start.unverified", str(error))]


def test_16_unverified_where_the_configuration_forbids_it(
    primary: Host, bucket: MemoryStore
) -> None:
    careful = replace(primary, takeover=Takeover(start_unverified=False))

    with pytest.raises(CannotTell, match="start_unverified is false") as refusal:
        _ask(careful, _unanswering(bucket))

    assert refusal.value.exit_code == 16
    assert _ask(careful, bucket).verified


def test_16_unverified_on_a_node_that_never_was_the_primary(
    host: Host, bucket: MemoryStore
) -> None:
    host.checkpoint("step-1", {"a": b"1"})

    with pytest.raises(CannotTell, match=r"cannot be told: s3://dr/orders: cannot read"):
        _ask(host, _unanswering(bucket))


@pytest.mark.parametrize(
    ("meddle", "error", "code", "hint"),
    [
        (take_over, Fenced, 11, "ckptsync rejoin"),
        (write_as_a_clone, ForeignWriter, 11, "stop one of them"),
        (lambda store: _release(store), Fenced, 11, ""),
        (lambda store: _go_back(store), RollbackDetected, 11, "nothing was written"),
        (lambda store: edit_head(store, repository_id="other"), WrongRepository, 2, "who"),
        (lambda store: store.delete([keys.HEAD]), HeadLost, 12, "head.json back"),
        (lambda store: store.delete([each.key for each in store.walk("")]), HeadLost, 12, "disk"),
        (lambda store: store.put(keys.HEAD, b"{}"), IntegrityError, 12, ""),
        (lambda store: _write_newer(store), UnsupportedFormat, 2, ""),
    ],
)
def test_head_has_the_last_word_on_a_primary(
    primary: Host,
    bucket: MemoryStore,
    meddle: Callable[[ObjectStore], object],
    error: type[CkptsyncError],
    code: int,
    hint: str,
) -> None:
    meddle(bucket)

    with pytest.raises(error) as refusal:
        _ask(primary, bucket)

    assert type(refusal.value) is error
    assert refusal.value.exit_code == code
    assert hint in (refusal.value.hint or "")


def test_a_host_that_was_rebuilt_may_not_start_what_another_writes(
    primary: Host, bucket: MemoryStore, other: Host
) -> None:
    other.checkpoint("step-1", {"a": b"1"})

    with pytest.raises(ForeignWriter) as refusal:
        _ask(other, bucket)

    assert "ckptsync activate" in (refusal.value.hint or "")


def test_manifests_without_a_head_are_no_first_start(
    primary: Host, bucket: MemoryStore, other: Host
) -> None:
    bucket.delete([keys.HEAD])

    with pytest.raises(HeadLost):
        _ask(other, bucket)


def test_pushes_meanwhile_are_not_those_of_a_copy(primary: Host, bucket: MemoryStore) -> None:
    pushing = Odd(bucket, before(0, lambda: primary.push_new("step-2", bucket)))

    assert _ask(primary, pushing).verified


def test_13_after_a_pull_that_stopped_in_the_middle_of_its_changes(
    primary: Host, bucket: MemoryStore
) -> None:
    with primary.running(bucket) as pipeline:
        pipeline.state.identity.publishing("0001-00000001-0123456789ab", "step-1", 1, None)

    with pytest.raises(Refused, match="has not finished putting it in place") as refusal:
        _ask(primary, bucket, fresh=True)

    assert refusal.value.hint == "ckptsync pull orders"


@pytest.mark.parametrize("answers", [True, False])
def test_13_where_the_checkpoints_have_vanished_from_the_storage(
    primary: Host, bucket: MemoryStore, answers: bool
) -> None:
    shutil.rmtree(primary.root)
    store = bucket if answers else _unanswering(bucket)

    with pytest.raises(Refused, match=r"but this node had step-1 \(step 1\)") as refusal:
        _ask(primary, store)

    assert refusal.value.exit_code == 13
    assert "ckptsync pull orders" in (refusal.value.hint or "")
    assert _ask(primary, store, fresh=True).role is Role.PRIMARY


def test_13_where_a_pulled_checkpoint_has_vanished(primary: Host, bucket: MemoryStore) -> None:
    primary.go_back_to("step-1", bucket)
    shutil.rmtree(primary.root)

    with pytest.raises(Refused, match="this node had step-1"):
        _ask(primary, bucket)


def test_13_where_the_bucket_holds_what_the_storage_does_not(
    primary: Host, bucket: MemoryStore
) -> None:
    shutil.rmtree(primary.root)
    with primary.running(bucket) as pipeline, pipeline.state.database.transaction() as transaction:
        transaction.execute("DELETE FROM point")

    with pytest.raises(Refused, match="but the bucket holds 0001-00000001-"):
        _ask(primary, bucket)


def _seed(tmp_path: Path) -> MemoryStore:
    seed = MemoryStore("s3://seed/orders")
    Host(home=tmp_path / "seed").push_new("step-1", seed)
    return seed


def test_13_where_a_checkpoint_to_begin_from_is_in_read_bucket(
    host: Host, bucket: MemoryStore, tmp_path: Path
) -> None:
    seed = _seed(tmp_path)
    seeded = replace(host, standby=StandbySettings(start_from=LATEST))

    with pytest.raises(Refused, match="but s3://seed/orders holds one"):
        _ask(seeded, bucket, read_store=seed)
    with pytest.raises(CannotTell, match="whether read_bucket holds"):
        _ask(seeded, bucket, read_store=_unanswering(seed))

    assert _ask(seeded, bucket, read_store=MemoryStore()).verified
    assert _ask(seeded, bucket, read_store=seed, fresh=True).verified
    assert _ask(host, bucket, read_store=_unanswering(seed)).verified


def test_13_where_a_checkpoint_is_required_and_there_is_none(
    host: Host, bucket: MemoryStore
) -> None:
    strict = replace(host, standby=StandbySettings(start_from=LATEST, required=True))

    with pytest.raises(Refused, match="fail_if_no_checkpoint is set"):
        _ask(strict, bucket)


def test_asking_changes_nothing(primary: Host, bucket: MemoryStore) -> None:
    def everything() -> tuple[dict[str, bytes], list[str]]:
        with closing(sqlite3.connect(primary.home / "state.sqlite")) as database:
            return snapshot(bucket), list(database.iterdump())

    untouched = everything()

    _ask(primary, bucket)
    _ask(primary, _unanswering(bucket))

    assert everything() == untouched


def _release(store: ObjectStore) -> None:
    writer = read_head(store).head.writer
    edit_head(
        store, writer=writer.model_copy(update={"state": "released", "released_to": "host-b"})
    )


def _go_back(store: ObjectStore) -> None:
    head = read_head(store).head
    store.put(keys.HEAD, encode(head.model_copy(update={"revision": 1})))


def _write_newer(store: ObjectStore) -> None:
    data = store.get(keys.HEAD, limit=1 << 20).data
    store.put(keys.HEAD, data.replace(b'"version":1', b'"version":2'))
