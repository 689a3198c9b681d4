"""ckptsync verify"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click

from ckptsync.cli import wiring
from ckptsync.cli.answer import Answer
from ckptsync.cli.invocation import Invocation, json_option, pipeline_argument
from ckptsync.cli.progress import bar
from ckptsync.cli.wording import counted
from ckptsync.errors import IntegrityError
from ckptsync.failure import Failure
from ckptsync.operations import documents
from ckptsync.operations.transfers import stoppable
from ckptsync.operations.verify import ALL, Problem, VerifyReport, verify
from ckptsync.operations.verify_directory import DirectoryReport, verify_directory
from ckptsync.units import format_size

_HINT: Final = (
    "pull an undamaged checkpoint with --checkpoint ID, "
    "or put the objects back from a copy of the bucket"
)


@click.command("verify")
@pipeline_argument
@click.option(
    "--checkpoint",
    metavar="latest|all|ID",
    help="Which of those in the bucket; all of them if not told.",
)
@click.option("--full", is_flag=True, help="Read every byte, not only what is there and how long.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Compare a directory that was pulled with its manifest; needs no bucket and no "
    "configuration.",
)
@click.option(
    "--manifest",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The manifest of --directory, where it does not lie beside it.",
)
@json_option
@click.pass_context
def command(
    context: click.Context,
    name: str | None,
    checkpoint: str | None,
    full: bool,
    directory: Path | None,
    manifest: Path | None,
) -> Answer:
    """Check that checkpoints are whole.

    Reads only. The exit code is 12 if anything is damaged; a bucket that does not answer is no
    damage, and has another one.
    """
    invocation = context.ensure_object(Invocation)
    if directory is None:
        if manifest is not None:
            context.fail("--manifest goes with --directory")
        return _bucket(invocation, name, checkpoint or ALL, full=full)
    if name is not None or checkpoint is not None or full:
        context.fail("--directory goes without PIPELINE, --checkpoint and --full")
    return _directory(invocation, directory, manifest)


def _bucket(invocation: Invocation, name: str | None, checkpoints: str, *, full: bool) -> Answer:
    config = invocation.config()
    name = config.choose(name)
    with wiring.wire(config, name, invocation.stop, reading=True) as pipeline:
        with bar(f"verify {name}") as progress:
            report = verify(pipeline, checkpoints=checkpoints, full=full, progress=progress)
        where = pipeline.store.name
    return Answer(
        document={"pipeline": name, "bucket": where, **_document(report)},
        lines=lambda: _lines(report, where),
        verdict=None
        if report.sound
        else Failure.of(IntegrityError(f"{where} is damaged", hint=_HINT)),
    )


def _document(report: VerifyReport) -> Mapping[str, Any]:
    return {
        "sound": report.sound,
        "checkpoints": [
            {
                **documents.checkpoint(each.entry),
                "sound": each.sound,
                "problems": [_problem(problem) for problem in each.problems],
            }
            for each in report.checkpoints
        ],
        "problems": [_problem(problem) for problem in report.problems],
        "objects": report.objects,
        "checked_bytes": report.bytes,
        "seconds": round(report.seconds, 3),
    }


def _problem(problem: Problem) -> Mapping[str, Any]:
    return {"key": problem.key, "problem": problem.problem}


def _lines(report: VerifyReport, where: str) -> Iterator[str]:
    for problem in report.problems:
        yield f"{where}: {problem.key} {problem.problem}"
    for each in report.checkpoints:
        yield f"{each.entry.id}: {'whole' if each.sound else 'DAMAGED'}"
        for problem in each.problems:
            yield f"  {problem.key} {problem.problem}"
    yield (
        f"checked {counted(len(report.checkpoints), 'checkpoint')} in {where}: "
        f"{counted(report.objects, 'object')}, "
        f"{format_size(report.bytes)}, in {report.seconds:.1f} s"
    )


def _directory(invocation: Invocation, directory: Path, manifest: Path | None) -> Answer:
    with bar(f"verify {directory}") as progress:
        report = verify_directory(
            directory, manifest, progress=stoppable(progress, invocation.stop)
        )
    return Answer(
        document={
            "directory": str(directory),
            "sound": report.sound,
            "checkpoint": {"id": report.checkpoint},
            "problems": list(report.problems),
            "files": report.files,
            "checked_bytes": report.bytes,
            "seconds": round(report.seconds, 3),
        },
        lines=lambda: _directory_lines(report, directory),
        verdict=None
        if report.sound
        else Failure.of(
            IntegrityError(
                f"{directory} is not what was pushed as {report.checkpoint}",
                hint="pull it again: 'ckptsync pull --to DIR'",
            )
        ),
    )


def _directory_lines(report: DirectoryReport, directory: Path) -> Iterator[str]:
    yield from report.problems
    state = "whole" if report.sound else "DAMAGED"
    yield (
        f"{report.checkpoint} in {directory}: {state}; {counted(report.files, 'file')}, "
        f"{format_size(report.bytes)}, in {report.seconds:.1f} s"
    )
