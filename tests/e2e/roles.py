"""Two hosts without engines, for commands that change roles."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ckptsync.model import Role
from ckptsync.repository import nodes
from ckptsync.repository.nodes import Heartbeat
from tests.e2e.pair import Pair, configured
from tests.e2e.site import Site
from tests.pipelines import write_tree

AROUND: Final = {"before", "after"}
"""The keys of whatever moves a pipeline, beside its own."""
ACTIVATED: Final = AROUND | {
    "pipeline", "bucket", "request", "role", "already", "epoch", "timeline", "checkpoint",
    "left_behind", "seconds",
}  # fmt: skip
STOPPED: Final = ("false",)
"""A hook that says: no engine runs."""


def without_engines(pair: Pair) -> Pair:
    """Host a has pushed one checkpoint; what runs on a host is for a hook to say."""
    a, b = (
        configured(replace(each, layout="directory", hook=STOPPED)) for each in (pair.a, pair.b)
    )
    push_step(a, 1)
    return replace(pair, a=a, b=b)


def push_step(site: Site, step: int) -> str:
    """The checkpoint that it became."""
    write_tree(site.storage() / f"step-{step}", {"n": str(step).encode()})
    pushed = site.run("push", "--json")
    assert pushed.code == 0, pushed.err
    id: str = pushed.document["checkpoint"]["id"]
    return id


def bucket_of(pair: Pair) -> Path:
    return Path(pair.store.name.removeprefix("file://"))


def beat(pair: Pair, node: str, role: Role) -> None:
    """Say in the bucket that a node lives."""
    writer = pair.head.writer
    nodes.write(
        pair.store,
        Heartbeat(
            node=node,
            node_id=writer.node_id if writer.node == node else node,
            machine=node,
            role=role,
            epoch=1,
            warm=None,
            pulling=None,
            at=datetime.now(UTC),
        ),
    )


def status_of(site: Site) -> Any:
    (pipeline,) = site.run("status", "--json").document["pipelines"]
    return pipeline


def role_of(site: Site) -> str:
    """Whether a daemon runs or not."""
    role: str = status_of(site)["role"]["role"]
    return role
