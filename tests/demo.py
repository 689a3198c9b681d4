"""The main job, before a person's eyes: push while a pipeline runs, lose its disk, pull, compare.

    python -m tests.demo

Everything happens in a temporary directory; the bucket is a directory too.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fakes import feldera_engine

CONFIG = """\
[daemon]
node = "{node}"
state_dir = "{home}/{node}/state"

[pipelines.orders]
storage_path = "{home}/{node}/storage"

[pipelines.orders.sync]
bucket = "file://{home}/bucket"
"""


class DemoFailed(Exception):
    """What was restored is not what was written."""


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="ckptsync-demo-") as directory:
        home = Path(directory)
        (home / "bucket").mkdir()
        host_a, host_b = (_host(home, node) for node in ("host-a", "host-b"))
        record = home / "what-the-pipeline-wrote.jsonl"
        try:
            _say("A pipeline runs on host-a and writes a checkpoint every 600 ms; it keeps two.")
            with _pipeline(host_a / "storage", record):
                for _ in range(3):
                    time.sleep(0.7)
                    _ckptsync(host_a, "push")
            _ckptsync(host_a, "list", "--remote")
            _say("Host-a is lost: its storage and everything that ckptsync knew there.")
            shutil.rmtree(host_a)
            print(f"   {host_a} is gone; left is {home / 'bucket'}")
            _say("On host-b, which has never seen this pipeline:")
            _ckptsync(host_b, "pull")
            _ckptsync(host_b, "verify", "--full")
            _say("Is it what the pipeline wrote?")
            _compare(host_b / "storage", record)
            _say("The pipeline starts from it:")
            _resume(host_b / "storage")
        except (DemoFailed, subprocess.CalledProcessError) as failure:
            print(f"\nThe demonstration failed: {failure}", file=sys.stderr)
            return 1
    return 0


def _host(home: Path, node: str) -> Path:
    host = home / node
    (host / "storage").mkdir(parents=True)
    (host / "config.toml").write_text(CONFIG.format(node=node, home=home))
    return host


def _pipeline(root: Path, record: Path) -> "_Running":
    engine = [sys.executable, "-m", "tests.fakes.feldera_engine", str(root)]
    pace = ["--interval", "0.6", "--count", "1000", "--batch-bytes", "400000", "--durable"]
    return _Running([*engine, "--record", str(record), *pace])


class _Running:
    """A pipeline's process; killed without warning at the end, as a host's would be."""

    def __init__(self, command: list[str]) -> None:
        self._command = command

    def __enter__(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def _ckptsync(host: Path, *arguments: str) -> None:
    print(f"\n{host.name} $ ckptsync {' '.join(arguments)}", flush=True)
    program = Path(sys.executable).with_name("ckptsync")
    subprocess.run([program, "-c", host / "config.toml", *arguments], check=True)


def _compare(storage: Path, record: Path) -> None:
    resumed = feldera_engine.resume(storage)
    if resumed is None:
        raise DemoFailed("the pipeline would start from nothing")
    written = feldera_engine.read_record(record)[resumed.uuid]
    if feldera_engine.contents(storage, resumed.uuid) != written:
        raise DemoFailed(f"checkpoint {resumed.uuid} differs from what was written")
    size = sum((storage / path).stat().st_size for path in written)
    print(f"   checkpoint {resumed.uuid}, step {resumed.step}")
    print(f"   {len(written)} files, {size:,} bytes: every one as it was written")


def _resume(storage: Path) -> None:
    before = feldera_engine.resume(storage)
    with feldera_engine.Engine(storage) as engine:
        engine.checkpoint()
    after = feldera_engine.resume(storage)
    if before is None or after is None or after.step <= before.step:
        raise DemoFailed("the pipeline did not go on from the checkpoint")
    print(f"   resumed at step {before.step}, wrote its next checkpoint at step {after.step}")


def _say(text: str) -> None:
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
