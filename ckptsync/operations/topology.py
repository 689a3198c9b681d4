"""The nodes of a pipeline: what each says of itself, and which one the bucket calls its writer."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from ckptsync.model import CheckpointId, Role
from ckptsync.operations.looking import look_again
from ckptsync.operations.pipeline import Pipeline
from ckptsync.repository import nodes
from ckptsync.repository.head import Entry, Head, Writer
from ckptsync.repository.nodes import SeenNode
from ckptsync.repository.repository import Empty
from ckptsync.repository.timelines import on_path, path

Lag = Callable[[CheckpointId | None], timedelta | None]
"""How far a checkpoint lies behind the latest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    node: str
    this_node: bool = False
    writer: bool = False
    """Whether head names it."""
    age: timedelta | None = None
    """Of its heartbeat, by the store's clock; None where there is none."""
    fresh: bool = False
    """Whether that speaks for a living node."""
    role: Role | None = None
    """What it says of itself, here and below; None where it says nothing that can be read."""
    epoch: int | None = None
    warm: CheckpointId | None = None
    """The newest checkpoint that it could go on from without the bucket."""
    lag: timedelta | None = None
    """From the commit of that one to the commit of the latest; None where it does not lie behind
    the latest, or head does not name it any more."""
    pulling: CheckpointId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    pipeline: str
    store: str
    epoch: int | None
    """None, as what follows, where there is no head."""
    writer: Writer | None
    latest: CheckpointId | None
    nodes: Sequence[NodeView]
    """In order of their names."""


def topology(pipeline: Pipeline) -> Topology:
    """Read head and every heartbeat. Raises HeadLost, IntegrityError, StoreError."""
    head, lag = _head(pipeline)
    writer = None if head is None else head.writer
    return Topology(
        pipeline=pipeline.node.pipeline,
        store=pipeline.store.name,
        epoch=None if head is None else head.epoch,
        writer=writer,
        latest=None if head is None else head.latest,
        nodes=_known_better(
            pipeline,
            viewed(
                nodes.read_all(pipeline.store),
                this_node=pipeline.node.name,
                writer=None if writer is None else writer.node,
                lag=lag,
            ),
        ),
    )


def viewed(
    seen: Iterable[SeenNode], *, this_node: str, writer: str | None, lag: Lag
) -> tuple[NodeView, ...]:
    """A writer that never said anything is there too."""
    views = {each.node: _view(each, lag) for each in seen}
    if writer is not None:
        views.setdefault(writer, NodeView(node=writer))
    return tuple(
        replace(view, this_node=name == this_node, writer=name == writer)
        for name, view in sorted(views.items())
    )


def _known_better(pipeline: Pipeline, views: Sequence[NodeView]) -> tuple[NodeView, ...]:
    """What this node has said of itself may be older than its role, or was never said."""
    current = pipeline.state.roles.current()
    here = {each.node: each for each in views}
    me = here.get(pipeline.node.name, NodeView(node=pipeline.node.name, this_node=True))
    if current is not None and me.role is not current.role:
        epoch = pipeline.state.identity.remembered().epoch
        here[me.node] = replace(
            me, role=current.role, epoch=epoch, warm=None, lag=None, pulling=None
        )
    return tuple(view for _, view in sorted(here.items()))


def behind(head: Head, latest: Entry | None, warm: Entry | None) -> timedelta | None:
    """From the commit of a checkpoint to the commit of the latest, if that goes on from it."""
    if latest is None or warm is None or not on_path(warm, path(head)):
        return None
    return max(latest.at - warm.at, timedelta(0))  # a store's clock may be set back


def _view(seen: SeenNode, lag: Lag) -> NodeView:
    said = seen.heartbeat
    view = NodeView(node=seen.node, age=seen.age, fresh=seen.fresh)
    if said is None:
        return view
    return replace(
        view,
        role=said.role,
        epoch=said.epoch,
        warm=said.warm,
        lag=lag(said.warm),
        pulling=said.pulling,
    )


def _head(pipeline: Pipeline) -> tuple[Head | None, Lag]:
    found = look_again(pipeline.store, pipeline.state.identity.remembered())
    if isinstance(found, Empty):
        return (None if found.head is None else found.head.head), lambda _: None
    repository, head = found[0], found[1].head

    def find(checkpoint: CheckpointId | None) -> Entry | None:
        return None if checkpoint is None else repository.find(head, checkpoint)

    latest = find(head.latest)
    return head, lambda checkpoint: behind(head, latest, find(checkpoint))
