"""Push and pull with each tool in turn, and print what they took.

python -m bench --workload small --tool ckptsync --tool s5cmd
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench import document, machine, report, workloads
from bench.place import IN_MEMORY, filesystem, room_for, warm, work_directory
from bench.report import Circumstances
from bench.rounds import FAILURES, Sample, play
from bench.server import seaweedfs
from bench.tools import Tool, tools
from bench.workloads import Workload

MARKER: Final = "bench"


def main() -> int:
    try:
        _bench(_parser().parse_args())
    except FAILURES as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def _bench(options: argparse.Namespace) -> None:
    if options.markdown:
        document.require_markers(options.markdown, MARKER)
    known = workloads.by_name(quick=options.quick)
    chosen = [known[name] for name in options.workload or _default(known, full=options.full)]
    every = tools()
    contenders = [every[name] for name in options.tool or every]
    needed = max(room_for(workload) for workload in chosen)
    samples: list[Sample] = []
    with (
        work_directory(needed, asked=options.work) as work,
        work_directory(needed, asked=options.target or work) as targets,
    ):
        circumstances = Circumstances(
            date=f"{datetime.now(UTC):%Y-%m-%d}",
            machine=machine.described(),
            work=filesystem(work),
            targets=filesystem(targets),
            versions={tool.name: _version(tool) for tool in contenders},
            workloads=chosen,
            runs=options.runs,
        )
        if circumstances.work == IN_MEMORY:
            warm(work, needed)
        try:
            with seaweedfs(work / "server") as server:
                for sample in play(
                    chosen,
                    contenders,
                    runs=options.runs,
                    server=server,
                    work=work,
                    targets=targets,
                ):
                    _tell(sample)
                    samples.append(sample)
        finally:
            if options.json:
                options.json.write_text(_json(samples, circumstances))
    text = report.markdown(samples, circumstances)
    print(text)
    if options.markdown:
        document.update(options.markdown, MARKER, text)


def _default(known: Mapping[str, Workload], *, full: bool) -> Sequence[str]:
    return [name for name in known if full or name != workloads.ONLY_IN_FULL]


def _version(tool: Tool) -> str:
    """Its first line. Running it has the program's files in memory before anything is timed."""
    said = subprocess.run(tool.version, check=True, capture_output=True, text=True).stdout
    return said.splitlines()[0]


def _tell(sample: Sample) -> None:
    print(
        f"{sample.workload}: {sample.step}: {sample.tool}: {sample.seconds:.2f} s",
        file=sys.stderr,
        flush=True,
    )


def _json(samples: Sequence[Sample], circumstances: Circumstances) -> str:
    return json.dumps(
        {
            "circumstances": asdict(circumstances),
            "samples": [asdict(sample) for sample in samples],
        },
        indent=1,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="ckptsync and its peers, on one server, in turn."
    )
    parser.add_argument(
        "--workload",
        action="append",
        choices=[workload.name for workload in workloads.FULL_SIZE],
        help="may be repeated; default: all but 'many'",
    )
    parser.add_argument("--full", action="store_true", help="'many' too, which takes an hour")
    parser.add_argument(
        "--tool", action="append", choices=list(tools()), help="may be repeated; default: all"
    )
    parser.add_argument("--runs", type=_positive, default=3, help="of each tool (default: 3)")
    parser.add_argument("--quick", action="store_true", help="tiny workloads, to try the bench")
    parser.add_argument("--work", type=Path, metavar="DIR", help="default: in memory, with room")
    parser.add_argument(
        "--target",
        type=Path,
        metavar="DIR",
        help="pull to below this directory: what a disk costs; default: as --work",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="every sample")
    parser.add_argument(
        "--markdown",
        type=Path,
        metavar="FILE",
        help=f"replace what stands between its comments '{MARKER} begins' and '{MARKER} ends'",
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


if __name__ == "__main__":
    sys.exit(main())
