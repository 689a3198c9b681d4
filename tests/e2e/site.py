"""A host with ckptsync installed: its configuration, its disk, and the command as people run it."""

import json
import subprocess
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from tests.servers import S3Server

COMMAND: Final = Path(sysconfig.get_path("scripts"), "ckptsync")
PATIENCE: Final = 60.0  # seconds, for a machine that does much else


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """What --json printed: one document, and nothing else."""
        return json.loads(self.out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One host, whose pipelines share a layout. Every run checks that no secret is printed."""

    home: Path
    buckets: Mapping[str, str]
    """Of each pipeline."""
    layout: str = "feldera"
    sync: Mapping[str, Any] = field(default_factory=dict)
    hook: tuple[str, ...] | None = None
    hooks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Others than engine_running, of every pipeline."""
    activation: Mapping[str, Any] = field(default_factory=dict)
    secret: str | None = None

    @classmethod
    def on_disk(cls, home: Path, *, bucket: Path | None = None, **settings: Any) -> Self:
        """With a directory for a bucket, which other hosts may share."""
        bucket = bucket or home / "bucket"
        bucket.mkdir(parents=True, exist_ok=True)
        return cls(home=home, buckets={"orders": f"file://{bucket}"}, **settings)

    @classmethod
    def on_s3(
        cls, home: Path, server: S3Server, prefix: str, *, secret: str | None = None, **sync: Any
    ) -> Self:
        """With a real server; `secret` replaces the key that it would accept."""
        options = server.options(prefix)
        return cls(
            home=home,
            buckets={"orders": f"s3://{options.bucket}/{prefix}"},
            sync={
                "endpoint": server.endpoint,
                "region": "us-east-1",
                "access_key": options.access_key,
                "secret_key_file": str(home / "key"),
                **sync,
            },
            secret=secret or options.secret_key,
        )

    def storage(self, name: str = "orders") -> Path:
        return self.home / name / "storage"

    @property
    def state(self) -> Path:
        return self.home / "state"

    @property
    def config(self) -> Path:
        return self.home / "config.toml"

    def write_config(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        if self.secret is not None:
            (self.home / "key").write_text(f"{self.secret}\n")
        lines = ["[daemon]", f'state_dir = "{self.state}"', f'node = "{self.home.name}"']
        for name, bucket in self.buckets.items():
            lines += [
                f"[pipelines.{name}]",
                f'storage_path = "{self.storage(name)}"',
                f'layout = "{self.layout}"',
                'directory = { quiet = "0s" }' if self.layout == "directory" else "",
                'repository = { chunk_size = "4MiB", pack_below = "64KiB" }',
                "" if self.hook is None else f"hooks.engine_running = {json.dumps(self.hook)}",
                *(f"hooks.{key} = {json.dumps(argv)}" for key, argv in self.hooks.items()),
                *(f"activation.{key} = {json.dumps(it)}" for key, it in self.activation.items()),
                f"[pipelines.{name}.sync]",
                f'bucket = "{bucket}"',
                *(f"{key} = {json.dumps(value)}" for key, value in self.sync.items()),
            ]
        self.config.write_text("\n".join(lines))

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Nothing of the developer's own: no credentials, no settings."""
        return {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.home),
            "CKPTSYNC_CONFIG": str(self.config),
            **(more or {}),
        }

    def run(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        stdout: int = subprocess.PIPE,
    ) -> Done:
        """Write the configuration, if there is none, and run to the end."""
        if not self.config.exists():
            self.write_config()
        done = subprocess.run(
            [COMMAND, *arguments],
            env=self.environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return self.checked(done.returncode, done.stdout or "", done.stderr)

    def start(
        self,
        *arguments: str,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
    ) -> "Running":
        if not self.config.exists():
            self.write_config()
        process = subprocess.Popen(
            [COMMAND, *arguments],
            env=self.environment(),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=True,
        )
        return Running(site=self, process=process)

    def checked(self, code: int, out: str, err: str) -> Done:
        assert self.secret is None or self.secret not in out + err, "a secret was printed"
        return Done(code=code, out=out, err=err)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A run that has not ended; killed at the end of its block if it is still there then."""

    site: Site
    process: "subprocess.Popen[str]"

    def done(self) -> Done:
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.site.checked(self.process.returncode, out or "", err or "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self.process:  # closes its pipes
            if self.process.poll() is None:
                self.process.kill()
