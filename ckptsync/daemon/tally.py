"""How each duty of a pipeline has fared so far."""

import threading
from dataclasses import replace
from datetime import datetime

from ckptsync.daemon.duty import Duty
from ckptsync.daemon.pacing import Attempts
from ckptsync.errors import CkptsyncError


class Tally:
    """Safe to share between threads. Times are by the local clock."""

    def __init__(self, *, pushed_at: datetime | None) -> None:
        """`pushed_at` is the end of the last push that succeeded, by an earlier process too."""
        self._lock = threading.Lock()
        self._attempts = dict.fromkeys(Duty, Attempts())
        self._attempts[Duty.LOOK] = Attempts(succeeded_at=pushed_at)
        self._errors: dict[Duty, CkptsyncError] = {}

    def attempts(self, duty: Duty) -> Attempts:
        return self._attempts[duty]

    def error(self, duty: Duty) -> CkptsyncError | None:
        """Of the last attempt, if it failed."""
        return self._errors.get(duty)

    def succeeded(self, duty: Duty, now: datetime, *, moved: bool) -> int:
        """How often it had failed since it last did not; `moved` if a checkpoint was."""
        with self._lock:
            self._errors.pop(duty, None)
            before = self._attempts[duty]
            self._attempts[duty] = before.succeeded(now) if moved else before.found_nothing(now)
        return before.failures

    def failed(self, duty: Duty, error: CkptsyncError, now: datetime) -> bool:
        """Whether that is news, and not the failure of the last time again."""
        with self._lock:
            known = self._errors.get(duty)
            self._errors[duty] = error
            self._attempts[duty] = self._attempts[duty].failed(now)
        return known is None or str(known) != str(error)

    def forgive(self, kind: type[CkptsyncError]) -> None:
        """Try again soon what failed with such an error, which is still told of."""
        with self._lock:
            for duty, error in self._errors.items():
                if isinstance(error, kind):
                    self._attempts[duty] = replace(self._attempts[duty], failures=0)

    def forget(self, duty: Duty) -> None:
        """As if it had never been tried."""
        with self._lock:
            self._errors.pop(duty, None)
            self._attempts[duty] = Attempts()
