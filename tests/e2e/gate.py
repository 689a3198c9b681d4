"""A proxy before an S3 server: it notes requests, and holds chosen ones until it is opened."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from urllib.parse import urlsplit

from tests.servers import S3Server

_PATIENCE = 60.0  # seconds, until a test that forgot to open the gate fails by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request that was answered."""

    method: str
    path: str
    """Without the question mark and what follows it."""
    status: int
    at: float
    """When it came, on the monotonic clock."""


@dataclass
class Gate:
    """Holds every request of `method` whose path has `part` in it, but for the first `free`."""

    server: S3Server
    method: str
    part: str
    free: int
    reached: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)
    away: threading.Event = field(default_factory=threading.Event)
    """While it is set nobody answers."""
    asked: list[Asked] = field(default_factory=list)
    """In the order of the answers."""
    passed: int = 0
    """Requests that the gate was meant for."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def pass_through(self, method: str, path: str) -> None:
        if method != self.method or self.part not in path:
            return
        with self._lock:
            self.passed += 1
            held = self.passed > self.free
        if held:
            self.reached.set()
            self.opened.wait(_PATIENCE)


@contextmanager
def gate(server: S3Server, method: str, part: str, *, free: int) -> Iterator[Gate]:
    """The gate's `server` is what a client is to be sent to. At the end the gate is open."""
    behind = urlsplit(server.endpoint).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            came = monotonic()
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            keeper.pass_through(self.command, self.path)
            if keeper.away.is_set():
                self.close_connection = True
                return
            with closing(http.client.HTTPConnection(behind, timeout=_PATIENCE)) as connection:
                # The Host header is signed: the server has to see the one that the client sent.
                connection.putrequest(self.command, self.path, skip_host=True)
                for name, value in self.headers.items():
                    if name.lower() not in {"expect", "connection"}:
                        connection.putheader(name, value)
                connection.endheaders(body)
                reply = connection.getresponse()
                data = reply.read()
            keeper.asked.append(
                Asked(
                    method=self.command,
                    path=urlsplit(self.path).path,
                    status=reply.status,
                    at=came,
                )
            )
            self.send_response_only(reply.status)
            for name, value in reply.getheaders():
                if name.lower() not in {"transfer-encoding", "connection", "content-length"}:
                    self.send_header(name, value)
            length = reply.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True  # a killed client leaves its connection to nobody

        def handle_error(self, *_: object) -> None:
            """A client that was killed does not read its answer."""

    with Server(("127.0.0.1", 0), Handler) as listening:
        keeper = Gate(
            server=S3Server(endpoint=f"http://127.0.0.1:{listening.server_port}"),
            method=method,
            part=part,
            free=free,
        )
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield keeper
        finally:
            keeper.opened.set()
            listening.shutdown()
            thread.join()
