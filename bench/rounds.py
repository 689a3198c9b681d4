"""The rounds of tools and workloads: a bucket each, every step in order, checked at the end."""

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from bench import measure, workloads
from bench.measure import ToolFailed
from bench.server import Server
from bench.tools import Command, Site, Tool, environment
from bench.workloads import Workload


class Step(StrEnum):
    PUSH = "push"
    UNCHANGED = "push unchanged"
    CHANGED = "push changed"
    PULL = "pull"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One process that ran."""

    workload: str
    step: Step
    tool: str
    run: int
    seconds: float
    cpu_seconds: float
    peak_rss: int
    requests: int
    flush_seconds: float
    """What it then took to have the target's filesystem on its disk; 0 after a push."""


class WrongBytes(Exception):
    """What a tool pulled is not what it pushed."""


FAILURES: Final = (OSError, RuntimeError, ToolFailed, WrongBytes)
"""What a round may raise; the message says it all."""


def steps(workload: Workload) -> Sequence[Step]:
    increments = (Step.UNCHANGED, Step.CHANGED) if workload.changing else ()
    return (Step.PUSH, *increments, Step.PULL)


def play(
    chosen: Sequence[Workload],
    contenders: Sequence[Tool],
    *,
    runs: int,
    server: Server,
    work: Path,
    targets: Path,
) -> Iterator[Sample]:
    """Each workload with each tool in turn, as often as there are runs; nothing is left out.

    Files lie in `work`, pulls go to `targets`. Raises ToolFailed; WrongBytes unless every file
    arrived as it was last pushed.
    """
    for workload in chosen:
        storage = work / workload.name
        workloads.write(workload, storage / "checkpoint-0")
        for run in range(runs):
            first = run % len(contenders)  # nobody is always the first
            for tool in (*contenders[first:], *contenders[:first]):
                yield from _round(
                    tool, workload, run=run, server=server, work=work, targets=targets
                )
        shutil.rmtree(storage)


def _round(
    tool: Tool, workload: Workload, *, run: int, server: Server, work: Path, targets: Path
) -> Iterator[Sample]:
    storage = work / workload.name
    home, target = work / "home", targets / "target"
    home.mkdir()
    try:
        name = f"{tool.name.replace(' ', '-')}-{workload.name}-{run}"
        with server.bucket(name) as bucket:
            for number, step in enumerate(steps(workload), start=1):
                if step is Step.CHANGED:
                    _wait_for_the_next_second()
                    workloads.change(workload, _checkpoint(storage))
                site = Site(
                    server=server,
                    bucket=bucket,
                    home=home,
                    storage=storage,
                    checkpoint=_checkpoint_name(storage, number, step),
                    target=target,
                )
                command = tool.pull if step is Step.PULL else tool.push
                yield _timed(tool, command, site, workload=workload, step=step, run=run)
            if workloads.fingerprint(site.restored) != workloads.fingerprint(site.source):
                raise WrongBytes(f"{tool.name}: {site.restored} is not what was pushed")
    finally:
        for directory in (home, target, target.with_name("target-work")):
            shutil.rmtree(directory, ignore_errors=True)


def _timed(
    tool: Tool, command: Command, site: Site, *, workload: Workload, step: Step, run: int
) -> Sample:
    tool.prepare(site)
    if step is Step.PULL:
        site.target.mkdir()
    measure.flush(site.target.parent)  # what others left to write is not this tool's
    before = site.server.requests(site.bucket)
    usage = measure.run(
        command(site), environment(site.server, site.home), log=site.home / "output"
    )
    return Sample(
        workload=workload.name,
        step=step,
        tool=tool.name,
        run=run,
        seconds=usage.seconds,
        cpu_seconds=usage.cpu_seconds,
        peak_rss=usage.peak_rss,
        flush_seconds=measure.flush(site.target) if step is Step.PULL else 0.0,
        requests=site.server.requests(site.bucket) - before,
    )


def _checkpoint(storage: Path) -> Path:
    (only,) = storage.glob("checkpoint-*")
    return only


def _checkpoint_name(storage: Path, number: int, step: Step) -> str:
    """Each push gets a new one, as from an engine; peers see the same files under any name."""
    current = _checkpoint(storage)
    if step is not Step.PULL:
        current = current.rename(storage / f"checkpoint-{number}")
    return current.name


def _wait_for_the_next_second() -> None:
    # Peers compare times in seconds: they would miss a change in the second of the upload.
    time.sleep(1 + 1 - time.time() % 1)
