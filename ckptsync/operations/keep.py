"""Keep and unkeep: names that protect a checkpoint from retention."""

from dataclasses import dataclass
from datetime import datetime

import structlog

from ckptsync.errors import ConfigError, Refused
from ckptsync.operations import resolve
from ckptsync.operations.orders import Keep, Unkeep
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.resolve import LATEST
from ckptsync.operations.tidying import open_for_tidying
from ckptsync.repository import head as heads
from ckptsync.repository import keeps, pages, timelines
from ckptsync.repository.head import Entry, Head
from ckptsync.repository.repository import HeadAt, Repository

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAs:
    name: str
    entry: Entry
    until: datetime | None
    already: bool = False
    revived: bool = False
    """It was retired, and is live again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LetGo:
    name: str
    checkpoint: str | None
    """That it kept; None if nothing had that name."""


def keep(pipeline: Pipeline, order: Keep) -> KeptAs:
    """Name a checkpoint, so that retention leaves it alone; bring it back if it was retired.

    Raises CheckpointNotFound; Refused for one that was found damaged, for a name that keeps
    another, and for a time that has passed; ConfigError for what is no name; what
    `open_for_tidying` raises; CannotTell.
    """
    _require_name(order.name)
    tidying = open_for_tidying(pipeline)
    if tidying is None:
        raise resolve.not_found(order.checkpoint, [pipeline.store.name])
    repository = tidying.repository
    now = pipeline.store.now()
    if order.until is not None and order.until <= now:
        raise Refused(
            f"{order.until:%Y-%m-%d %H:%M:%S%z} has passed by the clock of {pipeline.store.name}: "
            "a keep until then would protect nothing",
            hint="is this host's clock right? Else name a later time",
        )
    kept: list[KeptAs] = []

    def decide(old: HeadAt) -> Head | None:
        entry = _wanted(repository, old.head, order.checkpoint)
        name = order.name or entry.id
        wanted = heads.Keep(checkpoint=entry.id, by=order.by, until=order.until)
        before = old.head.keeps.get(name)
        named = before is not None and (before.checkpoint, before.until) == (entry.id, order.until)
        retired = entry.state == "retired"
        if named and not retired:
            if not kept:
                kept.append(KeptAs(name=name, entry=entry, until=order.until, already=True))
            return None
        kept[:] = [KeptAs(name=name, entry=_live(entry), until=order.until, revived=retired)]
        new = keeps.kept(old.head, name, wanted, now=now)
        return _revived(repository, new, entry) if retired else new

    tidying.register.change(decide, as_writer=False, landed=lambda _head: False)
    if not kept[0].already:
        log.info("checkpoint.kept", name=kept[0].name, checkpoint=kept[0].entry.id)
    return kept[0]


def unkeep(pipeline: Pipeline, order: Unkeep) -> LetGo:
    """Take a name away; the rules of retention hold for its checkpoint again.

    Raises what `open_for_tidying` raises; CannotTell.
    """
    tidying = open_for_tidying(pipeline)
    if tidying is None:
        return LetGo(name=order.name, checkpoint=None)
    checkpoint: str | None = None

    def decide(old: HeadAt) -> Head | None:
        nonlocal checkpoint
        named = old.head.keeps.get(order.name)
        if named is None:
            return None
        checkpoint = named.checkpoint
        return keeps.unkept(old.head, order.name)

    tidying.register.change(decide, as_writer=False, landed=lambda _head: False)
    if checkpoint is not None:
        log.info("checkpoint.let_go", name=order.name, checkpoint=checkpoint)
    return LetGo(name=order.name, checkpoint=checkpoint)


def _require_name(name: str | None) -> None:
    if name is not None and keeps.NAME_PATTERN.fullmatch(name) is None:
        raise ConfigError(
            f"{name!r:.80} is no name: it has to be of 1 to 64 letters, digits, '.', '_' and '-', "
            "and begin with a letter or a digit"
        )


def _wanted(repository: Repository, head: Head, wanted: str) -> Entry:
    if wanted == LATEST:
        return resolve.latest(repository, head)
    bad: Entry | None = None
    for entry in repository.entries(head):
        if wanted in (entry.id, entry.engine_id):
            if entry.state != "bad":
                return entry
            bad = bad or entry
    if bad is None:
        raise resolve.not_found(wanted, [repository.store.name])
    raise Refused(
        f"checkpoint {bad.id} in {repository.store.name} was found damaged: there is nothing whole "
        "to keep",
        hint="'ckptsync list' shows the others",
    )


def _revived(repository: Repository, head: Head, entry: Entry) -> Head:
    """It may be newer than what is called the latest for want of a better one."""
    new = pages.edited(repository, head, {entry.id}, _live).head
    return timelines.with_latest(new, repository.entries(new))


def _live(entry: Entry) -> Entry:
    return entry.model_copy(update={"state": "live", "retired_at": None})
