"""Putting the daemon together: workers for the pipelines of a configuration, and their doors."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from ckptsync.api.app import create_app
from ckptsync.api.local_socket import LocalSocket, socket_path
from ckptsync.api.routes import pipeline_routes
from ckptsync.api.server import Server
from ckptsync.cli import wiring
from ckptsync.config.credentials import credentials
from ckptsync.config.model import Config
from ckptsync.daemon.crew import Plan
from ckptsync.daemon.duty import Pace
from ckptsync.daemon.service import Service
from ckptsync.daemon.systemd import Notifier
from ckptsync.daemon.worker import Wired
from ckptsync.state.role import RoleChange


def plan(config: Config, name: str) -> Plan:
    """Raises ConfigError, and PermissionRefused for a secret that may not be read."""
    pipeline = config.pipelines[name]
    return Plan(
        # Keys that were replaced lie in the same file.
        settings=(config.daemon, pipeline, credentials(pipeline.sync)),
        wiring=partial(_wired, config, name),
    )


@contextmanager
def _wired(config: Config, name: str, on_role: Callable[[RoleChange], None]) -> Iterator[Wired]:
    sync = config.pipelines[name].sync
    with (
        wiring.lock(config, name),
        wiring.opened(config, name, threading.Event(), on_role=on_role) as work,
        wiring.opened(
            config, name, threading.Event(), backoff=wiring.HASTY, on_role=on_role
        ) as watch,
    ):
        yield Wired(
            work=work,
            watch=watch,
            pace=Pace(
                push_interval=sync.push_interval,
                pull_interval=sync.pull_interval,
                fence_check_interval=sync.fence_check_interval,
            ),
        )


class Doors:
    """A socket for each pipeline, in the directory of its state."""

    def __init__(self, service: Service, server: Server) -> None:
        self._service = service
        self._server = server
        self._open: dict[str, LocalSocket] = {}
        self.state_dir = Path()
        """Of the newest configuration."""

    def open(self, pipeline: str) -> None:
        """Raises LocalDiskFull, PermissionRefused."""
        door = LocalSocket(socket_path(self.state_dir, pipeline))
        routes = pipeline_routes(self._service, pipeline)
        self._server.serve(pipeline, create_app(routes, fail=self._service.fail), door.socket)
        self._open[pipeline] = door

    def shut(self, pipeline: str) -> None:
        door = self._open.pop(pipeline, None)
        if door is not None:
            door.remove()
            self._server.drop(pipeline)


def serve(
    read: Callable[[], Config],
    choose: Callable[[Config], Sequence[str]],
    notifier: Notifier,
    stop: threading.Event,
    on_service: Callable[[Service], None],
) -> None:
    """Run the daemon until `stop` is set. The first two are called at each reload, too.

    Raises what `Service.run` raises.
    """

    def load() -> Mapping[str, Plan]:
        config = read()
        found = {name: plan(config, name) for name in choose(config)}
        doors.state_dir = config.daemon.state_dir
        return found

    service = Service(load, notifier, stop)
    server = Server(fail=service.fail)
    doors = Doors(service, server)
    on_service(service)
    server.start()
    try:
        service.run(doors)
    finally:
        server.close()
