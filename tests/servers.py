"""Real S3 servers on free ports of 127.0.0.1, gone when their context ends."""

import json
import shutil
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from ckptsync.stores.s3 import S3Options

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_ACCESS_KEY: Final = "test-access"
_SECRET_KEY: Final = "test-secret"
_BUCKET: Final = "bucket"
_PATIENCE: Final = 60.0  # seconds, for a machine that does much else


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Server:
    """A server with an empty bucket in it."""

    endpoint: str

    def options(self, prefix: str = "") -> S3Options:
        return S3Options(
            bucket=_BUCKET,
            prefix=prefix,
            endpoint=self.endpoint,
            region="us-east-1",
            access_key=_ACCESS_KEY,
            secret_key=_SECRET_KEY,
        )

    def client(self) -> "S3Client":
        """The SDK itself, for what a store cannot do. To be closed."""
        session = Session(_ACCESS_KEY, _SECRET_KEY, region_name="us-east-1")
        config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})
        return session.client("s3", endpoint_url=self.endpoint, config=config)


@contextmanager
def moto(directory: Path) -> Iterator[S3Server]:
    """Starts fast, sound conditions; checks neither checksums nor credentials."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _serving(command, port, log=directory / "moto.log") as server:
        yield server


@contextmanager
def seaweedfs(directory: Path, *, users: Sequence[str] = ()) -> Iterator[S3Server]:
    """A real store: it checks conditions, checksums, credentials and policies.

    Each of `users` may read, write and delete unless a policy of the bucket denies it. The name is
    the access key, too.
    """
    identities = [
        _identity("test", _ACCESS_KEY, _SECRET_KEY, "Admin"),
        *(_identity(each, each, secret_of(each), "Read", "Write", "List") for each in users),
    ]
    config = directory / "s3.json"
    config.write_text(json.dumps({"identities": identities}))
    ports = free_ports(8)
    listeners = ("s3", "master", "volume", "filer")
    command = [
        _installed("weed"),
        "server",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-dir={directory}",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=64",
        "-volume.max=20",
        "-filer",
        "-s3",
        f"-s3.config={config}",
        "-s3.autoCreateBucket=false",
        "-s3.iam=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        *(f"-{name}.port={port}" for name, port in zip(listeners, ports[:4], strict=True)),
        *(f"-{name}.port.grpc={port}" for name, port in zip(listeners, ports[4:], strict=True)),
    ]
    with TemporaryDirectory(prefix="weed-") as sockets:  # a socket's path has 107 bytes at most
        command += [f"-{each}.localSocket={sockets}/{each}.sock" for each in ("filer", "s3")]
        with _serving(command, ports[0], log=directory / "weed.log") as server:
            yield server


def secret_of(user: str) -> str:
    return f"secret-of-{user}"


def _identity(name: str, access_key: str, secret_key: str, *actions: str) -> object:
    keys = {"accessKey": access_key, "secretKey": secret_key}
    return {"name": name, "credentials": [keys], "actions": actions}


@contextmanager
def rclone(directory: Path) -> Iterator[S3Server]:
    """The store that lies: it ignores every condition and says 200."""
    (port,) = free_ports(1)
    command = [
        _installed("rclone"),
        "serve",
        "s3",
        f"--config={directory / 'rclone.conf'}",
        f"--addr=127.0.0.1:{port}",
        f"--auth-key={_ACCESS_KEY},{_SECRET_KEY}",
        "--vfs-cache-mode=off",
        str(directory),
    ]
    with _serving(command, port, log=directory.parent / "rclone.log") as server:
        yield server


def free_ports(count: int) -> Sequence[int]:
    """Different ones; nothing keeps another process from taking them."""
    with ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(closing(socket.socket())) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _installed(program: str) -> str:
    """A program that a wheel brought along, so that none is needed on the PATH."""
    found = shutil.which(program, path=sysconfig.get_path("scripts"))
    if found is None:
        raise FileNotFoundError(f"{program} is not installed beside {sys.executable}")
    return found


@contextmanager
def _serving(command: Sequence[str], port: int, *, log: Path) -> Iterator[S3Server]:
    """Run a server for as long as the context lasts. Raises if it does not come up."""
    server = S3Server(endpoint=f"http://127.0.0.1:{port}")
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        try:
            _make_bucket(server, process, log)
            yield server
        finally:
            process.kill()


def _make_bucket(server: S3Server, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    with closing(server.client()) as client:
        while True:
            try:
                client.create_bucket(Bucket=_BUCKET)
            except (BotoCoreError, ClientError) as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    said = log.read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"{process.args!r} did not start:\n{said}") from error
                time.sleep(0.05)
            else:
                return


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a scripted server says. With `hang` it says nothing and waits for the client to go."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    announced: int | None = None
    """The Content-Length, where it is not that of the body."""
    hang: bool = False


def refusal(status: int, code: str, message: str = "so it is") -> Reply:
    """An S3 error with its usual body."""
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Reply(status=status, body=body.encode())


@contextmanager
def scripted(*replies: Reply) -> Iterator[tuple[S3Server, list[str]]]:
    """A server that gives these answers in turn, whatever is asked, and notes what was asked."""
    asked: list[str] = []
    rest = iter(replies)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            asked.append(f"{self.command} {self.path}")
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            reply = next(rest)
            if reply.hang:
                self.rfile.read(1)  # returns when the client closes the connection
                return
            self.send_response_only(reply.status)
            length = len(reply.body) if reply.announced is None else reply.announced
            for name, value in {"Content-Length": str(length), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else reply.body)
            self.close_connection = length != len(reply.body)

        do_GET = do_HEAD = do_PUT = do_POST = answer  # noqa: N815 - names the library wants

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield S3Server(endpoint=f"http://127.0.0.1:{http.server_port}"), asked
        finally:
            http.shutdown()
            thread.join()
