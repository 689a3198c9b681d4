"""Making a head anew from the manifests, where it is lost."""

from dataclasses import dataclass, replace
from typing import Final, Literal

import structlog

from ckptsync.errors import Busy, IntegrityError, NotFound, Refused
from ckptsync.model import Progress, ignore
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.repair_guard import require_alone
from ckptsync.operations.repair_manifests import LeftOut, Survey, survey
from ckptsync.operations.repair_memory import claimant, is_done, known, note_taking, noted
from ckptsync.operations.transfers import stoppable
from ckptsync.operations.writing import require_fit
from ckptsync.repository import anew, catalog, epochs, keys, nodes, rebuild
from ckptsync.repository import descriptor as descriptors
from ckptsync.repository import head as heads
from ckptsync.repository.head import Head
from ckptsync.repository.nodes import SeenNode
from ckptsync.repository.register import SWAPS, Moved
from ckptsync.repository.repository import Repository
from ckptsync.state.identity import Remembered
from ckptsync.stores.base import Expect, Version

log = structlog.get_logger()

REASON: Final = "repair: rebuild-head"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadRebuilt:
    """Lost with the old head are its keeps, its policy, and which checkpoints were retired or bad.

    So one that was about to be deleted may be live again, and so may one that was forgotten, as
    long as no sweep has deleted anything of it. That does no harm. The new head says that it was
    rebuilt, so that nothing goes that was kept by name before an operator has looked.
    """

    head: Head
    left_out: tuple[LeftOut, ...]
    """What lies under manifests/ and is no checkpoint that could be restored. It stays there."""
    replaced: bool
    """A damaged head was there."""
    already: bool
    """It was rebuilt before this was asked."""

    @property
    def checkpoints(self) -> int:
        """How many the head names."""
        return len(self.head.checkpoints) + sum(page.count for page in self.head.pages)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lost:
    expect: Version | Literal[Expect.ABSENT]
    damage: IntegrityError | None
    """None where nothing is there."""


def rebuild_head(
    pipeline: Pipeline, *, force: bool = False, progress: Progress = ignore
) -> HeadRebuilt:
    """Make a head that names every checkpoint that is whole, with this node as its writer.

    Only where there is none; with `force` also in place of one that is damaged, beside a node
    that may be at work, or where no checkpoint is left to be named. Reads every manifest;
    progress gets their bytes. A crash leaves no new head, or all of it, and asking again goes
    on. Call with the pipeline's lock held.

    Raises Refused where nothing is lost, or not without force; PrimaryActive; IntegrityError if
    the descriptor is gone, too; WrongRepository, UnsupportedFormat; UnfitStore; CannotTell,
    StoreError, Cancelled.
    """
    repository = _opened(pipeline)
    me = pipeline.state.identity.remembered()
    lost = _look_twice(repository)
    if isinstance(lost, Head):
        if is_done(lost, me, REASON):
            return HeadRebuilt(head=lost, left_out=(), replaced=False, already=True)
        raise _nothing_lost(repository, lost)
    seen = nodes.read_all(pipeline.store)
    if not force:
        require_alone(pipeline, seen, writer=None)
        if lost.damage is not None:
            raise Refused(
                str(lost.damage),
                hint="put an older version of the object back, or have it replaced by what the "
                "manifests tell: --force",
            )
    require_fit(pipeline, anew=True)
    surveyed = survey(pipeline, repository, progress=stoppable(progress, pipeline.stop))
    if not surveyed.whole and not force:
        raise Refused(
            f"{repository.named(keys.MANIFESTS)} has no checkpoint that is whole, of "
            f"{len(surveyed.left_out)} manifests: the new head would name none",
            hint="is its disk mounted, its endpoint right? To begin with an empty list: --force",
        )
    new = _rebuilt(pipeline, repository, surveyed, me, seen)
    named = {entry.id for entry in new.checkpoints}
    latest = new.entry(new.latest) if new.latest else None
    slim = _spilled(repository, new)
    note_taking(pipeline, new, latest, [each for each in noted(me) if each not in named])
    head = _store(pipeline, repository, lost, slim)
    log.info("head.rebuilt", checkpoints=len(named), left_out=len(surveyed.left_out))
    return HeadRebuilt(
        head=head,
        left_out=(*surveyed.left_out, *_superseded(surveyed, new)),
        replaced=lost.damage is not None,
        already=False,
    )


