"""What the interface needs of the daemon."""

from typing import Protocol

from ckptsync.daemon.request import RequestState
from ckptsync.daemon.snapshot import Snapshot
from ckptsync.operations.orders import Order


class Control(Protocol):
    """Called from many threads at once. Every call returns soon, or raises a CkptsyncError.

    ConfigError where a reload has taken the pipeline away: its clients may still be connected.
    """

    def snapshot(self, pipeline: str) -> Snapshot:
        """From memory: a bucket that does not answer holds nobody up."""

    def submit(self, pipeline: str, order: Order, *, id: str | None) -> RequestState:
        """Ask for something, or join what was asked already and comes to the same.

        An `id` that was given before gets the request of then.
        """

    def find(self, pipeline: str, id: str) -> RequestState | None:
        """From memory; None for one that never was, or was long ago."""

    def cancel_switchover(self, pipeline: str) -> None: ...

    def pause(self, pipeline: str) -> None:
        """No push and no pull but those that are asked for, also after a restart."""

    def resume(self, pipeline: str) -> None: ...

    def reload(self) -> None:
        """Read the configuration anew. Raises ConfigError, and goes on with the old one then."""
