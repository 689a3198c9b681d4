"""Verify: is what the checkpoints of a bucket refer to really there, and unharmed?

Damage is only what the store itself said or showed twice. An error of the store ends the run:
"could not tell" is never reported as damage.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import Final

from ckptsync.errors import Busy, CheckpointNotFound
from ckptsync.model import Progress
from ckptsync.operations import resolve
from ckptsync.operations.foreign import warn_if_foreign
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.resolve import LATEST
from ckptsync.operations.transfers import stoppable
from ckptsync.operations.verify_checks import DAMAGE, Checks, told, twice
from ckptsync.operations.verify_head import order_faults
from ckptsync.repository import keys
from ckptsync.repository.head import Entry, Head
from ckptsync.repository.register import head_lost
from ckptsync.repository.repository import Empty, Repository, look
from ckptsync.repository.timelines import latest_fault

ALL: Final = "all"
_TRIES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    key: str
    problem: str
    """The rest of a sentence that begins with the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    entry: Entry
    problems: tuple[Problem, ...]

    @property
    def sound(self) -> bool:
        return not self.problems


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    checkpoints: tuple[Verified, ...]
    """Newest first, whatever their state."""
    problems: tuple[Problem, ...]
    """Of the repository itself: its head and catalog pages."""
    objects: int
    """Manifests, chunks and packs that were looked at, each once."""
    bytes: int
    """That these objects should have; with `full` as many were read."""
    seconds: float

    @property
    def sound(self) -> bool:
        return not self.problems and all(each.sound for each in self.checkpoints)


def verify(pipeline: Pipeline, *, checkpoints: str, full: bool, progress: Progress) -> VerifyReport:
    """Check "latest", "all", or those that answer to a checkpoint id or an engine's id.

    Manifests are read, of other objects existence and size are checked; with `full` every byte
    is read, and every digest checked. Only reads, from the bucket and never from a copy that is
    kept here, and takes no lock. Progress gets the stored bytes that are done with.

    Raises CheckpointNotFound; Busy if the list of checkpoints changes while it is read; HeadLost,
    also where this node has seen a head and none is left; IntegrityError if head or descriptor
    cannot be read; UnsupportedFormat; StoreError, Cancelled.
    """
    started = monotonic()
    me = pipeline.state.identity.remembered()
    found = look(pipeline.store)
    if isinstance(found, Empty):
        if found.head is None and me.revision:
            raise head_lost(pipeline.store.name, me)
        raise resolve.not_found(LATEST, [pipeline.store.name])
    repository, at = found
    warn_if_foreign(pipeline, repository)
    head, listing = _listed(repository, at.head, whole=checkpoints != LATEST)
    problems = tuple(_repository_problems(head, listing))
    entries = [each for each in listing.entries() if _answers(each, checkpoints, head)]
    if not entries and not problems:
        raise _nothing(checkpoints, pipeline.store.name)
    checked = Checks(
        pipeline=pipeline,
        repository=repository,
        full=full,
        progress=stoppable(progress, pipeline.stop),
    ).run(entries)
    report = VerifyReport(
        checkpoints=tuple(
            Verified(entry=entry, problems=tuple(Problem(key=k, problem=p) for k, p in faults))
            for entry, faults in zip(entries, checked.faults, strict=True)
        ),
        problems=problems,
        objects=checked.objects,
        bytes=checked.bytes,
        seconds=monotonic() - started,
    )
    if report.sound:
        return report
    left = _without_forgotten(report, repository)
    if not left.checkpoints and not left.problems:
        raise _nothing(checkpoints, pipeline.store.name)
    return left


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listing:
    parts: Mapping[str, Sequence[Entry]]
    """By the object that they lie in, newest object first; entries oldest first."""
    problems: Sequence[Problem]
    """Of pages that cannot be read."""

    def entries(self) -> Iterator[Entry]:
        return (entry for part in self.parts.values() for entry in reversed(part))


def _listed(repository: Repository, head: Head, *, whole: bool) -> tuple[Head, _Listing]:
    """The head, or a later one, of which no page was replaced before it was read. Raises Busy."""
    for _ in range(_TRIES):
        listing = _list(repository, head, whole=whole)
        if not listing.problems:
            return head, listing
        newest = repository.head().head
        if {each.key for each in listing.problems} <= {page.key for page in newest.pages}:
            return head, listing
        head = newest
    raise Busy(
        f"the list of checkpoints in {repository.store.name} changed {_TRIES} times while it was "
        "read",
        hint="try again",
    )


def _list(repository: Repository, head: Head, *, whole: bool) -> _Listing:
    """Read head's pages too; if not the whole is wanted, only where `latest` may lie in one."""
    parts: dict[str, Sequence[Entry]] = {keys.HEAD: head.checkpoints}
    problems: list[Problem] = []
    in_head = head.latest is None or head.entry(head.latest) is not None
    for page in reversed(head.pages) if whole or not in_head else ():
        try:
            parts[page.key] = twice(partial(repository.read_page, page, head))
        except DAMAGE as error:
            problems.append(Problem(key=page.key, problem=told(error, repository, page.key)))
    return _Listing(parts=parts, problems=problems)


def _repository_problems(head: Head, listing: _Listing) -> Iterator[Problem]:
    yield from listing.problems
    for key, entries in listing.parts.items():
        for fault in order_faults(entries, head.next_seq):
            yield Problem(key=key, problem=fault)
    latest = next((entry for entry in listing.entries() if entry.id == head.latest), None)
    if latest is None and listing.problems:
        return  # it may lie in a page that cannot be read
    if (wrong := latest_fault(head, latest)) is not None:
        yield Problem(key=keys.HEAD, problem=wrong)


def _answers(entry: Entry, wanted: str, head: Head) -> bool:
    if wanted == LATEST:
        return entry.id == head.latest
    return wanted in (ALL, entry.id, entry.engine_id)


def _nothing(wanted: str, store: str) -> CheckpointNotFound:
    if wanted not in (LATEST, ALL):
        return resolve.not_found(wanted, [store])
    return CheckpointNotFound(
        f"{store} has no live checkpoint", hint="'ckptsync list' shows their states"
    )


def _without_forgotten(report: VerifyReport, repository: Repository) -> VerifyReport:
    """Leave out what retention forgot meanwhile, and a sweep may have deleted by now."""
    head = repository.head().head
    pages = {page.key for page in head.pages}

    def forgotten(each: Verified) -> bool:
        if each.sound:
            return False
        try:
            return repository.find(head, each.entry.id) is None
        except DAMAGE:  # in a page that cannot be read
            return False

    return replace(
        report,
        checkpoints=tuple(each for each in report.checkpoints if not forgotten(each)),
        problems=tuple(each for each in report.problems if each.key in {keys.HEAD, *pages}),
    )