def _opened(pipeline: Pipeline) -> Repository:
    """Raises IntegrityError, WrongRepository, UnsupportedFormat, StoreError."""
    where, store = pipeline.store.name, pipeline.store
    try:
        descriptor = descriptors.read(store)
    except NotFound as error:
        raise IntegrityError(
            f"{where} has no {keys.DESCRIPTOR}: without it nobody can tell how its data is stored",
            hint=f"put {keys.DESCRIPTOR} back from a copy of the bucket, then run this again",
        ) from error
    me = pipeline.state.identity.remembered()
    epochs.require_own_repository(descriptor, me, pipeline.node, where)
    descriptor.require_writable(f"{where}/{keys.DESCRIPTOR}")
    return Repository(store=store, descriptor=descriptor)


def _look_twice(repository: Repository) -> Head | _Lost:
    """Damage is believed once it was seen twice."""
    found = _look(repository)
    damaged = isinstance(found, _Lost) and found.damage is not None
    return _look(repository) if damaged else found


def _look(repository: Repository) -> Head | _Lost:
    """Raises IntegrityError for what cannot even be replaced; UnsupportedFormat, StoreError."""
    what = repository.named(keys.HEAD)
    try:
        fetched = repository.store.get(keys.HEAD, limit=heads.LIMIT)
    except NotFound:
        return _Lost(expect=Expect.ABSENT, damage=None)
    except IntegrityError as error:
        raise IntegrityError(
            str(error), hint=f"move {what} out of the way by hand, then run this again"
        ) from error
    try:
        head = heads.decode(fetched.data, what)
    except IntegrityError as error:
        return _Lost(expect=fetched.version, damage=error)
    repository.require_own(head)
    return head


def _nothing_lost(repository: Repository, head: Head) -> Refused:
    return Refused(
        f"{repository.named(keys.HEAD)} is there, at revision {head.revision} and epoch "
        f"{head.epoch} by node '{head.writer.node}': there is nothing to rebuild"
    )


def _rebuilt(
    pipeline: Pipeline,
    repository: Repository,
    surveyed: Survey,
    me: Remembered,
    seen: tuple[SeenNode, ...],
) -> Head:
    """With all checkpoints in it, however many."""
    by = claimant(pipeline, me, displaced=None)
    at = pipeline.store.now()
    old = rebuild.recovered(
        repository.descriptor, surveyed.found, surveyed.whole, anew.active(by, at)
    )
    seen_here = known(me, seen)
    everything = replace(
        seen_here,
        next_seq=max(seen_here.next_seq, surveyed.next_seq),
        generation=surveyed.generation,
    )
    latest = old.entry(old.latest) if old.latest else None
    return anew.taken_anew(old, by, latest, everything, REASON, at)


def _superseded(surveyed: Survey, new: Head) -> tuple[LeftOut, ...]:
    """Manifests that are whole, and gave way to another of the same number."""
    chosen = {entry.seq: entry.id for entry in new.checkpoints}
    return tuple(
        LeftOut(
            key=keys.manifest(each.entry.id),
            reason=f"has the number of checkpoint {chosen[each.entry.seq]}, which was committed",
        )
        for each in surveyed.whole
        if each.entry.id != chosen[each.entry.seq]
    )


def _spilled(repository: Repository, head: Head) -> Head:
    while (spill := catalog.spill(head, repository.descriptor.hash)) is not None:
        repository.store.put(spill.key, spill.data)
        head = spill.head
    return head


def _store(pipeline: Pipeline, repository: Repository, lost: _Lost, new: Head) -> Head:
    """Put it where the lost one was, unless something else is there by now."""

    def is_new(head: Head) -> bool:
        return (head.writer.instance, head.epoch) == (new.writer.instance, new.epoch)

    register = pipeline.register()
    for _ in range(SWAPS):
        try:
            return register.swap(lost.expect, new, as_writer=True, landed=is_new)
        except Moved as error:
            moved = error
        except IntegrityError as error:  # read back: it is as lost as it was
            moved = Moved(unanswered=True)
            moved.__cause__ = error
        register.pause(unanswered=moved.unanswered)
        again = _look_twice(repository)
        if isinstance(again, Head):
            if is_new(again):
                return again
            raise _nothing_lost(repository, again)
        if again.expect != lost.expect:
            raise Busy(
                f"{repository.named(keys.HEAD)} was replaced or deleted meanwhile",
                hint="run the same command again",
            )
    raise register.gave_up(moved)
