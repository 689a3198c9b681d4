"""Which directories are complete checkpoints, and in which order: decided from facts alone."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Final

AT_ONCE: Final = timedelta.min
"""How long a directory has to have been quiet, whatever the clock says, where nobody writes."""
MARKERS: Final = ("_SUCCESS", "commit_success.txt")

_TEMPORARY: Final = ("*.tmp", "tmp-*", "*.orbax-checkpoint-tmp*")
_LOST_AND_FOUND: Final = "lost+found"  # at the root of an ext filesystem
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MARKER_SLACK_NS: Final = 2_000_000_000

# A date counts as one number: the minutes of 20261120-0955 and 20261121-0005 would mislead.
_NUMBER: Final = re.compile(
    r"(?<!\d)(?:19|20)\d\d([-_.]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])"
    r"(?:[-_.T ]?\d\d[-_.:h]?\d\d(?:[-_.:m]?\d\d)?)?(?!\d)"
    r"|\d+"
)
_RANDOM: Final = re.compile(r"(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-)?[0-9a-f]{12,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A directory that may be a checkpoint."""

    name: str
    changed_ns: int
    """The newest time of change of anything in it."""
    written_ns: int
    """The newest time of change of a file in it; 0 if there is none. Survives a restore."""
    marked_ns: int | None
    """The time of the marker file, if there is one."""

    @property
    def step(self) -> int:
        """The last number in the name; without one the time it was written, in ns."""
        numbers = list(_NUMBER.finditer(_RANDOM.sub(_without_random, self.name)))
        if not numbers:
            return self.written_ns or self.changed_ns
        number = int(re.sub(r"\D", "", numbers[-1].group()))
        return number if number < 2**63 else self.written_ns or self.changed_ns

    @property
    def rank(self) -> tuple[int, int]:
        """Orders checkpoints by age."""
        return self.step, self.changed_ns

    @property
    def at(self) -> datetime:
        return _EPOCH + timedelta(microseconds=self.changed_ns // 1000)


def is_hidden(name: str) -> bool:
    """Whether a directory of the storage root is no checkpoint's and no trainer's."""
    return name.startswith(".") or name == _LOST_AND_FOUND


def is_temporary(name: str) -> bool:
    """Whether a trainer still writes under this name."""
    return any(fnmatchcase(name, pattern) for pattern in _TEMPORARY)


def complete(
    candidates: Iterable[Candidate], *, marker_required: bool, quiet: timedelta, now: datetime
) -> list[Candidate]:
    """The complete ones, oldest first.

    A temporary name never counts. Where a marker is required, or any directory has one, the marker
    decides, unless the directory changed after it; then, as without markers, nothing in it may
    have changed for `quiet`: it may be half written, or half deleted.
    """
    named = [candidate for candidate in candidates if not is_temporary(candidate.name)]
    by_marker = marker_required or any(candidate.marked_ns is not None for candidate in named)

    def is_complete(candidate: Candidate) -> bool:
        if candidate.marked_ns is None and by_marker:
            return False
        if candidate.marked_ns is not None and (
            candidate.changed_ns <= candidate.marked_ns + _MARKER_SLACK_NS
        ):
            return True
        return now - candidate.at >= quiet

    return sorted(filter(is_complete, named), key=lambda candidate: candidate.rank)


def rivals(
    wanted: Candidate, others: Iterable[Candidate], *, marker_required: bool
) -> list[Candidate]:
    """Those that an engine would resume from rather than from the wanted one.

    Without them the wanted one is the newest, unless it lacks a marker that is required or that
    an older one has: then an engine that looks for the marker passes it over.
    """
    found: list[Candidate] = []
    rest = [wanted, *others]
    while newer := [
        each
        # Whatever the times: an engine that starts does not wait for quiet.
        for each in complete(rest, marker_required=marker_required, quiet=AT_ONCE, now=_EPOCH)
        if each != wanted and each.rank >= wanted.rank
    ]:
        found += newer
        rest = [each for each in rest if each not in newer]  # without markers, more may count
    return found


def _without_random(found: re.Match[str]) -> str:
    """Nothing for a hash or UUID; what is all digits stays."""
    text = found.group()
    return text if text.isdecimal() else ""
