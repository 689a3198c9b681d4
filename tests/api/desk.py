"""A small daemon: what is asked for is carried out in a lane, and nothing is done on schedule."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ckptsync import __version__
from ckptsync.api.app import create_app
from ckptsync.api.local_socket import LocalSocket, socket_path
from ckptsync.api.routes import pipeline_routes
from ckptsync.api.server import Server
from ckptsync.daemon.lane import Lane
from ckptsync.daemon.request import RequestState
from ckptsync.daemon.snapshot import Asked, Contact, Snapshot
from ckptsync.errors import NothingToDo
from ckptsync.operations.carry_out import carry_out
from ckptsync.operations.orders import Order, kind
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.roles import role_of
from ckptsync.operations.standby import Standby
from ckptsync.stores.base import Body, Expect, Version
from ckptsync.stores.local import LocalStore
from ckptsync.stores.memory import MemoryStore

STARTED: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PATIENCE: Final = 60.0  # seconds, for a machine that does much else


class Gate:
    """Holds whoever passes through until it is opened."""

    def __init__(self) -> None:
        self.reached: Final = threading.Event()
        self.opened: Final = threading.Event()

    def pass_through(self) -> None:
        self.reached.set()
        assert self.opened.wait(PATIENCE), "nobody opened the gate"


class GatedMemory(MemoryStore):
    """Holds the swap of head, so that a push is under way as long as a test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.gate: Final = Gate()

    def put(self, key: str, body: Body, *, expect: Version | Expect = Expect.ANYTHING) -> Version:
        if key == "head.json":
            self.gate.pass_through()
        return super().put(key, body, expect=expect)


class GatedDirectory(LocalStore):
    def __init__(self, root: Path, gate: Gate) -> None:
        super().__init__(root)
        self._gate = gate

    def put(self, key: str, body: Body, *, expect: Version | Expect = Expect.ANYTHING) -> Version:
        if key == "head.json":
            self._gate.pass_through()
        return super().put(key, body, expect=expect)


class Desk:
    """A Control over one pipeline. `bugs` are those that ended up at the daemon."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline: Final = pipeline
        self.bugs: Final[list[BaseException]] = []
        self.refusal: Exception | None = None
        """What a reload raises."""
        self.reloads = 0
        self._withdraw = threading.Event()
        self._standby = Standby(pipeline)
        self._lane = Lane(
            "work",
            pipeline=pipeline.node.pipeline,
            interrupt=pipeline.stop.set,
            ready=pipeline.stop.clear,
            fail=self.bugs.append,
            now=pipeline.now,
        )

    def snapshot(self, pipeline: str) -> Snapshot:
        state = self.pipeline.state
        running = self._lane.running()
        return Snapshot(
            pipeline=pipeline,
            node=self.pipeline.node.name,
            version=__version__,
            pid=os.getpid(),
            started_at=STARTED,
            role=role_of(self.pipeline),
            since=None,
            reason=None,
            problem=None,
            epoch=state.identity.remembered().epoch,
            paused_since=state.roles.paused_since(),
            contact=Contact(answered_at=None, failure=None),
            running=None if running is None else Asked.of(running),
            queued=tuple(map(Asked.of, self._lane.queued())),
            last_start_failure=None,
            last_push_failure=None,
            last_pull_failure=None,
            next_push_at=None,
            next_pull_at=None,
            warm=None,
            pulling=self._standby.pulling,
            switching=None,
        )

    def submit(self, pipeline: str, order: Order, *, id: str | None) -> RequestState:
        del pipeline
        return self._lane.submit(
            kind(order),
            lambda progress: carry_out(
                self.pipeline,
                order,
                standby=self._standby,
                withdraw=self._withdraw,
                progress=progress,
            ),
            id=id,
        ).snapshot()

    def find(self, pipeline: str, id: str) -> RequestState | None:
        del pipeline
        request = self._lane.find(id)
        return None if request is None else request.snapshot()

    def cancel_switchover(self, pipeline: str) -> None:
        if self.pipeline.state.handovers.current() is None:
            raise NothingToDo(f"no switchover of {pipeline} is under way")
        self._withdraw.set()

    def pause(self, pipeline: str) -> None:
        del pipeline
        self.pipeline.state.roles.pause(self.pipeline.now())

    def resume(self, pipeline: str) -> None:
        del pipeline
        self.pipeline.state.roles.resume()

    def reload(self) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.reloads += 1

    def close(self) -> None:
        self._lane.stop()
        self._lane.close()


@contextmanager
def serving(desk: Desk, state_dir: Path, server: Server) -> Iterator[Path]:
    """Let commands in; the path of the socket. Whatever the desk was asked is over at the end."""
    name = desk.pipeline.node.pipeline
    path = socket_path(state_dir, name)
    door = LocalSocket(path)
    application = create_app(pipeline_routes(desk, name), fail=desk.bugs.append)
    server.serve(str(path), application, door.socket)
    try:
        yield path
    finally:
        desk.close()
        door.remove()
        server.drop(str(path))


@contextmanager
def running_server() -> Iterator[Server]:
    bugs: list[BaseException] = []
    server = Server(fail=bugs.append)
    server.start()
    try:
        yield server
    finally:
        server.close()
    assert bugs == []
