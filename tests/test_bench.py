"""The bench, with tiny workloads: it measures every tool, and notices a tool that cheats."""

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from bench import document, history, memory, pruning, report, sweep, workloads
from bench.document import NoMarkers
from bench.rounds import Sample, Step, WrongBytes, play
from bench.server import seaweedfs
from bench.tools import Tool
from bench.workloads import Workload
from ckptsync.repository import catalog, keys
from ckptsync.repository.repository import read_head
from ckptsync.repository.retention import Policy
from ckptsync.stores.memory import MemoryStore
from tests.operations.forgetting import entries_of
from tests.operations.invariants import require_sound
from tests.pipelines import Host

TINY = Workload(name="tiny", files=20, size=100, changing=3)
TOOLS = {"ckptsync", "rclone-feldera", "rclone-tuned", "s5cmd", "aws s3 sync"}


def test_the_bench_measures_every_step_of_every_tool(tmp_path: Path) -> None:
    samples, page = tmp_path / "samples.json", tmp_path / "page.md"
    page.write_text("before\n<!-- bench begins --><!-- bench ends -->\nafter\n")

    done = subprocess.run(
        [
            *(sys.executable, "-m", "bench", "--quick", "--runs=1", "--workload=small"),
            *(f"--work={tmp_path}", f"--json={samples}", f"--markdown={page}"),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    measured = json.loads(samples.read_text())["samples"]
    assert {(each["tool"], each["step"]) for each in measured} == {
        (tool, step) for tool in TOOLS for step in Step
    }
    assert all(each["seconds"] > 0 and each["cpu_seconds"] > 0 for each in measured)
    assert all(each["requests"] > 0 and each["peak_rss"] > 0 for each in measured)
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith("\nafter\n")
    assert all(f"| {tool} |" in page.read_text() for tool in TOOLS)


def test_every_kind_of_prune_is_measured_with_each_number_of_checkpoints(tmp_path: Path) -> None:
    samples, page = tmp_path / "samples.json", tmp_path / "page.md"
    page.write_text("before\n<!-- sweep begins --><!-- sweep ends -->\nafter\n")

    done = subprocess.run(
        [
            *(sys.executable, "-m", "bench.sweep", "--checkpoints", "3", "40", "--runs=1"),
            *(f"--work={tmp_path}", f"--json={samples}", f"--markdown={page}"),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    measured = json.loads(samples.read_text())
    assert {(each["checkpoints"], each["step"]) for each in measured} == {
        (checkpoints, step) for checkpoints in (3, 40) for step in pruning.Step
    }
    requests = {(each["checkpoints"], each["step"]): each["requests"] for each in measured}
    assert requests[40, pruning.Step.FIRST] - requests[3, pruning.Step.FIRST] == 37
    assert requests[40, pruning.Step.TURN] == requests[3, pruning.Step.TURN] > 0
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith("\nafter\n")
    assert all(f"| {step} |" in page.read_text() for step in pruning.Step)


def test_a_history_that_was_grown_is_as_pushes_leave_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "SPILL_ABOVE", 70)
    monkeypatch.setattr(catalog, "SPILL", 32)
    store, host, number = MemoryStore(), Host(home=tmp_path), 71
    host.root.mkdir(parents=True)

    with host.running(store) as pipeline:
        history.grow(pipeline, number)
        history.push_new(pipeline)

    head = read_head(store).head
    assert [entry.seq for entry in entries_of(store)] == list(range(1, number + 2))
    assert [(page.seq, page.count) for page in head.pages] == [((1, 32), 32)]
    assert len(list(store.walk(keys.PACKS))) == number + 1
    require_sound(store)


def test_what_was_retired_just_now_is_so_for_a_day_and_more(tmp_path: Path) -> None:
    store, host = MemoryStore(), Host(home=tmp_path)
    host.root.mkdir(parents=True)
    pruner = Host(
        home=tmp_path / "other", node="other", retention=Policy(min_count=2, min_age=timedelta(0))
    )
    with host.running(store) as pipeline:
        history.grow(pipeline, 3)
        oldest = entries_of(store)[0].id
        assert pruner.prune(store).retired == [oldest]

        history.age_retired(pipeline)

    assert pruner.prune(store).forgotten == [oldest]


def test_a_tool_that_does_not_pull_what_it_pushed_is_found_out(tmp_path: Path) -> None:
    forgetful = Tool(
        name="forgetful",
        version=("true",),
        push=lambda _: ("true",),
        pull=lambda site: ("cp", "-r", str(site.source), f"{site.restored}-of-another-name"),
    )
    with (
        seaweedfs(tmp_path / "server") as server,
        pytest.raises(WrongBytes, match="forgetful"),
    ):
        list(play([TINY], [forgetful], runs=1, server=server, work=tmp_path, targets=tmp_path))


def test_a_fingerprint_tells_names_and_bytes_apart(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    workloads.write(TINY, one)
    subprocess.run(["cp", "-r", one, other], check=True)
    assert workloads.fingerprint(one) == workloads.fingerprint(other)

    file = next(path for path in other.rglob("*") if path.is_file())
    file.rename(file.with_name("renamed"))
    assert workloads.fingerprint(one) != workloads.fingerprint(other)

    file.with_name("renamed").rename(file)
    file.write_bytes(file.read_bytes()[:-1])
    assert workloads.fingerprint(one) != workloads.fingerprint(other)


def test_as_many_files_change_as_were_asked_for(tmp_path: Path) -> None:
    workloads.write(TINY, tmp_path / "checkpoint")
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    before = [path.read_bytes() for path in files]

    workloads.change(TINY, tmp_path / "checkpoint")

    after = [path.read_bytes() for path in files]
    assert sum(old != new for old, new in zip(before, after, strict=True)) == TINY.changing
    assert {len(data) for data in after} == {TINY.size}


def test_ratios_say_how_many_times_as_long_the_others_take() -> None:
    seconds = {
        "small: push": {"ckptsync": 2.0, "s5cmd": 6.0, "aws s3 sync": 30.0},
        "one-file: pull": {"ckptsync": 2.0, "s5cmd": 1.0},
        "many: pull": {"s5cmd": 1.0},
    }

    assert report.ratios(seconds) == {
        "small: push": {"the fastest peer": 3.0, "aws s3 sync": 15.0},
        "one-file: pull": {"the fastest peer": 0.5},
    }


def test_each_figure_is_the_median_of_its_runs() -> None:
    samples = [a_sample(run=run, seconds=seconds) for run, seconds in enumerate((9.0, 1.0, 2.0))]

    assert report.medians(samples, lambda sample: sample.seconds) == {
        "tiny: push": {"ckptsync": 2.0}
    }


def test_each_figure_of_a_prune_is_the_median_of_its_runs() -> None:
    samples = [
        pruning.Sample(
            checkpoints=1000,
            step=pruning.Step.TURN,
            run=run,
            seconds=seconds,
            cpu_seconds=1.0,
            peak_rss=1,
            requests=1,
        )
        for run, seconds in enumerate((9.0, 1.0, 2.0))
    ]

    assert sweep.medians(samples, lambda sample: sample.seconds) == {
        "1,000 checkpoints": {pruning.Step.TURN: 2.0}
    }


def test_what_a_further_file_costs_is_the_slope_between_the_two_largest() -> None:
    chosen = [Workload(name=f"{count}", files=count, size=1) for count in (100, 300, 1)]
    peaks = {"1": 999_999, "100": 10_000, "300": 50_000}
    samples = [a_sample(workload=name, peak_rss=peak) for name, peak in peaks.items()]

    assert memory.each_further_file(samples, Step.PUSH, chosen) == 200.0


def test_text_between_the_comments_is_replaced_and_nothing_else() -> None:
    page = "a\n<!-- x begins -->\nold\n<!-- x ends -->\n<!-- y begins -->\n<!-- y ends -->\nb\n"

    once = document.replace_between(page, "x", "new")

    assert once == page.replace("\nold\n", "\n\nnew\n\n")
    assert document.replace_between(once, "x", "new") == once


@pytest.mark.parametrize(
    "page",
    [
        "nothing",
        "<!-- x begins -->",
        "<!-- x ends --><!-- x begins -->",
        "<!-- x begins --><!-- x begins --><!-- x ends -->",
        "<!-- x begins --><!-- x ends --><!-- x ends -->",
    ],
)
def test_a_page_without_one_clear_place_is_refused(page: str) -> None:
    with pytest.raises(NoMarkers):
        document.replace_between(page, "x", "new")


def a_sample(
    *, workload: str = "tiny", run: int = 0, seconds: float = 1.0, peak_rss: int = 1
) -> Sample:
    return Sample(
        workload=workload,
        step=Step.PUSH,
        tool="ckptsync",
        run=run,
        seconds=seconds,
        cpu_seconds=1.0,
        peak_rss=peak_rss,
        requests=1,
        flush_seconds=0.0,
    )
