"""What a push and a pull take of memory at their peak, and what each further file adds.

python -m bench.memory
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from bench import document, report
from bench.place import room_for, work_directory
from bench.rounds import FAILURES, Sample, Step, play
from bench.server import seaweedfs
from bench.tools import OURS, tools
from bench.workloads import GIB, KIB, MIB, Workload

MARKER: Final = "memory"

FULL_SIZE: Final = (
    Workload(name="one-file", files=1, size=2 * GIB),
    Workload(name="files-100000", files=100_000, size=KIB),
    Workload(name="files-200000", files=200_000, size=KIB),
)
QUICK: Final = (
    Workload(name="one-file", files=1, size=40 * MIB),
    Workload(name="files-100", files=100, size=KIB),
    Workload(name="files-200", files=200, size=KIB),
)


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
    chosen = QUICK if options.quick else FULL_SIZE
    with (
        work_directory(max(room_for(workload) for workload in chosen)) as work,
        seaweedfs(work / "server") as server,
    ):
        ours = tools()[OURS]
        samples = list(play(chosen, [ours], runs=1, server=server, work=work, targets=work))
    text = "\n\n".join(_paragraphs(samples, chosen))
    print(text)
    if options.markdown:
        document.update(options.markdown, MARKER, text)


def each_further_file(samples: Sequence[Sample], step: Step, chosen: Sequence[Workload]) -> float:
    """Bytes of peak memory, from the two workloads that have the most files."""
    fewer, more = sorted(chosen, key=lambda workload: workload.files)[-2:]
    peaks = {sample.workload: sample.peak_rss for sample in samples if sample.step is step}
    return (peaks[more.name] - peaks[fewer.name]) / (more.files - fewer.files)


def _paragraphs(samples: Sequence[Sample], chosen: Sequence[Workload]) -> Iterator[str]:
    peaks = {
        str(step): {sample.workload: sample.peak_rss for sample in samples if sample.step is step}
        for step in (Step.PUSH, Step.PULL)
    }
    yield report.table(peaks, lambda peak: f"{peak / MIB:.0f} MiB", corner="peak memory")
    push, pull = (each_further_file(samples, step, chosen) for step in (Step.PUSH, Step.PULL))
    yield f"Each further file adds {push:.0f} bytes to a push and {pull:.0f} bytes to a pull."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny workloads, to try it")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    return parser


if __name__ == "__main__":
    sys.exit(main())
