"""What 'config check' tells of a pipeline's bucket in the long run."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

from ckptsync.cli.sizes import Remembered
from ckptsync.cli.wording import counted
from ckptsync.config.forecast import Forecast, Sizes, at_least, forecast
from ckptsync.config.leaner import Leaner, leaner
from ckptsync.config.model import Pipeline, Sync
from ckptsync.config.prices import Prices, prices
from ckptsync.operations.documents import seconds
from ckptsync.units import format_duration, format_size, parse_size

_A_GIB: Final = parse_size("1GiB")
_PERCENT: Final = 5
"""Of a checkpoint is taken to be new, where nothing tells."""
_NOUNS: Final = {"hourly": "hour", "daily": "day", "weekly": "week", "monthly": "month"}


class Origin(StrEnum):
    """Where the sizes come from."""

    GIVEN = "given"
    HISTORY = "history"
    PARTLY = "partly"
    """What is new is assumed."""
    ASSUMED = "assumed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What a forecast is made with."""

    sizes: Sizes
    origin: Origin
    pushes: int = 0
    """Of the history."""
    standbys: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SteadyState:
    name: str
    pipeline: Pipeline
    basis: Basis
    forecast: Forecast | None
    """None where nothing is pushed by itself."""
    leaner: Leaner | None
    prices: Prices | None


def basis(given: Sizes | None, remembered: Remembered | None, *, standbys: int) -> Basis:
    """What the operator says wins over what was seen, and that over what is assumed."""
    if given is not None:
        return Basis(sizes=given, origin=Origin.GIVEN, standbys=standbys)
    if remembered is None:
        return Basis(sizes=partly(_A_GIB), origin=Origin.ASSUMED, standbys=standbys)
    if remembered.pushes == 1:  # the first one is all new, which says nothing of the next
        sizes = partly(remembered.sizes.whole)
        return Basis(sizes=sizes, origin=Origin.PARTLY, pushes=1, standbys=standbys)
    return Basis(
        sizes=remembered.sizes,
        origin=Origin.HISTORY,
        pushes=remembered.pushes,
        standbys=standbys,
    )


