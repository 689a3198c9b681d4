"""What pruning takes in a bucket with few checkpoints, and in one with many.

python -m bench.sweep --checkpoints 100 10000

Checkpoints are pushed to a directory first, and copied to the server. Another host than the one
that pushes prunes, in whole processes of `ckptsync prune`; it keeps as many checkpoints as there
are, so that each further one retires the oldest. Between two prunes this process pushes one, and
sets back by two days, in head or page, since when the one is retired that was retired before: the
next prune reads one manifest, retires one checkpoint, forgets one and deletes what only that needed.
"""

import argparse
import json
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench import document, history, machine, measure, report
from bench.place import work_directory
from bench.programs import installed, s5cmd
from bench.rounds import FAILURES
from bench.server import Server, seaweedfs
from bench.tools import environment
from bench.workloads import KIB, MIB
from ckptsync import log
from ckptsync.cli.wiring import wire
from ckptsync.config.load import load
from ckptsync.operations.pipeline import Pipeline
from ckptsync.state.database import state_path

MARKER: Final = "sweep"
_PIPELINE: Final = "bench"
_ROOM: Final = 64 * KIB  # for one checkpoint, here and on the server


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


def main() -> int:
    log.configure(json=None, level="error")
    try:
        _measure(_parser().parse_args())
    except FAILURES as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def _measure(options: argparse.Namespace) -> None:
    if options.markdown:
        document.require_markers(options.markdown, MARKER)
    samples: list[Sample] = []
    with (
        work_directory(max(options.checkpoints) * _ROOM, asked=options.work) as work,
        seaweedfs(work / "server") as server,
    ):
        for count in options.checkpoints:
            for sample in play(count, runs=options.runs, server=server, work=work):
                told = f"{count}: {sample.step}: {sample.seconds:.2f} s"
                print(told, file=sys.stderr, flush=True)
                samples.append(sample)
    if options.json:
        options.json.write_text(json.dumps([asdict(sample) for sample in samples], indent=1))
    text = "\n\n".join(_paragraphs(samples, options.runs))
    print(text)
    if options.markdown:
        document.update(options.markdown, MARKER, text)


def play(count: int, *, runs: int, server: Server, work: Path) -> Iterator[Sample]:
    """Every step, `runs` times. Raises ToolFailed, WrongOutcome."""
    home = work / "home"
    (home / "storage").mkdir(parents=True)
    try:
        with server.bucket(f"sweep-{count}") as bucket:
            scene = _Scene(home=home, server=server, bucket=bucket, count=count)
            scene.fill()
            for run in range(runs):
                scene.forget_host()
                yield scene.sample(Step.FIRST, run)
            for run in range(runs):
                yield scene.sample(Step.NOTHING, run)
            scene.go_on()
            scene.prune()  # from now on one is always retired
            for run in range(runs):
                for step in (Step.TURN, Step.NEXT):
                    scene.go_on()
                    yield scene.sample(step, run)
            for run in range(runs):
                yield scene.sample(Step.WHOLE, run)
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
        with self._pushing(f"file://{directory}") as pipeline:
            history.grow(pipeline, self.count)
        state = self.home / "pushing"
        state_path(state, _PIPELINE, f"file://{directory}").rename(
            state_path(state, _PIPELINE, f"s3://{self.bucket}")
        )
        unwanted = ("--exclude", ".ckptsync.*", "--exclude", "probe/*")
        options = ("--endpoint-url", self.server.endpoint, "--log", "error", "--numworkers", "64")
        measure.run(
            (s5cmd(), *options, "cp", *unwanted, f"{directory}/", f"s3://{self.bucket}/"),
            environment(self.server, self.home),
            log=self.home / "output",
        )

    def go_on(self) -> None:
        """What happens between two prunes, and a day."""
        with self._pushing(f"s3://{self.bucket}") as pipeline:
            history.push_new(pipeline)
            history.age_retired(pipeline)

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
        output = self.home / "output"
        usage = measure.run(
            (
                *(installed("ckptsync"), "-c", str(config), "--log-level", "error"),
                *("prune", "--json", *options),
            ),
            environment(self.server, self.home),
            log=output,
        )
        return usage, json.loads(output.read_text())

    @contextmanager
    def _pushing(self, bucket: str) -> Iterator[Pipeline]:
        config = load(self._configured("pushing", bucket))
        with wire(config, _PIPELINE, threading.Event()) as pipeline:
            yield pipeline

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


def medians(samples: Sequence[Sample], value: Callable[[Sample], float]) -> report.Cells:
    """A column for each number of checkpoints, a line for each step."""
    grouped: dict[str, dict[str, list[float]]] = {}
    for sample in samples:
        column = grouped.setdefault(f"{sample.checkpoints:,} checkpoints", {})
        column.setdefault(sample.step, []).append(value(sample))
    return {
        column: {step: median(values) for step, values in steps.items()}
        for column, steps in grouped.items()
    }


def _paragraphs(samples: Sequence[Sample], runs: int) -> Iterator[str]:
    yield (
        f"{datetime.now(UTC):%Y-%m-%d}, {machine.described()}. Each figure is the median of {runs}."
    )
    seconds = medians(samples, lambda sample: sample.seconds)
    yield report.table(seconds, "{:.2f}".format, corner="seconds")
    cpu = medians(samples, lambda sample: sample.cpu_seconds)
    yield report.table(cpu, "{:.2f}".format, corner="CPU seconds of the client")
    requests = medians(samples, lambda sample: sample.requests)
    yield report.table(requests, "{:,.0f}".format, corner="requests that the server counted")
    memory = medians(samples, lambda sample: sample.peak_rss / MIB)
    yield report.table(memory, "{:.0f}".format, corner="peak memory, MiB")
    (fewest, few), *_, (most, many) = (*seconds.items(), *seconds.items())
    if fewest != most:
        times = many[Step.TURN] / few[Step.TURN]
        yield f"*{Step.TURN}*: with {most} {times:.2f} times as long as with {fewest}."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.sweep", description="Pruning, with few checkpoints and with many."
    )
    parser.add_argument(
        "--checkpoints", type=int, nargs="+", default=[100, 10_000], metavar="NUMBER"
    )
    parser.add_argument("--runs", type=int, default=3, help="of each step (default: 3)")
    parser.add_argument("--work", type=Path, metavar="DIR", help="default: in memory, with room")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every sample")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    return parser


if __name__ == "__main__":
    sys.exit(main())
