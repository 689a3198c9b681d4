"""Each thing that can be wrong is found, and hides nothing else."""

import resource
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ckptsync.errors import (
    AccessDenied,
    Cancelled,
    CkptsyncError,
    ConfigError,
    Fenced,
    ForeignWriter,
    HeadLost,
    IntegrityError,
    PermissionRefused,
    RollbackDetected,
    SourceError,
    StoreError,
    Unavailable,
    UnfitStore,
    WrongRepository,
)
from ckptsync.model import Role
from ckptsync.operations.doctor import Diagnosis, Finding, Verdict, doctor
from ckptsync.operations.doctor_host import held_open
from ckptsync.operations.pipeline import StandbySettings
from ckptsync.operations.roles import become
from ckptsync.repository import head, keys
from ckptsync.repository.repository import read_head
from ckptsync.stores import mounts
from ckptsync.stores.base import ObjectStore
from ckptsync.stores.local import LocalStore
from ckptsync.stores.memory import MemoryStore
from tests.fakes.stores import Call, FaultyStore, LyingStore
from tests.operations.actors import edit_head, take_over
from tests.pipelines import Host, contents, snapshot
from tests.unprivileged import refused

ALL = {
    "storage",
    "work directory",
    "open files",
    "state",
    "pruning",
    "bucket: list",
    "bucket: write",
    "bucket: read",
    "bucket: conditions",
    "bucket: checksums",
    "clock",
    "bucket: delete",
    "bucket: race",
    "repository",
    "rollback",
    "writer",
    "disk space",
}


def examine(host: Host, store: ObjectStore, **changes: object) -> Mapping[str, Finding]:
    with host.running(store) as pipeline:
        return by_name(doctor(replace(pipeline, **changes)))  # type: ignore[arg-type]  # named below


def by_name(diagnosis: Diagnosis) -> Mapping[str, Finding]:
    found = {each.what: each for each in diagnosis.findings}
    assert len(found) == len(diagnosis.findings), "two findings have one name"
    assert set(diagnosis.failures) == of(found, Verdict.FAILED)
    return found


def of(found: Mapping[str, Finding], verdict: Verdict) -> set[str]:
    return {name for name, each in found.items() if each.verdict is verdict}


def kinds(found: Mapping[str, Finding]) -> Mapping[str, type[CkptsyncError]]:
    """Of those that failed, what a command would have raised."""
    return {name: type(each.error) for name, each in found.items() if each.error is not None}


class Denying(FaultyStore):
    """Answers some calls, chosen by method and key, with 403."""

    def __init__(self, inner: ObjectStore, denied: Callable[[Call], bool]) -> None:
        super().__init__(inner)
        self._denied = denied

    def _call(self, method: str, key: str, action: Callable[[], object]) -> object:  # type: ignore[override]  # of any result
        if self._denied(Call(method, key)):
            raise AccessDenied(self.name, method, key, "Access Denied")
        return super()._call(method, key, action)


def test_a_pipeline_that_works_is_healthy_on_every_store(
    store: ObjectStore, host: Host, request: pytest.FixtureRequest
) -> None:
    host.push_new("ckpt-1", store)

    found = examine(host, store)

    unverified = {"bucket: checksums"} if "s3-moto" in request.node.name else set()
    assert of(found, Verdict.OK) == ALL - unverified, found.values()
    assert of(found, Verdict.WARNING) == unverified


def test_nothing_changes_but_scratch_under_probe(bucket: MemoryStore, host: Host) -> None:
    host.push_new("ckpt-1", bucket)
    before, on_disk = snapshot(bucket), contents(host.root)
    spy = FaultyStore(bucket)

    examine(host, spy)

    assert snapshot(bucket) == before
    assert contents(host.root) == on_disk
    assert not host.work.exists()
    written = [call for call in spy.calls if call.method in {"put", "delete"}]
    assert written
    assert all(call.key.startswith("probe/host-a.") for call in written)


