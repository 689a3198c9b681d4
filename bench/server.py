"""The server all tools talk to: SeaweedFS, whose S3 gateway counts its requests."""

import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.programs import installed, s5cmd

_PATIENCE: Final = 60.0  # seconds until it has to be up
_VOLUMES: Final = ("-master.volumeSizeLimitMB=1024", "-volume.max=1000")
"""Each bucket takes seven at once, empty; where there are none left every write fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    port: int
    metrics_port: int
    access_key: str = "bench-access"
    secret_key: str = "bench-secret"
    region: str = "us-east-1"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def bucket(self, name: str) -> Iterator[str]:
        """A new bucket; at the end the space of all that is in it is free again.

        Raises RuntimeError if the server refuses.
        """
        self._s5cmd("mb", f"s3://{name}")
        try:
            # The first object makes the bucket's volumes, which keeps a client waiting.
            self._s5cmd("pipe", f"s3://{name}/first", body=b"first")
            self._s5cmd("rm", f"s3://{name}/first")
            yield name
        finally:
            self._s5cmd("rb", f"s3://{name}")

    def requests(self, bucket: str) -> int:
        """How many there were for a bucket since it exists, those of its making included."""
        with closing(HTTPConnection("127.0.0.1", self.metrics_port, timeout=10)) as connection:
            connection.request("GET", "/metrics")
            metrics = connection.getresponse().read().decode()
        counters = rf'^SeaweedFS_s3_request_total{{bucket="{bucket}",[^}}]*}} (\S+)$'
        return int(sum(map(float, re.findall(counters, metrics, re.MULTILINE))))

    def _s5cmd(self, *arguments: str, body: bytes = b"") -> None:
        keys = {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}
        done = subprocess.run(
            [s5cmd(), "--endpoint-url", self.endpoint, "--log", "error", *arguments],
            env={**keys, "AWS_REGION": self.region},
            input=body,
            check=False,
            capture_output=True,
            timeout=_PATIENCE,
        )
        if done.returncode:
            raise RuntimeError(f"SeaweedFS: {done.stderr.decode(errors='replace').strip()}")


@contextmanager
def seaweedfs(directory: Path) -> Iterator[Server]:
    """Serve from a new directory for as long as the context lasts. Raises RuntimeError."""
    directory.mkdir()
    ports = _free_ports(9)
    server = Server(port=ports[0], metrics_port=ports[8])
    keys = {"accessKey": server.access_key, "secretKey": server.secret_key}
    identity = {"name": "bench", "credentials": [keys], "actions": ["Admin"]}
    config = directory / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    listeners = ("s3", "master", "volume", "filer")
    command = [
        installed("weed"),
        "server",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-dir={directory}",
        "-master.telemetry=false",
        *_VOLUMES,
        "-filer",
        "-s3",
        f"-s3.config={config}",
        "-s3.autoCreateBucket=false",
        "-s3.iam=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        *(f"-{name}.port={port}" for name, port in zip(listeners, ports[:4], strict=True)),
        *(f"-{name}.port.grpc={port}" for name, port in zip(listeners, ports[4:8], strict=True)),
        f"-metricsPort={server.metrics_port}",
    ]
    log = directory / "weed.log"
    with (
        TemporaryDirectory(prefix="weed-") as sockets,  # a socket's path has 107 bytes at most
        log.open("wb") as output,
        subprocess.Popen(
            [*command, *(f"-{each}.localSocket={sockets}/{each}.sock" for each in ("filer", "s3"))],
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            _wait_until_up(server, process, log)
            yield server
        finally:
            process.kill()


def _wait_until_up(server: Server, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            with server.bucket("is-it-up"):
                return
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"SeaweedFS did not start:\n{said}") from error
            time.sleep(0.1)


def _free_ports(count: int) -> Sequence[int]:
    with ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(closing(socket.socket())) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
