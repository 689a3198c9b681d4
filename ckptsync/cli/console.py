"""Warnings as people read them: a sentence for each event, where a log line has fields."""

import threading
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Final

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

SENTENCES: Final[Mapping[str, str]] = {
    "condemned.unreadable": "{key} cannot be read, so what was uploaded before is uploaded again: "
    "{error}",
    "download.read_again": "{key} came damaged, and is fetched once more: {error}",
    "fencing.off": "{store} ignores conditions on writes, and fencing is off: two primaries there "
    "would overwrite each other",
    "head.latest_unfit": "{store}: {fault}, so a pull of the latest will fail",
    "head.swap_unanswered": "no answer whether the checkpoint was committed; looking again: "
    "{error}",
    "manifest.cache_damaged": "what this host remembered of the manifest of {checkpoint} is "
    "damaged; fetching it again",
    "pull.finishing": "an earlier pull was interrupted while it put {checkpoint} in place; this "
    "one finishes it",
    "pull.incomplete": "checkpoint {checkpoint} is not all there yet, trying an older one: {error}",
    "push.parent_unreadable": "the manifest of {checkpoint} cannot be read, so everything is "
    "uploaded anew; see what 'ckptsync verify' says: {error}",
    "repository.foreign": "{store} belongs to pipeline '{owner}', not to this one",
    "state.unavailable": "going on without what this host remembers, so a bucket that was emptied "
    "or went back in time is not noticed: {error}",
    "statcache.mismatch": "{path} changed without a trace in its times: all files of {checkpoint} "
    "are read again",
    "store.retrying": "{store}: {reason}; trying again",
}
_SELDOM: Final = frozenset({"store.retrying"})
"""Told once in a while, not each time."""
_WHILE: Final = 60.0  # seconds


class Sentences:
    """Renders events that have a sentence as `warning: ...`, and leaves others to `otherwise`."""

    def __init__(self, otherwise: Processor, clock: Callable[[], float] = monotonic) -> None:
        self._otherwise = otherwise
        self._clock = clock
        self._told: dict[str, float] = {}
        self._lock = threading.Lock()

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> Any:
        """Raises DropEvent for what was told within the last minute, as structlog wants it."""
        name: str = event["event"]
        if name not in SENTENCES:
            return self._otherwise(logger, method, event)
        text = SENTENCES[name].format_map(event)
        if name in _SELDOM and not self._due(text):
            raise structlog.DropEvent
        return f"warning: {text}"

    def _due(self, text: str) -> bool:
        now = self._clock()
        with self._lock:
            due = now - self._told.get(text, -_WHILE) >= _WHILE
            if due:
                self._told[text] = now
        return due
