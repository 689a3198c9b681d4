"""What pruning takes in a bucket with few checkpoints, and in one with many.

python -m bench.sweep --checkpoints 100 10000

Checkpoints are pushed to a directory first, and copied to the server. Another host than the one
that pushes prunes, in whole processes of `ckptsync prune`; it keeps as many checkpoints as there
are, so that each further one retires the oldest. Between two prunes `bench.history` pushes one,
and sets back by two days since when that one is retired which the last prune retired, in head or
in its page: so the next prune reads one manifest, retires one checkpoint, forgets one and deletes
what only that one needed.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

from bench import document, machine, report
from bench.place import work_directory
from bench.pruning import Sample, Step, play
from bench.rounds import FAILURES
from bench.server import seaweedfs
from bench.workloads import KIB, MIB

MARKER: Final = "sweep"
_ROOM: Final = 64 * KIB  # for one checkpoint, here and on the server


def main() -> int:
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
        work_directory(sum(options.checkpoints) * _ROOM, asked=options.work) as work,
        seaweedfs(work / "server") as server,
    ):
        for sample in play(options.checkpoints, runs=options.runs, server=server, work=work):
            told = f"{sample.checkpoints}: {sample.step}: {sample.seconds:.2f} s"
            print(told, file=sys.stderr, flush=True)
            samples.append(sample)
    if options.json:
        options.json.write_text(json.dumps([asdict(sample) for sample in samples], indent=1))
    text = "\n\n".join(_paragraphs(samples, options.runs))
    print(text)
    if options.markdown:
        document.update(options.markdown, MARKER, text)


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
        f"{datetime.now(UTC):%Y-%m-%d}, {machine.described()}. Each figure is the median of "
        f"{runs}; the buckets took turns."
    )
    seconds = medians(samples, lambda sample: sample.seconds)
    yield report.table(seconds, "{:.2f}".format, corner="seconds")
    cpu = medians(samples, lambda sample: sample.cpu_seconds)
    yield report.table(cpu, "{:.2f}".format, corner="CPU seconds of the client")
    requests = medians(samples, lambda sample: sample.requests)
    yield report.table(requests, "{:,.0f}".format, corner="requests that the server counted")
    memory = medians(samples, lambda sample: sample.peak_rss / MIB)
    yield report.table(memory, "{:.0f}".format, corner="peak memory, MiB")
    fewest, *_, most = (*seconds, *seconds)
    times, work = (cells[most][Step.TURN] / cells[fewest][Step.TURN] for cells in (seconds, cpu))
    yield (
        f"*{Step.TURN}*: with {most} it takes {times:.2f} times as long as with {fewest}, and "
        f"{work:.2f} times the CPU time."
    )


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
