"""The tools, with the settings they run with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.programs import installed, s5cmd
from bench.server import Server

OURS: Final = "ckptsync"
BASELINE: Final = "aws s3 sync"
"""What most people would use without a thought."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where one tool finds and puts everything, in one round."""

    server: Server
    bucket: str
    home: Path
    """A directory of the tool's own, empty at first."""
    storage: Path
    """Holds one directory, the checkpoint."""
    checkpoint: str
    target: Path
    """Where a pull puts the checkpoint: the storage of another host, empty at first."""

    @property
    def source(self) -> Path:
        return self.storage / self.checkpoint

    @property
    def restored(self) -> Path:
        return self.target / self.checkpoint

    @property
    def remote(self) -> str:
        return f"{self.bucket}/data"


Command = Callable[[Site], Sequence[str]]


def _nothing_to_prepare(_: Site) -> None:
    """Most tools are told everything on the command line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    name: str
    version: Sequence[str]
    """The command that prints it."""
    push: Command
    pull: Command
    prepare: Callable[[Site], None] = _nothing_to_prepare
    """Untimed, before the first push and before the pull."""


def environment(server: Server, home: Path) -> Mapping[str, str]:
    """What every tool is given: nothing of the developer's own."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_REGION": server.region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "RCLONE_CONFIG": "/dev/null",
        "RCLONE_S3_ENV_AUTH": "true",
        "RCLONE_S3_ENDPOINT": server.endpoint,
        "RCLONE_S3_REGION": server.region,
    }


_CKPTSYNC_CONFIG: Final = """\
[daemon]
node = "{node}"
state_dir = "{home}/state-{node}"

[pipelines.bench]
storage_path = "{storage}"
work_path = "{storage}-work"
layout = "directory"
directory = {{ quiet = "0s" }}

[pipelines.bench.sync]
bucket = "s3://{bucket}"
endpoint = "{endpoint}"
region = "{region}"
"""


def _configure_ckptsync(site: Site) -> None:
    """A host that pushes, and one that knows nothing but the bucket and pulls."""
    for node, storage in (("a", site.storage), ("b", site.target)):
        config = _CKPTSYNC_CONFIG.format(
            node=node,
            home=site.home,
            storage=storage,
            bucket=site.bucket,
            endpoint=site.server.endpoint,
            region=site.server.region,
        )
        (site.home / f"{node}.toml").write_text(config)


def _ckptsync(site: Site, node: str, *arguments: str) -> Sequence[str]:
    return (installed("ckptsync"), "-c", str(site.home / f"{node}.toml"), *arguments)


def _rclone(name: str, *flags: str) -> Tool:
    def sync(source: str, target: str) -> Sequence[str]:
        return (installed("rclone"), "sync", *flags, source, target)

    return Tool(
        name=name,
        version=(installed("rclone"), "version"),
        push=lambda site: sync(str(site.source), f":s3:{site.remote}"),
        pull=lambda site: sync(f":s3:{site.remote}", str(site.restored)),
    )


def _s5cmd(site: Site, source: str, target: str) -> Sequence[str]:
    options = ("--endpoint-url", site.server.endpoint, "--log", "error", "--numworkers", "64")
    parts = ("--concurrency", "8", "--part-size", "32")
    return (s5cmd(), *options, "sync", *parts, source, target)


def _aws(site: Site, source: str, target: str) -> Sequence[str]:
    options = ("--endpoint-url", site.server.endpoint, "--only-show-errors")
    return (installed("aws"), "s3", "sync", *options, source, target)


def tools() -> Mapping[str, Tool]:
    """By name, ours first. Raises FileNotFoundError if one is not installed."""
    every = (
        Tool(
            name=OURS,
            version=(installed("ckptsync"), "--version"),
            prepare=_configure_ckptsync,
            push=lambda site: _ckptsync(site, "a", "push"),
            pull=lambda site: _ckptsync(site, "b", "pull", "--engine-stopped"),
        ),
        _rclone(
            "rclone-feldera",
            "--s3-provider=Other",
            "--transfers=20",
            "--checkers=20",
            "--multi-thread-streams=10",
            "--multi-thread-cutoff=100M",
            "--s3-upload-concurrency=10",
        ),
        _rclone(
            "rclone-tuned",
            "--s3-provider=SeaweedFS",
            "--transfers=16",
            "--checkers=16",
            "--fast-list",
            "--update",
            "--use-server-modtime",  # no HEAD for each object that is there already
            "--inplace",
            "--ignore-checksum",
            "--s3-disable-checksum",
            "--s3-disable-http2",
            "--s3-no-check-bucket",
            "--s3-no-head",
            "--s3-chunk-size=32M",
            "--s3-upload-cutoff=64M",
            "--s3-upload-concurrency=4",
            "--multi-thread-cutoff=64M",
            "--multi-thread-chunk-size=32M",
            "--multi-thread-streams=4",
        ),
        Tool(
            name="s5cmd",
            version=(s5cmd(), "version"),
            push=lambda site: _s5cmd(site, f"{site.source}/", f"s3://{site.remote}/"),
            pull=lambda site: _s5cmd(site, f"s3://{site.remote}/*", f"{site.restored}/"),
        ),
        Tool(
            name=BASELINE,
            version=(installed("aws"), "--version"),
            push=lambda site: _aws(site, str(site.source), f"s3://{site.remote}"),
            pull=lambda site: _aws(site, f"s3://{site.remote}", str(site.restored)),
        ),
    )
    return {tool.name: tool for tool in every}