def partly(whole: int) -> Sizes:
    """Of a checkpoint of which only the whole is known."""
    return Sizes(whole=whole, new=whole * _PERCENT // 100)


def steady_state(name: str, pipeline: Pipeline, basis: Basis) -> SteadyState:
    return SteadyState(
        name=name,
        pipeline=pipeline,
        basis=basis,
        forecast=forecast(pipeline, basis.sizes, standbys=basis.standbys),
        leaner=leaner(pipeline, basis.sizes, standbys=basis.standbys),
        prices=prices(pipeline.sync),
    )


def lines(state: SteadyState) -> Iterator[str]:
    """The first names the pipeline; the others stand below what follows the name."""
    sync, indent = state.pipeline.sync, " " * (len(state.name) + 2)
    if sync.push_interval is None or state.forecast is None:
        yield (
            f"{state.name}: push_interval is not set, so what the bucket will hold cannot be "
            f"foretold; {_rules(sync)}"
        )
        return
    told = [_held(state, state.forecast)]
    if state.prices is not None:
        told.append(f" at {state.prices.title}")
    if state.basis.origin is Origin.ASSUMED:
        told.append(f", for each GiB of state of which {_PERCENT}% changes between two pushes")
    every = format_duration(sync.push_interval)
    yield f"{state.name}: one push every {every}, {_rules(sync)}: {''.join(told)}"
    yield f"{indent}{_made_with(state.basis)}"
    if state.prices is not None and state.prices.besides is not None:
        yield f"{indent}{sync.storage_class} costs more than that: for {state.prices.besides}"
    if state.leaner is not None:
        changed = " and ".join(f"{key} = {text}" for key, text in state.leaner.settings.items())
        yield f"{indent}cheaper would be: with {changed}, {_held(state, state.leaner.forecast)}"


def document(state: SteadyState) -> Mapping[str, Any]:
    sync, suggested = state.pipeline.sync, state.leaner
    return {
        "pipeline": state.name,
        "push_interval": seconds(sync.push_interval),
        "retention": {
            "min_count": sync.retention_min_count,
            "min_age": seconds(sync.retention_min_age),
            **sync.retention.model_dump(),
        },
        "at_least": at_least(sync),
        "basis": {
            "origin": state.basis.origin,
            "bytes": state.basis.sizes.whole,
            "new_bytes": state.basis.sizes.new,
            "pushes": state.basis.pushes,
            "standbys": state.basis.standbys,
        },
        "forecast": _forecast(state.forecast, state.prices),
        "prices": None if state.prices is None else asdict(state.prices),
        "leaner": None
        if suggested is None
        else {
            "settings": dict(suggested.settings),
            "forecast": _forecast(suggested.forecast, state.prices),
        },
    }


def _forecast(held: Forecast | None, listed: Prices | None) -> Mapping[str, Any] | None:
    if held is None:
        return None
    storage, requests = _dollars(held, listed) if listed is not None else (None, None)
    return {
        "checkpoints": held.checkpoints,
        "retired": held.retired,
        "bytes": held.bytes,
        "requests": asdict(held.total),
        "requests_by": {name: asdict(each) for name, each in held.requests.items()},
        "storage_dollars": storage,
        "request_dollars": requests,
    }


def _dollars(held: Forecast, listed: Prices) -> tuple[float, float]:
    """A month's, for storage and for requests."""
    requests = listed.requests(writes=held.total.writes, reads=held.total.reads)
    return round(listed.storage(held.bytes), 2), round(requests, 2)


def _rules(sync: Sync) -> str:
    age = sync.retention_min_age
    rules = f"kept for {format_duration(age)} and at least" if age else "kept are at least"
    periods = [
        counted(kept, _NOUNS[name]) for name, kept in sync.retention.model_dump().items() if kept
    ]
    newest = f", and the newest of {', '.join(periods)}" if periods else ""
    return f"{rules} {at_least(sync):,}{newest}"


def _held(state: SteadyState, held: Forecast) -> str:
    noun = "checkpoint" if held.checkpoints == 1 else "checkpoints"
    phrases = [
        f"{held.checkpoints:,} {noun} (+ {held.retired:,} retired)",
        format_size(held.bytes),
    ]
    if held.requests:
        phrases.append(f"{_many(held.total.writes + held.total.reads)} requests a month")
        phrases.append(_cost(state, held))
    return ", ".join(phrases)


def _cost(state: SteadyState, held: Forecast) -> str:
    if state.prices is None:
        of = state.pipeline.sync.storage_class
        return f"what that store charges{f' for {of}' if of else ''} is not known here"
    dollars = sum(_dollars(held, state.prices))
    return f"about ${dollars:,.0f} a month" if dollars >= 10 else f"about ${dollars:.2f} a month"


def _made_with(basis: Basis) -> str:
    whole, new = format_size(basis.sizes.whole), format_size(basis.sizes.new)
    standbys = counted(basis.standbys, "standby")
    match basis.origin:
        case Origin.GIVEN:
            sizes = f"{whole} a checkpoint, {new} of it new"
        case Origin.HISTORY:
            sizes = f"{whole} a checkpoint, {new} of it new, as in the last {basis.pushes} pushes"
        case Origin.PARTLY:
            sizes = f"{whole} a checkpoint, as in the last push, {_PERCENT}% of it new, as a guess"
        case Origin.ASSUMED:
            return f"assumed: {standbys}; --checkpoint-size and --new-size say how large it is"
    return f"assumed: {standbys}, {sizes}"


def _many(number: int) -> str:
    return f"{number / 1e6:,.1f} M" if number >= 1e6 else f"{number:,}"