def test_a_fresh_host_has_warnings_only(bucket: MemoryStore, host: Host) -> None:
    found = examine(host, bucket)

    assert of(found, Verdict.WARNING) == {"storage"}
    assert of(found, Verdict.FAILED) == set()
    assert "the first push creates it" in found["repository"].detail
    assert not host.root.exists()


def test_a_bucket_that_cannot_be_reached_is_asked_once(bucket: MemoryStore, host: Host) -> None:
    host.push_new("ckpt-1", bucket)
    away = FaultyStore(bucket, fail_at={0: Unavailable(bucket.name, "list", "probe/", "timed out")})

    found = examine(host, away)

    assert kinds(found) == {"bucket": Unavailable}
    assert "timed out" in found["bucket"].detail
    assert len(away.calls) == 1
    assert {"storage", "work directory", "open files", "state"} <= of(found, Verdict.OK)


def test_any_one_call_that_fails_leaves_the_other_findings(bucket: MemoryStore, host: Host) -> None:
    host.push_new("ckpt-1", bucket)
    counted = FaultyStore(bucket)
    examine(host, counted)
    for number, call in enumerate(counted.calls[1:], start=1):
        error = StoreError(bucket.name, call.method, call.key, "so it is")

        found = examine(host, FaultyStore(bucket, fail_at={number: error}))

        assert of(found, Verdict.FAILED), f"{call} failed unnoticed"
        assert {"storage", "state", "bucket: list"} <= of(found, Verdict.OK)
        assert {"bucket: write", "repository"} <= set(found)


@pytest.mark.parametrize(
    ("denied", "failed", "warned"),
    [
        (lambda call: call.method == "walk", {"bucket: list"}, set()),
        (lambda call: call.method == "put", {"bucket: write"}, set()),
        (lambda call: call.method == "delete", set(), {"bucket: delete"}),
        (
            lambda call: call.method == "get" and call.key.startswith("probe/"),
            {"bucket: read", "bucket: conditions", "bucket: race"},
            set(),
        ),
        (lambda call: call.key == keys.HEAD, {"repository"}, set()),
    ],
    ids=["list", "write", "delete", "read", "head"],
)
def test_each_missing_permission_is_named(
    bucket: MemoryStore,
    host: Host,
    denied: Callable[[Call], bool],
    failed: set[str],
    warned: set[str],
) -> None:
    host.push_new("ckpt-1", bucket)

    found = examine(host, Denying(bucket, denied))

    assert (of(found, Verdict.FAILED), of(found, Verdict.WARNING)) == (failed, warned)
    assert set(kinds(found).values()) <= {AccessDenied}


def test_a_store_that_ignores_conditions_is_unfit(bucket: MemoryStore, host: Host) -> None:
    replace(host, fencing=False).push_new("ckpt-1", bucket)

    assert kinds(examine(host, LyingStore(bucket))) == {
        "bucket: conditions": UnfitStore,
        "bucket: race": UnfitStore,
    }
    found = examine(replace(host, fencing=False), LyingStore(bucket))
    assert of(found, Verdict.WARNING) == {"bucket: conditions", "bucket: race"}
    assert of(found, Verdict.FAILED) == set()


def test_that_a_store_was_found_unfit_is_not_believed_once_it_is_mended(
    bucket: MemoryStore, host: Host
) -> None:
    host.push_new("ckpt-1", bucket)
    examine(host, LyingStore(bucket))

    host.push_new("ckpt-2", bucket)

    assert not of(examine(host, bucket), Verdict.FAILED)


def test_what_the_probe_saw_is_remembered_for_the_next_push(
    bucket: MemoryStore, host: Host
) -> None:
    host.push_new("ckpt-1", bucket)
    examine(host, bucket)
    host.checkpoint("ckpt-2", {"a": b"2"})
    counting = FaultyStore(bucket)

    host.push(counting)

    assert not [call for call in counting.calls if call.key.startswith("probe/")]


