"""ckptsync pull"""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, assert_never

import click

from ckptsync.cli import documents, wiring
from ckptsync.cli.answer import Answer, Failure
from ckptsync.cli.invocation import Invocation, json_option, pipeline_argument
from ckptsync.cli.progress import bar
from ckptsync.cli.recorded import recorded
from ckptsync.cli.wording import described
from ckptsync.errors import NothingToDo
from ckptsync.operations.pull import PullReport, Restored, Wish, pull
from ckptsync.operations.resolve import LATEST, Fresh, Kept
from ckptsync.units import format_size

_NOTHING: Final[Mapping[str, Any]] = {
    "outcome": None,
    "checkpoint": None,
    "source": None,
    "target": None,
    "fetched_bytes": 0,
    "seconds": None,
    "searched": [],
}
"""Every key is there, whatever the outcome."""


@click.command("pull")
@pipeline_argument
@click.option(
    "--checkpoint",
    metavar="latest|ID",
    help="The one to pull, by its id or the engine's; a local checkpoint does not do then.",
)
@click.option(
    "--to",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Pull into a new directory, not into the pipeline's storage.",
)
@click.option("--force", is_flag=True, help="Put aside a local checkpoint that was never pushed.")
@click.option(
    "--engine-stopped",
    is_flag=True,
    help="Your word that no engine runs there, where the layout cannot tell.",
)
@click.option("--error-if-none", is_flag=True, help="Exit with 4 if there is no checkpoint.")
@json_option
@click.pass_obj
def command(
    invocation: Invocation,
    name: str | None,
    checkpoint: str | None,
    to: Path | None,
    force: bool,
    engine_stopped: bool,
    error_if_none: bool,
) -> Answer:
    """Pull a checkpoint from the bucket.

    It is verified, then appears whole or not at all. A local checkpoint is kept unless one is
    asked for with --checkpoint, or --to says where else to put it.
    """
    config = invocation.config()
    name = config.choose(name)
    sync = config.pipelines[name].sync
    wish = Wish(
        checkpoint=checkpoint or sync.start_from_checkpoint or LATEST,
        explicit=checkpoint is not None or to is not None,
        to=to,
        force=force,
        engine_stopped=engine_stopped,
        required=sync.fail_if_no_checkpoint,
    )
    with ExitStack() as held:
        if to is None:
            held.enter_context(wiring.lock(config, name))
        pipeline = held.enter_context(
            wiring.wire(config, name, invocation.stop, reading=to is not None)
        )
        record = held.enter_context(recorded(pipeline, "pull"))
        with bar(f"pull {name}") as progress:
            report = pull(pipeline, wish, progress=progress)
        document = _document(report)
        record(document)
    return Answer(
        document={"pipeline": name, **document},
        lines=lambda: [_line(report, name)],
        verdict=Failure.of(NothingToDo("there is no checkpoint to pull"))
        if isinstance(report, Fresh) and error_if_none
        else None,
    )


def _document(report: PullReport) -> Mapping[str, Any]:
    outcome: Mapping[str, Any]
    match report:
        case Restored():
            outcome = {
                "outcome": "pulled",
                "checkpoint": documents.checkpoint(report.entry),
                "source": report.source,
                "target": str(report.target),
                "fetched_bytes": report.fetched,
                "seconds": round(report.seconds, 3),
            }
        case Kept():
            outcome = {"outcome": "kept", "checkpoint": documents.checkpoint(report.checkpoint)}
        case Fresh():
            outcome = {"outcome": "fresh", "searched": list(report.searched)}
        case _:
            assert_never(report)
    return {**_NOTHING, **outcome}


def _line(report: PullReport, name: str) -> str:
    match report:
        case Restored():
            return (
                f"pulled {described(report.entry)} from {report.source} to {report.target}: "
                f"{format_size(report.entry.bytes)}, {format_size(report.fetched)} fetched, "
                f"in {report.seconds:.1f} s"
            )
        case Kept():
            engine = report.checkpoint.engine
            return (
                f"kept local checkpoint {engine.id} (step {engine.step}); to have the bucket's "
                f"in its place: ckptsync pull {name} --checkpoint latest"
            )
        case Fresh():
            return f"no checkpoint found in {' or '.join(report.searched)}; nothing was changed"
        case _:
            assert_never(report)
