"""ckptsync show"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import click

from ckptsync.cli import wiring
from ckptsync.cli.answer import Answer
from ckptsync.cli.invocation import Invocation, json_option, pipeline_argument
from ckptsync.cli.tables import facts
from ckptsync.cli.wording import counted, moment, state
from ckptsync.operations import documents
from ckptsync.operations.documents import time
from ckptsync.operations.listing import Details, details
from ckptsync.repository.files import FileEntry
from ckptsync.units import format_age, format_size

_DAMAGED_SHOWN: Final = 10


@click.command("show")
@click.argument("checkpoint", metavar="latest|ID")
@pipeline_argument
@click.option("--files", is_flag=True, help="List every file.")
@json_option
@click.pass_obj
def command(invocation: Invocation, checkpoint: str, name: str | None, files: bool) -> Answer:
    """Show what one checkpoint in the bucket holds.

    ID is the checkpoint's or the engine's.
    """
    config = invocation.config()
    name = config.choose(name)
    with wiring.wire(config, name, invocation.stop, reading=True) as pipeline:
        found = details(pipeline, checkpoint)
    wanted = files and invocation.json  # a million may be made for nothing
    listed = {"files": [_file(each) for each in found.manifest.files]} if wanted else {}
    return Answer(
        document={
            "pipeline": name,
            "bucket": found.source,
            "checkpoint": _document(found),
            **listed,
        },
        lines=lambda: _lines(found, files=files),
    )


def _document(found: Details) -> Mapping[str, Any]:
    header = found.manifest.header
    engine = header.engine
    return {
        **documents.checkpoint(found.entry),
        "latest": found.entry.id == found.head.latest,
        "retired_at": None if found.entry.retired_at is None else time(found.entry.retired_at),
        "keeps": list(found.keeps),
        "parent": header.parent,
        "pushed_by": header.writer.node,
        "pushed_with": header.writer.version,
        "damaged": list(found.entry.damaged),
        "layout": engine.layout,
        "fingerprint": engine.fingerprint,
        "lineage": engine.lineage,
        "platform_version": engine.platform_version,
        "files": header.totals.files,
        "objects": header.totals.objects,
        "manifest_bytes": found.entry.manifest.size,
    }


def _file(file: FileEntry) -> Mapping[str, Any]:
    return {
        "path": file.path,
        "bytes": file.size,
        "mode": f"{file.mode:04o}",
        "mtime_ns": str(file.mtime_ns),
        "digest": file.digest.hex(),
    }


def _lines(found: Details, *, files: bool) -> Iterator[str]:
    yield from facts(f"{found.entry.id} in {found.source}", _facts(found))
    if not files:
        return
    yield ""
    width = max((len(str(file.size)) for file in found.manifest.files), default=0)
    for file in found.manifest.files:
        yield f"{file.mode:04o}  {file.size:>{width}}  {file.digest.hex()[:16]}  {file.path}"


def _facts(found: Details) -> Iterator[tuple[str, str]]:
    entry, header = found.entry, found.manifest.header
    latest = entry.id == found.head.latest
    yield "state", state(entry.state, latest=latest, keeps=found.keeps)
    if entry.retired_at is not None:
        yield "retired", _ago(entry.retired_at)
    yield "committed", _ago(entry.at)
    yield "timeline", f"{entry.timeline}, epoch {entry.epoch}"
    yield "parent", header.parent or "none"
    yield "pushed by", f"{header.writer.node}, {header.writer.version}"
    yield "engine id", f"{entry.engine_id} (layout {header.engine.layout})"
    yield "step", entry.step
    for name in ("records", "fingerprint", "lineage", "platform_version"):
        value = getattr(header.engine, name)
        if value is not None:
            yield name.replace("_", " "), value
    yield "size", f"{format_size(entry.bytes)} in {counted(header.totals.files, 'file')}"
    yield "new", f"{format_size(entry.new_bytes)} that the checkpoint before did not have"
    yield (
        "objects",
        f"{header.totals.objects:,}, and a manifest of {format_size(entry.manifest.size)}",
    )
    yield from (("damaged", value) for value in _damaged(entry.damaged))


def _ago(at: datetime) -> str:
    return f"{moment(at)} ({format_age(datetime.now(UTC) - at)})"


def _damaged(keys: Sequence[str]) -> Iterator[str]:
    yield from keys[:_DAMAGED_SHOWN]
    if len(keys) > _DAMAGED_SHOWN:
        yield f"and {len(keys) - _DAMAGED_SHOWN} more: --json names all"
