"""Samples as tables: the median of each tool and step, and how ckptsync compares."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.place import IN_MEMORY
from bench.rounds import Sample, Step
from bench.tools import BASELINE, OURS
from bench.workloads import MIB, Workload
from ckptsync.units import format_size

Cells = Mapping[str, Mapping[str, float]]
"""By column, then by tool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What a reader has to know to judge the figures."""

    date: str
    machine: str
    work: str
    """The type of the filesystem that files and the server's data lie on."""
    targets: str
    """The type of the one that pulls go to."""
    versions: Mapping[str, str]
    """Of each tool."""
    workloads: Sequence[Workload]
    runs: int


def markdown(samples: Sequence[Sample], circumstances: Circumstances) -> str:
    """Raises ValueError if there are no samples."""
    return "\n\n".join([*_words(circumstances, samples), *_tables(circumstances, samples)])


def medians(samples: Sequence[Sample], value: Callable[[Sample], float]) -> Cells:
    grouped: dict[str, dict[str, list[float]]] = {}
    for sample in samples:
        column = grouped.setdefault(f"{sample.workload}: {sample.step}", {})
        column.setdefault(sample.tool, []).append(value(sample))
    return {
        column: {tool: median(values) for tool, values in tools.items()}
        for column, tools in grouped.items()
    }


def ratios(seconds: Cells) -> Cells:
    """How many times as long as ckptsync the fastest peer and the baseline take; below 1 they win.

    Nothing for a column without ckptsync, or without peers.
    """
    compared: dict[str, dict[str, float]] = {}
    for column, tools in seconds.items():
        peers = {tool: taken for tool, taken in tools.items() if tool != OURS}
        if OURS in tools and peers:
            compared[column] = {"the fastest peer": min(peers.values()) / tools[OURS]}
            if BASELINE in peers:
                compared[column][BASELINE] = peers[BASELINE] / tools[OURS]
    return compared


def table(cells: Cells, written: Callable[[float], str], *, corner: str = "") -> str:
    """A line for each tool, in the order in which they come up."""
    tools = dict.fromkeys(tool for column in cells.values() for tool in column)
    lines = [[corner, *cells], ["---", *("---:" for _ in cells)]]
    for tool in tools:
        values = [column.get(tool) for column in cells.values()]
        lines.append([tool, *("" if value is None else written(value) for value in values)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _words(circumstances: Circumstances, samples: Sequence[Sample]) -> Iterator[str]:
    yield (
        f"{circumstances.date}, {circumstances.machine}. Files and server on "
        f"{circumstances.work}, pulled to {circumstances.targets}. Each figure is the median of "
        f"{circumstances.runs}; the slowest run behind a figure took up to {_spread(samples):.2f} "
        "times as long as the fastest. The tools took turns, and every pull was compared with what "
        "had been pushed. When ckptsync ends, what it pulled is on the disk (fsync, syncfs), "
        "and checked against its digests; the other tools leave the disk to the kernel."
        f"{' In memory that costs nothing.' if circumstances.targets == IN_MEMORY else ''}"
    )
    yield "\n".join(_described(workload) for workload in circumstances.workloads)
    yield "\n".join(f"* {name}: {version}" for name, version in circumstances.versions.items())


def _described(workload: Workload) -> str:
    files = f"{workload.files:,} file{'s' if workload.files > 1 else ''}"
    then = f", and once more unchanged, and with {workload.changing} of them changed"
    return (
        f"* **{workload.name}**: {files} of {format_size(workload.size)}"
        f"{then if workload.changing else ''}"
    )


def _tables(circumstances: Circumstances, samples: Sequence[Sample]) -> Iterator[str]:
    seconds = medians(samples, lambda sample: sample.seconds)
    yield table(seconds, "{:.2f}".format, corner="seconds")
    if compared := ratios(seconds):
        yield table(compared, "{:.2f}".format, corner="times as long as ckptsync")
    if circumstances.targets != IN_MEMORY:
        pulls = [sample for sample in samples if sample.step is Step.PULL]
        durable = medians(pulls, lambda sample: sample.seconds + sample.flush_seconds)
        yield table(durable, "{:.2f}".format, corner="seconds until it is on the disk")
    cpu = medians(samples, lambda sample: sample.cpu_seconds)
    yield table(cpu, "{:.2f}".format, corner="CPU seconds of the client")
    memory = medians(samples, lambda sample: sample.peak_rss / MIB)
    yield table(memory, "{:.0f}".format, corner="peak memory of the client, MiB")
    requests = medians(samples, lambda sample: sample.requests)
    yield table(requests, "{:,.0f}".format, corner="requests that the server counted")


def _spread(samples: Sequence[Sample]) -> float:
    taken: dict[tuple[str, str, str], list[float]] = {}
    for sample in samples:
        taken.setdefault((sample.workload, sample.step, sample.tool), []).append(sample.seconds)
    return max(max(seconds) / min(seconds) for seconds in taken.values())
