"""ckptsync list"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import click

from ckptsync.cli import wiring
from ckptsync.cli.answer import Answer
from ckptsync.cli.invocation import Invocation, json_option, pipeline_argument
from ckptsync.cli.tables import table
from ckptsync.cli.wording import state
from ckptsync.model import LocalCheckpoint
from ckptsync.operations import documents
from ckptsync.operations.listing import (
    Row,
    Stored,
    local_checkpoints,
    local_sizes,
    side_by_side,
    stored,
)
from ckptsync.repository.head import Entry
from ckptsync.units import format_age, format_size

_HEADINGS = ("CHECKPOINT", "ENGINE ID", "STEP", "RECORDS", "SIZE", "NEW", "AGE", "WHERE", "STATE")


@click.command("list")
@pipeline_argument
@click.option("--local", is_flag=True, help="Only those on the local disk; no bucket is asked.")
@click.option("--remote", is_flag=True, help="Only those in the bucket.")
@json_option
@click.pass_obj
def command(invocation: Invocation, name: str | None, local: bool, remote: bool) -> Answer:
    """List local checkpoints and those in the bucket, side by side.

    The newest come first. "latest" marks the one that a pull takes; what is retired is about to
    be deleted, and can be pulled or kept until then. While the bucket is empty, those in
    read_bucket are shown.
    """
    config = invocation.config()
    name = config.choose(name)
    storage = config.pipelines[name].storage_path
    everywhere = local == remote
    layout = wiring.local_layout(config, name)
    here: Sequence[LocalCheckpoint] = ()
    found: Stored | None = None
    if local or everywhere:
        here = local_checkpoints(layout, storage)
    if remote or everywhere:
        with wiring.wire(config, name, invocation.stop, reading=True) as pipeline:
            found = stored(pipeline)
    rows = side_by_side(here, found, sizes=partial(local_sizes, layout, storage))
    return Answer(
        document={
            "pipeline": name,
            "storage_path": str(storage),
            "bucket": None if found is None else found.name,
            "checkpoints": [_document(row) for row in rows],
        },
        lines=lambda: _lines(rows),
    )


def _document(row: Row) -> Mapping[str, Any]:
    return {
        **documents.checkpoint(row.checkpoint),
        "retired_at": _retired_at(row.checkpoint),
        "bytes": row.bytes,
        "where": row.where,
        "latest": row.latest,
        "keeps": list(row.keeps),
    }


def _retired_at(of: Entry | LocalCheckpoint) -> str | None:
    at = of.retired_at if isinstance(of, Entry) else None
    return None if at is None else documents.time(at)


def _lines(rows: Sequence[Row]) -> Sequence[str]:
    if not rows:
        return ["no checkpoints"]
    now = datetime.now(UTC)
    return table(_HEADINGS, [_cells(row, now) for row in rows])


def _cells(row: Row, now: datetime) -> Sequence[str]:
    known = _document(row)

    def shown(key: str) -> str:
        return "-" if known[key] is None else str(known[key])

    def size(key: str) -> str:
        return "-" if known[key] is None else format_size(known[key])

    return (
        shown("id"),
        shown("engine_id"),
        shown("step"),
        shown("records"),
        size("bytes"),
        size("new_bytes"),
        format_age(now - datetime.fromisoformat(known["at"])),
        known["where"],
        state(shown("state"), latest=row.latest, keeps=row.keeps),
    )
