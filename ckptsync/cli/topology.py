"""The nodes of a pipeline as people see them: for its own command, and around what moves them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ckptsync.cli.tables import table
from ckptsync.operations import documents
from ckptsync.operations.topology import NodeView, Topology
from ckptsync.units import format_age, format_duration

_HEADINGS: Final = ("NODE", "ROLE", "EPOCH", "WARM", "LAG", "SEEN", "")


def document(of: Topology) -> Mapping[str, Any]:
    return {
        "pipeline": of.pipeline,
        "bucket": of.store,
        "epoch": of.epoch,
        "writer": None
        if of.writer is None
        else {
            "node": of.writer.node,
            "state": of.writer.state,
            "released_to": of.writer.released_to,
            "since": documents.time(of.writer.since),
        },
        "latest": of.latest,
        "nodes": [_node(each) for each in of.nodes],
    }


def lines(of: Topology) -> Iterator[str]:
    yield f"{of.pipeline} in {of.store}: {_writer(of)}"
    if of.nodes:
        yield from table(_HEADINGS, [_cells(each) for each in of.nodes])


def _writer(of: Topology) -> str:
    if of.writer is None:
        return "nobody has written there yet"
    to = f" to {of.writer.released_to}" if of.writer.released_to else ""
    return f"epoch {of.epoch}, writer {of.writer.node} ({of.writer.state}{to})"


def _node(of: NodeView) -> Mapping[str, Any]:
    return {
        "node": of.node,
        "this_node": of.this_node,
        "writer": of.writer,
        "role": of.role,
        "epoch": of.epoch,
        "warm": of.warm,
        "lag_seconds": documents.seconds(of.lag),
        "pulling": of.pulling,
        "seen_seconds_ago": documents.seconds(of.age),
        "fresh": of.fresh,
    }


def _cells(of: NodeView) -> Sequence[str]:
    return (
        of.node,
        of.role or "-",
        "-" if of.epoch is None else str(of.epoch),
        of.warm or "-",
        _lag(of),
        _seen(of),
        ", ".join(_marks(of)),
    )


def _lag(of: NodeView) -> str:
    if of.lag is not None:
        return format_duration(of.lag)
    return "-" if of.warm is None else "unknown"


def _seen(of: NodeView) -> str:
    if of.age is None:
        return "never"
    return format_age(of.age) if of.fresh else f"{format_age(of.age)}, silent"


def _marks(of: NodeView) -> Iterator[str]:
    if of.writer:
        yield "writer"
    if of.this_node:
        yield "this node"
    if of.age is not None and of.role is None:
        yield "its heartbeat cannot be read"
    if of.pulling is not None:
        yield f"pulling {of.pulling}"