@pytest.mark.parametrize("rejects", [True, False])
def test_whether_the_store_verifies_checksums_is_said(
    bucket: MemoryStore, host: Host, rejects: bool
) -> None:
    class Networked(MemoryStore):
        def put_corrupted(self, key: str) -> bool:
            del key
            return rejects

    found = examine(host, Networked(bucket.name))

    assert found["bucket: checksums"].verdict is (Verdict.OK if rejects else Verdict.WARNING)


@pytest.mark.parametrize(
    ("seconds", "verdict"),
    [
        (0, Verdict.OK),
        (29, Verdict.OK),
        (31, Verdict.WARNING),
        (-31, Verdict.WARNING),
        (14 * 60, Verdict.WARNING),
        (16 * 60, Verdict.FAILED),
        (-16 * 60, Verdict.FAILED),
    ],
)
def test_a_clock_that_is_off_is_found(host: Host, seconds: int, verdict: Verdict) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    store = MemoryStore(clock=lambda: now + timedelta(seconds=seconds))

    finding = examine(host, store, now=lambda: now)["clock"]

    assert finding.verdict is verdict
    if seconds:
        assert ("ahead" in finding.detail) is (seconds > 30) or verdict is Verdict.OK


def test_a_read_bucket_is_read(bucket: MemoryStore, host: Host, other: Host) -> None:
    seed = MemoryStore("s3://seed/orders")
    assert examine(other, bucket, read_store=seed)["read_bucket"].verdict is Verdict.WARNING
    host.push_new("ckpt-1", seed)
    spy = FaultyStore(seed)
    assert examine(other, bucket, read_store=spy)["read_bucket"].verdict is Verdict.OK
    assert {call.method for call in spy.calls} == {"get"}
    away = FaultyStore(seed, fail_at={0: AccessDenied(seed.name, "read", "x", "Access Denied")})
    assert of(examine(other, bucket, read_store=away), Verdict.FAILED) == {"read_bucket"}


def test_a_node_that_never_pushed_is_warned_and_a_displaced_one_fails(
    bucket: MemoryStore, host: Host, other: Host
) -> None:
    host.push_new("ckpt-1", bucket)
    assert examine(other, bucket)["writer"].verdict is Verdict.WARNING

    found = read_head(bucket).head
    writer = found.writer.model_copy(update={"node": "host-b", "instance": "another"})
    taken = found.model_copy(update={"writer": writer, "epoch": 2, "revision": found.revision + 1})
    bucket.put(keys.HEAD, head.encode(taken))

    found_again = examine(host, bucket)
    assert kinds(found_again) == {"writer": Fenced}
    assert "node 'host-b' took over at epoch 2" in found_again["writer"].detail


def test_a_standby_is_not_told_to_become_one_also_where_it_was_the_writer(
    bucket: MemoryStore, host: Host, other: Host
) -> None:
    host.push_new("ckpt-1", bucket)
    meant = replace(other, standby=StandbySettings(initially=True))

    finding = examine(meant, bucket)["writer"]

    assert finding.verdict is Verdict.OK
    assert finding.detail == "'host-a' is the one that may push; this node stands by"

    take_over(bucket)
    with host.running(bucket) as pipeline:
        become(pipeline, Role.STANDBY, reason="rejoined")
    assert examine(host, bucket)["writer"].verdict is Verdict.OK


def test_a_standby_that_head_names_the_writer_is_still_found(
    bucket: MemoryStore, host: Host
) -> None:
    host.push_new("ckpt-1", bucket)
    writer = read_head(bucket).head.writer
    edit_head(bucket, writer=writer.model_copy(update={"write_id": "a copy's"}))
    with host.running(bucket) as pipeline:
        become(pipeline, Role.STANDBY, reason="rejoined")

    assert kinds(examine(host, bucket)) == {"writer": ForeignWriter}


