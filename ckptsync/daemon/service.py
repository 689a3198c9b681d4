"""The daemon, from the start of the process to its end."""

import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from time import monotonic
from typing import Final

import structlog

from ckptsync.daemon.alarm import Alarm
from ckptsync.daemon.crew import Crew, Door, Plan
from ckptsync.daemon.request import RequestState
from ckptsync.daemon.snapshot import Snapshot
from ckptsync.daemon.systemd import Notifier
from ckptsync.daemon.worker import Worker
from ckptsync.errors import Cancelled, CkptsyncError, ConfigError
from ckptsync.operations.orders import Order

log = structlog.get_logger()

_GLANCE: Final = 1.0  # seconds
_FIRST_START: Final = 20.0  # seconds for finding the roles: then the daemon is ready without
_EXTENSION: Final = timedelta(seconds=30)
_FILL_EVERY: Final = 5.0  # seconds


class Service:
    """What commands ask, in any thread, and the life of the daemon, in the main thread."""

    def __init__(
        self,
        load: Callable[[], Mapping[str, Plan]],
        notifier: Notifier,
        stop: threading.Event,
    ) -> None:
        """`load` reads the configuration, and raises what is wrong with it. `stop` ends `run`."""
        self._load = load
        self._notifier = notifier
        self._stop = stop
        self._bug: BaseException | None = None
        self._changing = threading.Lock()
        self._reload_asked = False
        self._refused: CkptsyncError | None = None
        self._ready = False
        self._filled = monotonic()
        self._alarm = Alarm(self.fail)

    def run(self, door: Door) -> None:
        """Serve until `stop` is set, and end gracefully: what is under way stops within a chunk.

        Raises ConfigError; what keeps every pipeline from being run, Busy above all, or from
        starting, if trying again does not mend it; and a bug, as soon as there is one: then
        nothing is waited for, and the process has to end.
        """
        self._crew = Crew(self._alarm, door, changed=self._tell_status, fail=self.fail)
        try:
            self._serve()
        except CkptsyncError:
            raise
        except BaseException as bug:
            self.fail(bug)
            raise
        finally:
            log.info("daemon.stopping")
            self._notifier.stopping("stopping")
            self._end()

    def fail(self, bug: BaseException) -> None:
        """End with this exception. Any thread may call it."""
        if self._bug is None:
            self._bug = bug
        self._stop.set()

    def ask_reload(self) -> None:
        """As a signal handler may: the main thread sees to it."""
        self._reload_asked = True  # no Event, whose lock the main thread may hold at this moment

    def reload(self) -> None:
        """Read the configuration anew, and run what it says.

        Raises ConfigError, PermissionRefused: then everything stays as it was. Raises why a
        pipeline cannot be run, which is tried again and again; the others are.
        """
        with self._changing:
            if self._stop.is_set():
                raise Cancelled("ckptsync is stopping, so its configuration is not read anew")
            was_ready = self._ready
            if was_ready:
                self._notifier.reloading()
            try:
                self._read_anew()
            finally:
                if was_ready:
                    self._notifier.ready(self._status())

    def snapshot(self, pipeline: str) -> Snapshot:
        return self._worker(pipeline).snapshot()

    def submit(self, pipeline: str, order: Order, *, id: str | None) -> RequestState:
        return self._worker(pipeline).submit(order, id=id)

    def find(self, pipeline: str, id: str) -> RequestState | None:
        return self._crew.find(pipeline, id)

    def cancel_switchover(self, pipeline: str) -> None:
        self._worker(pipeline).cancel_switchover()

    def pause(self, pipeline: str) -> None:
        self._worker(pipeline).pause()

    def resume(self, pipeline: str) -> None:
        self._worker(pipeline).resume()

    def _worker(self, pipeline: str) -> Worker:
        worker = self._crew.workers.get(pipeline)
        if worker is None:
            raise ConfigError(f"the daemon serves no pipeline '{pipeline}' any more")
        return worker

    def _serve(self) -> None:
        with self._changing:
            self._crew.change(self._load())
        if not self._crew.workers:
            raise next(iter(self._crew.missing.values()))
        self._alarm.start()
        self._await_first_start()
        if not self._stop.is_set():
            self._ready = True
            self._notifier.ready(self._status())
            log.info("daemon.ready", pipelines=", ".join(self._crew.workers))
        self._keep_watch()

    def _await_first_start(self) -> None:
        """Roles are waited for only so long, the first pulls of primaries until they have ended."""
        began = glanced = monotonic()
        late = False
        while not all(
            each.has_begun or (late and not each.has_started)
            for each in self._crew.workers.values()
        ):
            if self._stop.wait(0.02):
                return
            if monotonic() - glanced > _GLANCE:
                glanced = monotonic()
                late = glanced - began > _FIRST_START
                if late:
                    self._notifier.extend(_EXTENSION)
                self._glance()
        self._require_hope()

    def _keep_watch(self) -> None:
        interval = self._notifier.watchdog_interval
        pause = _GLANCE if interval is None else min(_GLANCE, interval.total_seconds())
        while not self._stop.wait(pause):
            if interval is not None:
                self._notifier.watchdog()
            self._glance()
        if self._bug is not None:
            raise self._bug

    def _glance(self) -> None:
        self._alarm.check()
        self._require_hope()
        if self._reload_asked and not self._changing.locked():
            self._reload_asked = False
            threading.Thread(target=self._reload_on_signal, name="reload", daemon=True).start()
        if self._crew.missing and monotonic() - self._filled > _FILL_EVERY:
            self._fill()
            self._filled = monotonic()

    def _read_anew(self) -> None:
        try:
            plans = self._load()
        except CkptsyncError as error:
            log.error("reload.refused", error=str(error))
            self._refused = error
            raise
        self._refused = None
        self._crew.change(plans)
        log.info("daemon.reloaded", pipelines=", ".join(self._crew.workers))
        if missing := self._crew.missing:
            raise next(iter(missing.values()))

    def _reload_on_signal(self) -> None:
        try:
            self.reload()
        except CkptsyncError:
            return  # it was logged
        except BaseException as bug:  # noqa: BLE001 - a thread must not die quietly
            self.fail(bug)

    def _fill(self) -> None:
        if self._changing.acquire(blocking=False):
            try:
                self._crew.fill()
            finally:
                self._changing.release()
            self._tell_status()

    def _require_hope(self) -> None:
        """Raises why no pipeline can start, if none can."""
        if (hopeless := self._crew.hopeless) is not None:
            raise hopeless

    def _end(self) -> None:
        if self._bug is not None:
            self._crew.abandon()
            return
        with self._changing:
            self._crew.end(list(self._crew.workers))
        self._alarm.close()

    def _status(self) -> str:
        if self._refused is None:
            return self._crew.status
        return f"the configuration was not read anew: {self._refused}; {self._crew.status}"

    def _tell_status(self) -> None:
        self._notifier.status(self._status())
