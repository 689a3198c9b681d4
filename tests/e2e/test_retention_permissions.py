"""Who may delete: hosts with keys of their own, on a server that heeds a policy."""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from ckptsync.errors import AccessDenied
from ckptsync.stores.s3 import S3Store
from tests.e2e.daemons import daemon, eventually
from tests.e2e.pair import configured, events
from tests.e2e.site import Site
from tests.operations.actors import edit_head
from tests.operations.forgetting import entries_of
from tests.operations.invariants import require_sound
from tests.pipelines import noise, write_tree
from tests.servers import S3Server, seaweedfs, secret_of

_DAY: Final = timedelta(hours=25)
_LEAN: Final = {"retention_min_count": 1, "retention_min_age": "0s"}
_WRITER, _PRUNER, _READER = _USERS = ("writer", "pruner", "reader")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with seaweedfs(tmp_path_factory.mktemp("weed"), users=_USERS) as started:
        yield started


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A bucket whose policy denies some to some; hosts with keys of their own."""

    home: Path
    server: S3Server
    prefix: str
    store: S3Store
    """With a key that may do everything."""

    def host(self, name: str, *, user: str, **sync: Any) -> Site:
        site = Site.on_s3(
            self.home / name,
            self.server,
            self.prefix,
            secret=secret_of(user),
            access_key=user,
            **_LEAN,
            **sync,
        )
        return configured(replace(site, layout="directory"))

    def deny(self, denied: Mapping[str, Sequence[str]], *, below: str = "") -> None:
        """These actions to these users, from now on."""
        statements = [
            {
                "Effect": "Deny",
                "Principal": {"AWS": f"arn:aws:iam::000000000000:user/{user}"},
                "Action": list(actions),
                "Resource": f"arn:aws:s3:::bucket/{self.prefix}/{below}*",
            }
            for user, actions in denied.items()
        ]
        policy = {"Version": "2012-10-17", "Statement": statements}
        with closing(self.server.client()) as client:
            if not statements:
                client.delete_bucket_policy(Bucket="bucket")
                return
            client.put_bucket_policy(Bucket="bucket", Policy=json.dumps(policy))

    def objects(self) -> Mapping[str, bytes]:
        """All but what nodes write for themselves."""
        found = [info.key for info in self.store.walk("")]
        ours = [key for key in found if not key.startswith(("nodes/", "probe/"))]
        return {key: self.store.get(key, limit=1 << 20).data for key in ours}

    def states(self) -> Mapping[str, str]:
        return {each.engine_id: each.state for each in entries_of(self.store)}

    def let_a_day_pass(self) -> None:
        """For what is retired."""
        aged = (
            entry.model_copy(update={"retired_at": entry.retired_at - _DAY})
            if entry.retired_at
            else entry
            for entry in entries_of(self.store)
        )
        edit_head(self.store, checkpoints=tuple(aged))


@pytest.fixture
def world(tmp_path: Path, server: S3Server) -> Iterator[World]:
    """The writer may not delete, the reader may not write."""
    prefix = secrets.token_hex(8)
    with closing(S3Store(server.options(prefix))) as store:
        made = World(home=tmp_path, server=server, prefix=prefix, store=store)
        made.deny({_WRITER: ["s3:DeleteObject"], _READER: ["s3:DeleteObject", "s3:PutObject"]})
        eventually(lambda: not _may_delete(made, _WRITER))
        yield made


def _may_delete(world: World, user: str) -> bool:
    options = world.server.options(world.prefix)
    options = replace(options, access_key=user, secret_key=secret_of(user))
    with closing(S3Store(options)) as store:
        try:
            store.delete(["probe/none.json"])
        except AccessDenied:
            return False
        return True


def _push(site: Site, step: int) -> str:
    """What it said besides."""
    write_tree(site.storage() / f"step-{step}", {"own": noise(100_000, step), "small": b"1"})
    done = site.run("push")
    assert done.code == 0, done.err
    return done.err


def test_a_primary_that_may_not_delete_pushes_and_says_once_a_day_who_has_to_prune(
    world: World,
) -> None:
    primary = world.host("host-a", user=_WRITER)
    told = [_push(primary, step) for step in range(3)]

    assert set(world.states().values()) == {"live"}
    assert told[0].startswith(
        "warning: this node may not delete in its bucket, so pruning is left to a node that may: "
    )
    assert len(told[0].splitlines()) == 1
    assert told[1:] == ["", ""]
    (status,) = primary.run("status", "--json").document["pipelines"]
    assert (status["prune_left_to_others"], status["last_prune"]) == (True, None)
    assert "last prune      left to a node that may delete\n" in primary.run("status").out
    assert "prune" not in primary.run("history").out
    (diagnosed,) = primary.run("doctor", "--json").document["pipelines"]
    (finding,) = [each for each in diagnosed["findings"] if each["what"] == "bucket: delete"]
    assert finding["verdict"] == "warning"
    assert "pruning it leaves to others" in finding["detail"]
    assert finding["hint"].endswith("ckptsync prune orders")


def test_a_daemon_that_may_not_delete_says_so_once(world: World) -> None:
    primary = world.host("host-a", user=_WRITER, push_interval="100ms")
    primary.storage().parent.mkdir(parents=True, exist_ok=True)
    with daemon(primary) as running:
        for step in range(3):
            write_tree(primary.storage() / f"step-{step}", {"n": noise(100, step)})
            eventually(lambda: len(world.states()) == step + 1)  # noqa: B023 - called at once
        assert len(events(running, "prune.left_to_others")) == 1
        assert events(running, "request.failed") == []
        assert running.stop() == 0
    assert set(world.states().values()) == {"live"}


@pytest.mark.parametrize("user", [_WRITER, _READER])
def test_14_where_a_node_that_may_not_delete_is_told_to_prune(world: World, user: str) -> None:
    for step in range(2):
        _push(world.host("host-a", user=_PRUNER), step)
    host = world.host("host-b", user=user, standby=True)
    before = world.objects()
    done, again = host.run("prune", "--json"), host.run("prune", "--orphans", "--yes")

    assert (done.code, again.code) == (14, 14)
    assert done.document["error"]["kind"] == "AccessDenied"
    assert world.objects() == before
    if user == _WRITER:
        assert "pruning is the job of a node that may delete" in again.err
    (status,) = host.run("status", "--json").document["pipelines"]
    assert status["last_prune"]["outcome"] == "failed"


def test_a_pruner_with_its_own_key_and_no_storage_prunes_for_a_primary_that_may_not(
    world: World,
) -> None:
    primary = world.host("host-a", user=_WRITER)
    for step in range(3):
        _push(primary, step)
    pruner = world.host("pruner", user=_PRUNER)
    pruner.storage().parent.rmdir()
    before = world.objects()
    retired = pruner.run("prune", "--json")
    world.let_a_day_pass()
    deleted = pruner.run("prune", "--json")

    assert (retired.code, deleted.code) == (0, 0), retired.err + deleted.err
    assert len(retired.document["retired"]) == len(deleted.document["forgotten"]) == 2
    assert deleted.document["deleted_objects"] == len(before.keys() - world.objects().keys()) > 3
    assert not pruner.storage().parent.exists()
    _push(primary, 3)
    assert world.states() == {"step-2": "live", "step-3": "live"}
    assert pruner.run("prune").code == 0
    assert world.states() == {"step-2": "retired", "step-3": "live"}
    require_sound(world.store)
    assert primary.run("verify", "--full").code == 0


def test_what_was_denied_half_way_goes_once_it_is_allowed(world: World) -> None:
    """Such a policy lets the first look at what is allowed pass, and other keys may go."""
    world.deny({_PRUNER: ["s3:DeleteObject"]}, below="chunks/")
    primary = world.host("host-a", user=_PRUNER)
    for step in range(2):
        _push(primary, step)
    world.let_a_day_pass()
    denied = primary.run("prune", "--json")

    assert (denied.code, denied.document["error"]["kind"]) == (14, "AccessDenied")
    require_sound(world.store)
    chunks = {key for key in world.objects() if key.startswith("chunks/")}
    assert len(chunks) == 2
    manifests = [key for key in world.objects() if key.startswith("manifests/")]
    assert len(manifests) == 1
    world.deny({})
    done = primary.run("prune", "--json")
    assert done.code == 0, done.err
    assert done.document["deleted_objects"] > 0
    assert len(chunks & world.objects().keys()) == 1
    (status,) = primary.run("status", "--json").document["pipelines"]
    assert status["prune_left_to_others"] is False
    require_sound(world.store)
