"""Around what moves a pipeline: its nodes before, a question, its nodes after."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import click

from ckptsync.cli import ask, wiring
from ckptsync.cli import topology as shown
from ckptsync.cli.answer import Answer
from ckptsync.cli.confirm import confirm, require_terminal
from ckptsync.cli.invocation import Invocation
from ckptsync.config.model import Config
from ckptsync.errors import Cancelled, CkptsyncError
from ckptsync.escaping import escaped
from ckptsync.operations.orders import Order
from ckptsync.operations.topology import Topology, topology

Lines = Callable[[Mapping[str, Any]], Iterable[str]]
"""Of an order's document."""
Nodes = Topology | CkptsyncError
"""An error: they cannot be had, which is no reason to do nothing."""


def survey(invocation: Invocation, config: Config, name: str, *, yes: bool) -> Nodes:
    """The nodes before. Raises ConfigError at once where nobody could be asked; Cancelled."""
    if not yes:
        require_terminal()
    return look(invocation, config, name)


def look(invocation: Invocation, config: Config, name: str) -> Nodes:
    """Raises Cancelled."""
    try:
        with wiring.wire(
            config, name, invocation.stop, backoff=wiring.HASTY, reading=True
        ) as pipeline:
            return topology(pipeline)
    except Cancelled:
        raise
    except CkptsyncError as error:
        return error


def move(
    invocation: Invocation,
    config: Config,
    name: str,
    order: Order,
    *,
    what: str,
    lines: Lines,
    yes: bool,
    typed: str | None = None,
) -> Answer:
    """Show, ask, carry out, show again. Raises what `agree` and `ask.carry_out` raise."""
    before = survey(invocation, config, name, yes=yes)
    agree(invocation, before, what, yes=yes, typed=typed)
    document = ask.carry_out(invocation, config, name, order)
    return answer(before, look(invocation, config, name), document, lines)


def agree(
    invocation: Invocation, before: Nodes, what: str, *, yes: bool, typed: str | None = None
) -> None:
    """Show the nodes, say what will happen, and ask unless that was answered with --yes.

    Raises what `confirm` raises.
    """
    if not yes:
        _aside(_lines(before))
        confirm(what, stop=invocation.stop, typed=typed)
    elif not invocation.json:
        _aside((*_lines(before), what))


def answer(
    before: Nodes,
    after: Nodes | None,
    document: Mapping[str, Any],
    lines: Lines,
    *,
    notes: Sequence[str] = (),
) -> Answer:
    """What it came to, with the nodes beside it; no `after` where it has not come to its end."""
    return Answer(
        document={**document, "before": _document(before), "after": _document(after)},
        lines=lambda: lines(document),
        asides=(*notes, *_lines(after)),
    )


def other_writer(nodes: Nodes) -> str | None:
    """The node that head names, unless it is this one."""
    if isinstance(nodes, CkptsyncError):
        return None
    return next((each.node for each in nodes.nodes if each.writer and not each.this_node), None)


def _lines(nodes: Nodes | None) -> Iterator[str]:
    match nodes:
        case None:
            return
        case Topology():
            yield from shown.lines(nodes)
        case _:
            yield f"the nodes cannot be shown: {nodes}"


def _document(nodes: Nodes | None) -> Mapping[str, Any] | None:
    return shown.document(nodes) if isinstance(nodes, Topology) else None


def _aside(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(escaped(line), err=True)
