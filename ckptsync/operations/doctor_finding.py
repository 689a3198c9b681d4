"""What an examination found, and how an error becomes a finding."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from ckptsync.errors import Cancelled, CkptsyncError


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"
    """Works, but for something that the operator may miss one day."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    what: str
    verdict: Verdict
    detail: str
    hint: str | None = None
    error: CkptsyncError | None = None
    """What a command would have raised; of those that failed."""


def ok(what: str, detail: str) -> Finding:
    return Finding(what=what, verdict=Verdict.OK, detail=detail)


def warning(what: str, detail: str, *, hint: str | None = None) -> Finding:
    return Finding(what=what, verdict=Verdict.WARNING, detail=detail, hint=hint)


def failed(what: str, error: CkptsyncError) -> Finding:
    return Finding(
        what=what, verdict=Verdict.FAILED, detail=str(error), hint=error.hint, error=error
    )


def examined(what: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """What a check finds; an error ends the check and is itself a finding. Raises Cancelled."""
    try:
        yield from check()
    except Cancelled:
        raise
    except CkptsyncError as error:
        yield failed(what, error)