def test_a_standby_that_may_write_but_its_heartbeat_is_warned_that_it_is_no_more_than_that(
    bucket: MemoryStore, host: Host, other: Host
) -> None:
    host.push_new("ckpt-1", bucket)
    rights = Denying(
        bucket,
        lambda call: (
            call.method == "delete" or (call.method == "put" and not call.key.startswith("nodes/"))
        ),
    )

    found = examine(replace(other, standby=StandbySettings(initially=True)), rights)

    assert of(found, Verdict.FAILED) == set()
    finding = found["bucket: write"]
    assert finding.verdict is Verdict.WARNING
    assert "it cannot be activated with these rights" in finding.detail
    assert finding.hint is not None
    assert found["repository"].verdict is Verdict.OK, "the rest is looked at"
    assert kinds(examine(other, rights)) == {"bucket: write": AccessDenied}, "a primary needs it"


def test_a_bucket_that_went_back_in_time_is_found(bucket: MemoryStore, host: Host) -> None:
    host.push_new("ckpt-1", bucket)
    old = bucket.get(keys.HEAD, limit=1 << 20).data
    host.push_new("ckpt-2", bucket)
    bucket.put(keys.HEAD, old)

    found = examine(host, bucket)

    assert kinds(found) == {"rollback": RollbackDetected}


def test_a_bucket_that_was_emptied_or_belongs_to_another_pipeline_is_found(
    bucket: MemoryStore, host: Host, other: Host
) -> None:
    host.push_new("ckpt-1", bucket)

    assert kinds(examine(host, MemoryStore(bucket.name))) == {"repository": HeadLost}
    found = examine(replace(other, pipeline="payments"), bucket)
    assert kinds(found) == {"repository": WrongRepository}
    assert "belongs to pipeline 'orders'" in found["repository"].detail


@pytest.mark.parametrize("key", [keys.HEAD, keys.DESCRIPTOR])
def test_a_damaged_repository_is_found(bucket: MemoryStore, host: Host, key: str) -> None:
    host.push_new("ckpt-1", bucket)
    bucket.put(key, b"{")

    found = examine(host, bucket)

    assert kinds(found) == {"repository": IntegrityError}
    assert key in found["repository"].detail


def test_storage_that_cannot_be_read_as_its_layout_is_found(
    bucket: MemoryStore, host: Host
) -> None:
    host.root.mkdir(parents=True)
    assert examine(host, bucket)["storage"].verdict is Verdict.WARNING
    (host.root / "stray").touch()
    assert of(examine(host, bucket), Verdict.FAILED) == {"storage"}


def test_a_work_directory_on_another_filesystem_is_found(bucket: MemoryStore, host: Host) -> None:
    host.root.mkdir(parents=True)
    elsewhere = next(
        path
        for path in map(Path, ("/dev/shm", "/tmp", "/run"))
        if path.is_dir() and path.stat().st_dev != host.root.stat().st_dev
    )

    found = examine(host, bucket, work_path=elsewhere / "ckptsync-work")

    assert kinds(found) == {"work directory": ConfigError}
    assert "another filesystem" in found["work directory"].detail


def test_a_filesystem_too_small_for_the_latest_checkpoint_is_found(
    bucket: MemoryStore, host: Host
) -> None:
    host.push_new("ckpt-1", bucket)
    found = read_head(bucket).head
    huge = found.checkpoints[0].model_copy(update={"bytes": 1 << 60})
    bucket.put(keys.HEAD, head.encode(found.model_copy(update={"checkpoints": (huge,)})))

    finding = examine(host, bucket)["disk space"]

    assert finding.verdict is Verdict.WARNING
    assert "1024 PiB" in finding.detail


