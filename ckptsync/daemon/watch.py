"""Watching the bucket while a pipeline's work goes on: heartbeats, and who the writer is."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import structlog

from ckptsync.errors import Cancelled, CkptsyncError
from ckptsync.model import CheckpointId, Progress, Role
from ckptsync.operations import fence
from ckptsync.operations.heartbeat import beat
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.roles import is_silent, is_to_be_displaced, role_after, role_of
from ckptsync.stores.base import Version

log = structlog.get_logger()

BEAT_EVERY: Final = 10.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """The last that was heard of the bucket."""

    answered_at: datetime | None = None
    error: CkptsyncError | None = None
    """Why it did not answer the last time."""


class Watch:
    """For one thread; `heard` may be read by others.

    `at_work` says whether this node has found out what it is; before that nothing is watched,
    since it may be a copy of another. `warm` and `pulling` tell what a standby has and fetches;
    `trouble` is called when head says that this node is not its writer any more, `back` when the
    bucket answers after it did not, `mended` when head is in order again for a node that stopped
    because it was not.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        at_work: Callable[[], bool],
        warm: Callable[[], CheckpointId | None],
        pulling: Callable[[], CheckpointId | None],
        trouble: Callable[[CkptsyncError], None],
        back: Callable[[], None],
        mended: Callable[[], None],
    ) -> None:
        self._pipeline = pipeline
        self._at_work = at_work
        self._warm = warm
        self._pulling = pulling
        self._trouble = trouble
        self._back = back
        self._mended = mended
        self._told: set[tuple[str, str]] = set()
        self._missed = False
        self._version: Version | None = None
        self._revision: int | None = None
        self._lock = threading.Lock()
        self._heard = Heard()

    @property
    def heard(self) -> Heard:
        return self._heard

    def answered(self, error: CkptsyncError | None = None) -> None:
        """Note how the bucket answered somebody else, from any thread."""
        with self._lock:
            if error is None:
                self._heard = Heard(answered_at=self._pipeline.now())
            elif self._heard.error is None or str(self._heard.error) != str(error):
                self._heard = replace(self._heard, error=error)

    def beat(self, _progress: Progress) -> None:
        """Say that this node lives, where it is known to be one of this repository's."""
        pipeline = self._pipeline
        if not self._at_work() or is_silent(pipeline):
            return  # it may be a copy, or in another's bucket: it writes nothing at all
        if pipeline.state.identity.remembered().repository_id is None:
            return
        try:
            beat(pipeline, warm=self._warm(), pulling=self._pulling())
        except Cancelled:
            raise
        except CkptsyncError as error:
            if self._miss("heartbeat", error):
                log.warning("heartbeat.failed", error=str(error))
        else:
            self._hear()

    def check(self, _progress: Progress) -> None:
        """Look at head, which costs next to nothing while nothing has changed.

        Done where the engine may run: who is not to be the writer any more has to end that.
        """
        if not self._is_to_check():
            self._version = None
            return
        try:
            looked = fence.look(self._pipeline, self._known())
            if looked.trouble is not None:
                # Once more: what was read may be older than what this node has written since.
                looked = fence.look(self._pipeline, None)
        except Cancelled:
            raise
        except CkptsyncError as error:
            if self._miss("look", error):
                log.warning("fence.unchecked", error=str(error))
            return
        self._version = looked.version
        self._revision = looked.revision or self._revision
        self._hear()
        if looked.trouble is None:
            if role_of(self._pipeline) is Role.STOPPED:
                self._mended()
        elif self._is_news(looked.trouble):
            self._trouble(looked.trouble)

    def _known(self) -> Version | None:
        """The version that need not be read again.

        Once this node knows a newer head, the old one is no longer harmless: it may be put back.
        """
        newest = self._pipeline.state.identity.remembered().revision
        return self._version if self._revision == newest else None

    def _miss(self, what: str, error: CkptsyncError) -> bool:
        """Whether that is news: each reason is told once, until the bucket answers."""
        new = (what, str(error)) not in self._told
        self._told.add((what, str(error)))
        self._missed = True
        self.answered(error)
        return new

    def _hear(self) -> None:
        missed, self._missed = self._missed, False
        self._told.clear()
        self.answered()
        if missed:
            self._back()

    def _is_to_check(self) -> bool:
        return self._at_work() and is_to_be_displaced(self._pipeline)

    def _is_news(self, trouble: CkptsyncError) -> bool:
        """Whether it asks for another role than this node has by now."""
        role = role_after(trouble)
        return self._is_to_check() and role is not role_of(self._pipeline)
