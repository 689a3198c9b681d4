"""The workers of the pipelines that are to be run."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog

from ckptsync.daemon.alarm import Alarm
from ckptsync.daemon.request import RequestState
from ckptsync.daemon.worker import Wiring, Worker
from ckptsync.errors import CkptsyncError

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a pipeline is run. What has equal settings before and after a reload is left alone."""

    settings: object
    wiring: Wiring


class Door(Protocol):
    """Where commands reach the daemon, a pipeline at a time."""

    def open(self, pipeline: str) -> None:
        """Raises CkptsyncError."""

    def shut(self, pipeline: str) -> None:
        """Does nothing where it is not open."""


class Crew:
    """To be changed by one thread at a time; any may look."""

    def __init__(
        self,
        alarm: Alarm,
        door: Door,
        *,
        changed: Callable[[], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._alarm = alarm
        self._door = door
        self._changed = changed
        self._fail = fail
        self._plans: Mapping[str, Plan] = {}
        self._workers: Mapping[str, Worker] = {}
        self._former: Mapping[str, Worker] = {}
        self._missing: Mapping[str, CkptsyncError] = {}
        self._worked = False

    @property
    def workers(self) -> Mapping[str, Worker]:
        """Those that run, by pipeline."""
        return self._workers

    @property
    def missing(self) -> Mapping[str, CkptsyncError]:
        """Why a pipeline is not run, for each that should be."""
        return self._missing

    @property
    def hopeless(self) -> CkptsyncError | None:
        """Why no pipeline can start, where none ever did and trying again mends that for none."""
        workers = self._workers.values()
        self._worked = self._worked or any(worker.has_started for worker in workers)
        lost = [worker.gave_up for worker in workers]
        if self._worked or self._missing or None in lost:
            return None
        return next(iter(lost), None)

    @property
    def status(self) -> str:
        """For people, short."""
        running = [worker.status for worker in self._workers.values()]
        return "; ".join([*running, *(f"{name}: {error}" for name, error in self._missing.items())])

    def find(self, pipeline: str, id: str) -> RequestState | None:
        """Of the worker that ended last, too: who waits is told how it ended."""
        workers = (self._workers.get(pipeline), self._former.get(pipeline))
        found = (worker.find(id) for worker in workers if worker is not None)
        return next((request for request in found if request is not None), None)

    def change(self, plans: Mapping[str, Plan]) -> None:
        """Run these pipelines and no others; what cannot be run yet is missing afterwards."""
        same = {
            name
            for name in plans.keys() & self._workers.keys()
            if plans[name].settings == self._plans[name].settings
        }
        self.end([name for name in self._workers if name not in same])
        self._plans = plans
        self._missing = {}
        self.fill()

    def fill(self) -> None:
        """Begin what is not run yet, as far as it can be."""
        for name in sorted(self._plans.keys() - self._workers.keys()):
            try:
                self._begin(name)
            except CkptsyncError as error:
                if str(error) != str(self._missing.get(name)):
                    log.error("pipeline.not_run", pipeline=name, error=str(error), hint=error.hint)
                self._missing = {**self._missing, name: error}
            else:
                self._missing = {
                    each: self._missing[each] for each in self._missing if each != name
                }

    def end(self, names: Iterable[str]) -> None:
        """End them all at once: what is under way stops within a chunk."""
        ending = [self._workers[name] for name in names]
        for worker in ending:
            worker.stop()
        for worker in ending:
            worker.join()
        gone = {worker.name: worker for worker in ending}
        self._former = {**self._former, **gone}
        self._workers = {name: each for name, each in self._workers.items() if name not in gone}
        for worker in ending:
            self._door.shut(worker.name)
            worker.release()

    def abandon(self) -> None:
        """Let everything stop by itself, and wait for nothing: the process is about to end."""
        for worker in self._workers.values():
            worker.stop()

    def _begin(self, name: str) -> None:
        worker = Worker(
            self._plans[name].wiring, self._alarm, changed=self._changed, fail=self._fail
        )
        self._workers = {**self._workers, name: worker}
        try:
            self._door.open(name)
        except CkptsyncError:
            self.end([name])
            raise
        worker.begin()
