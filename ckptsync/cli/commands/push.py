"""ckptsync push"""

from collections.abc import Mapping
from typing import Any

import click

from ckptsync.cli import documents, wiring
from ckptsync.cli.answer import Answer, Failure
from ckptsync.cli.invocation import Invocation, json_option, pipeline_argument
from ckptsync.cli.progress import bar
from ckptsync.cli.recorded import recorded
from ckptsync.cli.wording import counted, described
from ckptsync.errors import NothingToDo
from ckptsync.operations.push import PushReport, push
from ckptsync.operations.resolve import LATEST
from ckptsync.units import format_size


@click.command("push")
@pipeline_argument
@click.option(
    "--checkpoint",
    metavar="ENGINE_ID",
    default=LATEST,
    show_default=True,
    help="The engine's own id of the checkpoint to push.",
)
@click.option(
    "--new-timeline",
    is_flag=True,
    help="Push it although the bucket's latest is newer, or of another life of the engine.",
)
@click.option("--error-if-none", is_flag=True, help="Exit with 4 if it was synced already.")
@json_option
@click.pass_obj
def command(
    invocation: Invocation,
    name: str | None,
    checkpoint: str,
    new_timeline: bool,
    error_if_none: bool,
) -> Answer:
    """Push the newest complete checkpoint to the bucket.

    Only what the bucket does not have is uploaded. A push that was interrupted leaves the
    bucket's checkpoints as they were; running it again goes on where it stopped.
    """
    config = invocation.config()
    name = config.choose(name)
    with (
        wiring.lock(config, name),
        wiring.wire(config, name, invocation.stop) as pipeline,
        recorded(pipeline, "push") as record,
    ):
        with bar(f"push {name}") as progress:
            report = push(
                pipeline,
                engine_id=None if checkpoint == LATEST else checkpoint,
                new_timeline=new_timeline,
                progress=progress,
            )
        document = _document(report)
        record(document)
        where = pipeline.store.name
    return Answer(
        document={"pipeline": name, "bucket": where, **document},
        lines=lambda: [_line(report, where)],
        verdict=Failure.of(NothingToDo(f"the checkpoint was already synced to {where}"))
        if report.already_synced and error_if_none
        else None,
    )


def _document(report: PushReport) -> Mapping[str, Any]:
    return {
        "checkpoint": documents.checkpoint(report.entry),
        "already_synced": report.already_synced,
        "files": report.files,
        "seconds": round(report.seconds, 3),
    }


def _line(report: PushReport, where: str) -> str:
    entry = report.entry
    if report.already_synced:
        return f"already synced: {described(entry)} is in {where}"
    return (
        f"pushed {described(entry)} to {where}: "
        f"{format_size(entry.bytes)} in {counted(report.files, 'file')}, "
        f"{format_size(entry.new_bytes)} new, in {report.seconds:.1f} s"
    )
