"""head.json as a compare-and-swap register whose answers may get lost."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal
from uuid import uuid4

import structlog

from ckptsync.errors import (
    AccessDenied,
    Cancelled,
    CannotTell,
    Contention,
    HeadLost,
    NotFound,
    PreconditionFailed,
    StoreError,
    Unavailable,
    Undurable,
)
from ckptsync.repository import head, keys
from ckptsync.repository.epochs import require_no_rollback
from ckptsync.repository.head import Head
from ckptsync.repository.repository import HeadAt, read_head
from ckptsync.state.identity import Identity, Remembered
from ckptsync.stores.base import Expect, ObjectStore, Version

log = structlog.get_logger()

_JITTER: Final = (0.05, 0.5)
_READ_BACKS: Final = 5
_AGAIN: Final = "run the same command again: it finds out, and commits if need be"
SWAPS: Final = 20
"""How often a swap is tried before its caller gives up."""


class Moved(Exception):
    """Read head again: it is not what the swap expected, or the swap was not answered."""

    def __init__(self, *, unanswered: bool = False) -> None:
        super().__init__()
        self.unanswered = unanswered
        """It may still be on its way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """Every head read, and every write intended as its writer, is remembered locally."""

    store: ObjectStore
    identity: Identity
    wait: Callable[[float], bool]
    """Sleeps that many seconds; True means that a stop was asked for."""
    accepts_rollback: bool = False
    """An operator has said that a head older than one that was seen will do."""

    def read(self, *, unless: Version | None = None) -> HeadAt:
        """Raises NotFound where this node never saw a head, else HeadLost; RollbackDetected.

        Raises NotModified, IntegrityError, UnsupportedFormat, StoreError.
        """
        me = self.identity.remembered()
        try:
            found = read_head(self.store, unless=unless)
        except NotFound as error:
            if not me.revision:
                raise
            raise head_lost(self.store.name, me) from error
        if not self.accepts_rollback:
            require_no_rollback(found.head, me, self.store.name)
        self.note(found.head, me)
        return found

    def note(self, found: Head, me: Remembered) -> None:
        """Remember what a head says that is not older than what was remembered."""
        if found.repository_id == me.repository_id:
            self.identity.saw(revision=found.revision, epoch=found.epoch)
            if found.writer.write_id in me.write_ids and len(me.write_ids) > 1:
                self.identity.wrote(found.writer.write_id, epoch=found.epoch)

    def change(
        self,
        decide: Callable[[HeadAt], Head | None],
        *,
        as_writer: bool = True,
        landed: Callable[[Head], bool],
    ) -> Head:
        """Swap head for what `decide` makes of it, reading and deciding anew until that holds.

        `decide` gives None where nothing is left to be done; what it raises ends the attempt.
        The head that holds then is returned. Raises NotFound and the rest of `read`, CannotTell,
        Cancelled, and the refusals of the store.
        """
        moved, unanswered = Moved(), False
        for _ in range(SWAPS):
            old = self.read()
            new = decide(old)
            if new is None:
                return old.head
            revision = max(new.revision, old.head.revision + 1)
            new = new.model_copy(update={"revision": revision})
            try:
                return self.swap(old.version, new, as_writer=as_writer, landed=landed)
            except Moved as error:
                moved, unanswered = error, unanswered or error.unanswered
                log.info("head.moved", store=self.store.name)
                self.pause(unanswered=unanswered)
        raise self.gave_up(moved)

    def swap(
        self,
        expect: Version | Literal[Expect.ABSENT],
        new: Head,
        *,
        as_writer: bool,
        landed: Callable[[Head], bool],
    ) -> Head:
        """Replace head if it is still that version, or create it if there was none; give the new.

        `landed` tells from a later head whether this change is part of it: a swap that was
        stored can still be answered with a refusal, when the first reply is lost on the way.

        Raises Moved if it is to be tried again after another read; CannotTell if head could not
        be read back; Undurable; AccessDenied and other refusals.
        """
        stamped = _stamp(new, write_id=uuid4().hex, as_writer=as_writer)
        if as_writer:
            self.identity.intend(stamped.write_id)
        data = head.encode(stamped)
        try:
            self.store.put(keys.HEAD, data, expect=expect)
        except (AccessDenied, Undurable):
            raise
        except StoreError as error:
            stored = self._read_back(stamped, landed, error)
            if stored is not None:
                return stored
            if isinstance(error, PreconditionFailed | Contention):
                raise Moved from error
            if isinstance(error, Unavailable):
                # A second swap on the same version cannot do harm: one of the two finds the
                # head moved, and then sees what landed.
                log.warning("head.swap_unanswered", error=str(error))
                raise Moved(unanswered=True) from error
            raise
        self.identity.saw(revision=stamped.revision, epoch=stamped.epoch)
        if as_writer:
            self.identity.wrote(stamped.write_id, epoch=stamped.epoch)
        return stamped

    def pause(self, *, unanswered: bool = False) -> None:
        """Wait before reading again. Raises Cancelled, or CannotTell after an unanswered swap."""
        if not self.wait(random.uniform(*_JITTER)):  # noqa: S311 - spreads load, guards nothing
            return
        if unanswered:
            raise CannotTell(
                f"{self.store.name}: stopped before it was clear whether head.json was replaced",
                hint=_AGAIN,
            )
        raise Cancelled(f"{self.store.name}: stopped before the commit; nothing was committed")

    def gave_up(self, moved: Moved) -> CannotTell:
        """What to raise where SWAPS swaps in a row came to nothing."""
        return CannotTell(
            f"{self.store.name}: head.json could not be replaced in {SWAPS} tries "
            f"({moved.__cause__}); nothing is acknowledged",
            hint="run the same command again once the store answers",
        )

    def _read_back(
        self, mine: Head, landed: Callable[[Head], bool], error: StoreError
    ) -> Head | None:
        """The head, if the swap is part of it; None if it is not. Raises CannotTell."""
        for _ in range(_READ_BACKS):
            try:
                found = self.read().head
            except NotFound:
                return None
            except Unavailable:
                if self.wait(_JITTER[1]):
                    break
                continue
            except StoreError:  # credentials may have expired meanwhile
                break
            return found if found.write_id == mine.write_id or landed(found) else None
        raise CannotTell(
            f"{self.store.name}: no answer whether head.json was replaced ({error.reason}); "
            "the checkpoint is not acknowledged",
            hint=_AGAIN,
        ) from error


def head_lost(where: str, me: Remembered) -> HeadLost:
    """For a node that has seen a head where there is none."""
    return HeadLost(
        f"{where}: head.json is gone, though this node has seen revision {me.revision} of it: "
        "the list of checkpoints is lost, not empty",
        hint="is its disk mounted, its endpoint right? Else put head.json back, or: "
        "ckptsync repair rebuild-head",
    )


def _stamp(new: Head, *, write_id: str, as_writer: bool) -> Head:
    changes: dict[str, object] = {"write_id": write_id}
    if as_writer:
        changes["writer"] = new.writer.model_copy(update={"write_id": write_id})
    return new.model_copy(update=changes)
