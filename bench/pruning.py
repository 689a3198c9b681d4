"""Two hosts on one bucket: one pushes, and the other prunes and is measured."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import Any, Final

from bench import measure
from bench.programs import installed, s5cmd
from bench.server import Server
from bench.tools import environment
from ckptsync.state.database import state_path

_PIPELINE: Final = "bench"
_PROJECT: Final = Path(__file__).parents[1]


class Step(StrEnum):
    FIRST = "the first prune of a host"
    NOTHING = "nothing new"
    TURN = "one new, one retired, one forgotten"
    NEXT = "the same once more"
    WHOLE = "`--orphans`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One process that pruned."""

    checkpoints: int
    step: Step
    run: int
    seconds: float
    cpu_seconds: float
    peak_rss: int
    requests: int


class WrongOutcome(RuntimeError):
    """A prune did something else than it was to do."""


def play(counts: Sequence[int], *, runs: int, server: Server, work: Path) -> Iterator[Sample]:
    """Every step, `runs` times, on buckets of so many checkpoints in turn.

    Raises ToolFailed; WrongOutcome unless each prune did what it was to do.
    """
    with ExitStack() as filled:
        scenes = [filled.enter_context(_scene(count, server, work.resolve())) for count in counts]
        for run, scene in product(range(runs), scenes):
            scene.forget_host()
            yield scene.sample(Step.FIRST, run)
        for run, scene in product(range(runs), scenes):
            yield scene.sample(Step.NOTHING, run)
        for scene in scenes:
            scene.go_on()
            scene.prune()  # from now on one is always retired
        for run, step, scene in product(range(runs), (Step.TURN, Step.NEXT), scenes):
            scene.go_on()
            yield scene.sample(step, run)
        for run, scene in product(range(runs), scenes):
            yield scene.sample(Step.WHOLE, run)


@contextmanager
def _scene(count: int, server: Server, work: Path) -> Iterator["_Scene"]:
    home = work / f"home-{count}"
    (home / "storage").mkdir(parents=True)
    try:
        with server.bucket(f"sweep-{count}") as bucket:
            scene = _Scene(home=home, server=server, bucket=bucket, count=count)
            scene.fill()
            yield scene
    finally:
        shutil.rmtree(home)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scene:
    """A bucket, a host that pushes, and one that prunes."""

    home: Path
    server: Server
    bucket: str
    count: int

    def fill(self) -> None:
        """Push everything to a directory, and have bucket and host be as if it had been here."""
        directory = self.home / "bucket"
        directory.mkdir()
        self._push(f"file://{directory}", "--grow", str(self.count))
        state = self.home / "pushing"
        state_path(state, _PIPELINE, f"file://{directory}").rename(
            state_path(state, _PIPELINE, f"s3://{self.bucket}")
        )
        unwanted = ("--exclude", ".ckptsync.*", "--exclude", "probe/*")
        options = ("--endpoint-url", self.server.endpoint, "--log", "error", "--numworkers", "64")
        self._run(s5cmd(), *options, "cp", *unwanted, f"{directory}/", f"s3://{self.bucket}/")

    def go_on(self) -> None:
        """What happens between two prunes, and a day."""
        self._push(f"s3://{self.bucket}")

    def forget_host(self) -> None:
        """The host that prunes has never seen the bucket."""
        shutil.rmtree(self.home / "pruning", ignore_errors=True)

    def sample(self, step: Step, run: int) -> Sample:
        before = self.server.requests(self.bucket)
        usage, outcome = self.prune(*(("--orphans",) if step is Step.WHOLE else ()))
        if not _EXPECTED[step](outcome) or outcome["kept"] != self.count:
            raise WrongOutcome(f"{self.count} checkpoints: {step}: {outcome}")
        return Sample(
            checkpoints=self.count,
            step=step,
            run=run,
            seconds=usage.seconds,
            cpu_seconds=usage.cpu_seconds,
            peak_rss=usage.peak_rss,
            requests=self.server.requests(self.bucket) - before,
        )

    def prune(self, *options: str) -> tuple[measure.Usage, Mapping[str, Any]]:
        config = self._configured("pruning", f"s3://{self.bucket}")
        ckptsync = (installed("ckptsync"), "-c", str(config), "--log-level", "error")
        usage = self._run(*ckptsync, "prune", "--json", *options)
        return usage, json.loads(self._output.read_text())

    def _push(self, bucket: str, *options: str) -> None:
        # In a process of its own: no peak is seen below that of the process that starts another.
        config = self._configured("pushing", bucket)
        self._run(sys.executable, "-m", "bench.history", str(config), *options)

    def _run(self, *argv: str) -> measure.Usage:
        variables = {**environment(self.server, self.home), "PYTHONPATH": str(_PROJECT)}
        return measure.run(argv, variables, log=self._output)

    @property
    def _output(self) -> Path:
        return self.home / "output"

    def _configured(self, node: str, bucket: str) -> Path:
        path = self.home / f"{node}.toml"
        path.write_text(
            _CONFIG.format(
                node=node,
                home=self.home,
                bucket=bucket,
                remote=_REMOTE.format(server=self.server) if bucket.startswith("s3:") else "",
                count=self.count,
            )
        )
        return path


_CONFIG: Final = """\
[daemon]
node = "{node}"
state_dir = "{home}/{node}"

[pipelines.bench]
storage_path = "{home}/storage"
layout = "directory"
directory = {{ quiet = "0s" }}

[pipelines.bench.sync]
bucket = "{bucket}"
{remote}
retention_min_count = {count}
retention_min_age = 0
"""
_REMOTE: Final = """\
endpoint = "{server.endpoint}"
region = "{server.region}"
access_key = "{server.access_key}"
secret_key = "{server.secret_key}"
"""


def _turned(outcome: Mapping[str, Any]) -> bool:
    moved = [len(outcome[each]) for each in ("retired", "forgotten", "revived")]
    return moved == [1, 1, 0] and outcome["deleted_objects"] > 0 and not outcome["listed"]


def _idle(outcome: Mapping[str, Any]) -> bool:
    return not any(outcome[each] for each in ("retired", "forgotten", "deleted_objects"))


_EXPECTED: Final[Mapping[Step, Callable[[Mapping[str, Any]], bool]]] = {
    Step.FIRST: lambda outcome: _idle(outcome) and outcome["listed"],
    Step.NOTHING: lambda outcome: _idle(outcome) and not outcome["listed"],
    Step.TURN: _turned,
    Step.NEXT: _turned,
    Step.WHOLE: lambda outcome: _idle(outcome) and outcome["listed"],
}
