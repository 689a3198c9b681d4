"""Prunes of a world, each held against the rules: what it may do, must do, and says it did."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from ckptsync.errors import Refused
from ckptsync.model import CheckpointId, ignore
from ckptsync.operations.orders import Prune
from ckptsync.operations.preview import preview
from ckptsync.operations.prune import PruneReport
from ckptsync.operations.prune import prune as prune_here
from ckptsync.stores.base import ObjectStore
from tests.fakes.stores import Crash
from tests.operations.actors import Odd, before
from tests.operations.forgetting import repository_of
from tests.operations.retention_ledger import NOTHING, Fates
from tests.operations.retention_rules import PLACES, Rules, State, needed
from tests.operations.retention_world import Dies, World
from tests.operations.takeovers import Node

_SURPRISING: Final = 20
_APART: Final = timedelta(days=3)
_ROUNDS: Final = 12
"""Of pruning; after so many there can be nothing left to do."""

Moves = Mapping[State, frozenset[CheckpointId]]
"""Which checkpoints come into each state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stalls:
    """Before a call of the store time passes, and somebody else acts."""

    at: int
    passes: timedelta


def prune(world: World, node: Node, order: Prune, dies: Dies | None = None) -> PruneReport | None:
    """None where it died or was refused."""
    with world.acting():
        return _prune(world, node, order, world.dying(dies))


def push_while_the_other_prunes(world: World, stalls: Stalls) -> None:
    """After so long that what was uploaded may look like an orphan."""
    other = world.tidier()

    def prunes() -> None:
        world.ledger.look(moves=True)
        world.clock.time += stalls.passes
        _prune(world, other, Prune(orphans=True, insist=True), world.store)

    with world.acting():
        world.push_to(Odd(world.store, before(stalls.at, prunes)))


def prune_while_the_primary_pushes(world: World, stalls: Stalls) -> None:
    """Whatever it was about to do, it goes on in a bucket that moved on meanwhile."""
    fates, at = _fates(world, world.rules()), world.clock()

    def pushes() -> None:
        nonlocal fates, at
        world.ledger.look(fates, NOTHING, at=at)
        world.clock.time += stalls.passes
        world.push_to(world.store)
        fates, at = _fates(world, world.rules()), world.clock()

    order, tidier = Prune(orphans=True, insist=True), world.tidier()
    with world.acting(), tidier.running(Odd(world.store, before(stalls.at, pushes))) as other:
        prune_here(other, order, progress=ignore)
        world.ledger.look(fates, NOTHING, at=at)


def settle(world: World) -> None:
    """Prune until nothing is left to do: then nothing is there that nothing needs."""
    order, idle = Prune(orphans=True, insist=True), 0
    for _ in range(_ROUNDS):
        world.clock.time += _APART
        reports = [prune(world, node, order) for node in (world.primary, world.tidier())]
        idle = idle + 1 if all(report is not None and report.idle for report in reports) else 0
        if idle == 2:  # what one round finds, the next may be the first to delete
            break
    else:
        raise AssertionError("pruning never ends")
    there = {info.key for place in PLACES for info in world.store.walk(place)}
    damaged = {key for each in world.ledger.entries for key in each.damaged}
    needs = _needed(world)
    assert needs - damaged <= there
    assert all(map(world.ledger.lies_between_users, there - needs)), "something leaked"
    for id, account in world.ledger.accounts.items():
        if account.state != "bad":
            world.pull(id)


def _prune(world: World, node: Node, order: Prune, store: ObjectStore) -> PruneReport | None:
    ledger, rules = world.ledger, world.rules()
    fates = _fates(world, rules, bad=order.bad)
    bad_first = {id: None for id, fate in fates.items() if fate is None and _is_bad(world, id)}
    moves = _moves(world, fates)
    new_rules = world.head.policy != rules.policy.record()
    surprising = new_rules and len(moves["retired"]) > _SURPRISING
    _require_shown(world, node, rules, moves, bad=order.bad, refused=surprising)
    asks = surprising and not order.insist
    try:
        with node.running(store) as pipeline:
            report = prune_here(pipeline, order, progress=ignore)
    except Crash:
        ledger.look(fates, bad_first, NOTHING, at=rules.now)
        return None
    except Refused:
        assert not (order.insist and order.orphans), "an operator insisted"
        ledger.look(bad_first)
        if not asks:
            _require_mostly_unneeded(world)
        return None
    assert not asks, "nobody was asked"
    ledger.look(fates, at=rules.now)
    _require_told(world, report, moves)
    _require_by_the_rules(world)
    return report


def _fates(world: World, rules: Rules, *, bad: bool = False) -> Fates:
    return {each.id: rules.fate(each, bad=bad) for each in world.ledger.entries}


def _is_bad(world: World, id: CheckpointId) -> bool:
    return world.ledger.accounts[id].state == "bad"


def _moves(world: World, fates: Fates) -> Moves:
    states = {id: account.state for id, account in world.ledger.accounts.items()}
    return {
        state: frozenset(id for id, fate in fates.items() if fate == state != states[id])
        for state in ("live", "retired", "bad", None)
    }


def _require_shown(
    world: World, node: Node, rules: Rules, moves: Moves, *, bad: bool, refused: bool
) -> None:
    """A preview says what the rules say, and changes nothing."""
    at_first = world.head
    with node.running(world.store) as pipeline:
        shown = preview(pipeline, bad=bad)
    assert world.head == at_first
    kept = {each.checkpoint.id for each in shown.verdicts if each.keep}
    entries = world.ledger.entries
    assert kept == {each.id for each in entries if each.state == "bad" or rules.keep(each)}
    assert shown.plan.retire == moves["retired"]
    assert shown.plan.revive == moves["live"]
    assert shown.plan.forget == moves[None]
    assert (shown.refusal is not None) == refused


def _require_told(world: World, report: PruneReport, moves: Moves) -> None:
    """It says what it has done."""
    assert frozenset(report.retired) == moves["retired"]
    assert frozenset(report.revived) == moves["live"]
    assert frozenset(report.forgotten) == moves[None]
    states = [each.state for each in world.ledger.entries]
    assert (report.live, report.waiting) == (states.count("live"), states.count("retired"))
    assert not report.left_to_others


def _require_by_the_rules(world: World) -> None:
    """What waits to be forgotten may go, to the letter."""
    rules = world.rules()
    for each in world.ledger.entries:
        if each.state == "retired":
            assert not rules.keep(each)
            assert rules.has_enough_newer(each)
            assert rules.now - each.at >= rules.policy.min_age


def _require_mostly_unneeded(world: World) -> None:
    sizes = {info.key: info.size for place in PLACES for info in world.store.walk(place)}
    needs = _needed(world)
    unneeded = sum(size for key, size in sizes.items() if key not in needs)
    assert 2 * unneeded > sum(sizes.values()), "a sweep was refused"


def _needed(world: World) -> frozenset[str]:
    return needed(repository_of(world.store), world.head)