@pytest.mark.parametrize(
    ("limit", "verdict"),
    [
        (1024, Verdict.WARNING),
        (16_383, Verdict.WARNING),
        (16_384, Verdict.OK),
        (resource.RLIM_INFINITY, Verdict.OK),
    ],
)
def test_a_low_limit_of_open_files_is_found(limit: int, verdict: Verdict) -> None:
    finding = held_open(limit)
    assert finding.verdict is verdict
    assert f"{limit:,}" in finding.detail or verdict is Verdict.OK


def test_a_damaged_database_is_found(bucket: MemoryStore, host: Host) -> None:
    host.push_new("ckpt-1", bucket)
    path = host.home / "state.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE big (x)")
        connection.executemany("INSERT INTO big VALUES (?)", [("y" * 3000,)] * 50)
    connection.close()
    data = bytearray(path.read_bytes())
    data[-40 * 4096 : -20 * 4096] = bytes(20 * 4096)
    path.write_bytes(data)

    finding = examine(host, bucket)["state"]

    assert finding.verdict is Verdict.FAILED
    assert str(path) in finding.detail


def test_a_bucket_on_a_network_filesystem_is_warned_of(
    directory_bucket: LocalStore, host: Host, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "bucket: filesystem" not in examine(host, directory_bucket)

    (disk / "mountinfo").write_text(f"36 35 98:0 / {disk} rw,noatime - nfs4 server:/x rw\n")
    monkeypatch.setattr(mounts, "_MOUNTINFO", disk / "mountinfo")

    finding = examine(host, directory_bucket)["bucket: filesystem"]
    assert finding.verdict is Verdict.WARNING
    assert "nfs4" in finding.detail


def test_a_storage_that_may_not_be_written_is_found(tmp_path: Path) -> None:
    for path in (tmp_path, *tmp_path.parents):  # so that anybody may look into it
        if not path.stat().st_mode & 1:
            path.chmod(path.stat().st_mode | 1)
    shut = tmp_path / "shut"
    (shut / "data").mkdir(parents=True)
    shut.chmod(0o555)

    said = refused(
        "from types import SimpleNamespace\n"
        "from ckptsync.operations.doctor_host import work\n"
        "root = Path(sys.argv[1])\n"
        "pipeline = SimpleNamespace(storage_path=root, work_path=root.parent / 'work')",
        "raise ValueError(next(work(pipeline)).detail)",
        shut / "data",
    )

    assert said == f"ValueError: {shut} cannot be written, so nothing can be pulled"


@pytest.mark.parametrize("call", [0, 1, 5])
def test_a_stop_ends_the_examination(bucket: MemoryStore, host: Host, call: int) -> None:
    with pytest.raises(Cancelled):
        examine(host, FaultyStore(bucket, fail_at={call: Cancelled("stopped on request")}))


def test_a_file_in_place_of_the_storage_is_no_matter_of_access(
    bucket: MemoryStore, host: Host
) -> None:
    host.root.parent.mkdir(parents=True, exist_ok=True)
    host.root.write_text("no directory")

    found = examine(host, bucket)

    assert kinds(found) == {"storage": SourceError, "work directory": SourceError}
    assert "is not a directory" in found["work directory"].detail
    assert "grant" not in f"{found['storage'].hint} {found['work directory'].hint}"


def test_the_winners_of_a_race_are_counted(bucket: MemoryStore, host: Host) -> None:
    host.push_new("ckpt-1", bucket)

    found = examine(host, LyingStore(bucket))

    assert "of 8 writers at once 8 were told that they won" in found["bucket: race"].detail


def test_a_state_that_could_not_be_opened_is_found(bucket: MemoryStore, host: Host) -> None:
    host.push_new("ckpt-1", bucket)
    shut = PermissionRefused("the state directory cannot be written")

    with host.running(bucket) as pipeline:
        state = replace(pipeline.state, missing=shut)
        found = by_name(doctor(replace(pipeline, state=state)))

    assert kinds(found) == {"state": PermissionRefused}
    assert "unknown" in found["rollback"].detail
    assert "writer" not in found, "it could not know itself"
