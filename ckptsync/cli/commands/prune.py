"""ckptsync prune"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import click

from ckptsync.cli import ask, previewing
from ckptsync.cli.answer import Answer
from ckptsync.cli.invocation import Invocation, json_option, pipeline_argument
from ckptsync.cli.wording import counted
from ckptsync.errors import NothingToDo
from ckptsync.failure import Failure
from ckptsync.operations.indexing import READER_GRACE
from ckptsync.operations.orders import Prune
from ckptsync.units import format_duration, format_size

_DONE: Final = ("retired", "revived", "forgotten", "deleted_objects")


@click.command("prune")
@pipeline_argument
@click.option(
    "-n", "--dry-run", is_flag=True, help="Show every checkpoint, and what would become of it."
)
@click.option(
    "--orphans",
    is_flag=True,
    help="Look through the whole bucket for what nothing refers to, as is else done once a day.",
)
@click.option("--bad", is_flag=True, help="Forget the checkpoints that were found damaged, too.")
@click.option(
    "--yes",
    is_flag=True,
    help="Although much would go that did not go before, or that nothing explains.",
)
@click.option("--error-if-none", is_flag=True, help="Exit with 4 if there is nothing to prune.")
@json_option
@click.pass_obj
def command(
    invocation: Invocation,
    name: str | None,
    dry_run: bool,
    orphans: bool,
    bad: bool,
    yes: bool,
    error_if_none: bool,
) -> Answer:
    """Delete the checkpoints that no rule keeps any more.

    What retention_min_count, retention_min_age and 'retention' do not keep is retired. It can be
    pulled for a day more, and 'ckptsync keep' brings it back; after that it is forgotten, and
    what only it needed is deleted. A primary does this after every push; any other node may, too.
    """
    if dry_run and orphans:
        raise click.UsageError("--dry-run goes without --orphans: it lists no objects")
    config = invocation.config()
    name = config.choose(name)
    if dry_run:
        return previewing.answer(
            invocation, config, name, bad=bad, insist=yes, error_if_none=error_if_none
        )
    document = ask.carry_out(invocation, config, name, Prune(orphans=orphans, bad=bad, insist=yes))
    nothing = not any(document[each] for each in _DONE)
    return Answer(
        document=document,
        lines=lambda: lines(document),
        verdict=Failure.of(NothingToDo(f"there was nothing to prune in {document['bucket']}"))
        if nothing and error_if_none
        else None,
    )


def lines(document: Mapping[str, Any]) -> Iterator[str]:
    """What a prune came to, by its document."""
    if any(document[each] for each in _DONE):
        yield _done(document)
    else:
        yield _nothing(document)
    found = document["orphans"]
    if found is not None:
        yield _found(found)


def _done(document: Mapping[str, Any]) -> str:
    they_go = "it goes" if len(document["retired"]) == 1 else "they go"
    grace = f" ({they_go} in {format_duration(READER_GRACE)} unless kept)"
    parts: list[str] = []
    for key, verb, remark in (
        ("retired", "retired", grace),
        ("revived", "brought back", ""),
        ("forgotten", "forgot", ""),
    ):
        if number := len(document[key]):
            what = str(number) if parts else counted(number, "checkpoint")
            parts.append(f"{verb} {what}{remark}")
    if document["deleted_objects"]:
        objects = counted(document["deleted_objects"], "object")
        size = format_size(document["deleted_bytes"])
        parts.append(f"deleted {objects} ({size}) from {document['bucket']}")
    else:
        parts[-1] += f" in {document['bucket']}"
    return f"{', '.join(parts)}, in {document['seconds']:.1f} s"


def _nothing(document: Mapping[str, Any]) -> str:
    kept, retired = document["kept"], document["retired_now"]
    those = f"{counted(kept, 'checkpoint')} {'is' if kept == 1 else 'are'} kept"
    waiting = f", {retired} {'is' if retired == 1 else 'are'} retired" if retired else ""
    return f"nothing to prune in {document['bucket']}: {those}{waiting}"


def _found(orphans: Mapping[str, Any]) -> str:
    """What a listing found that nothing refers to."""
    number, young = orphans["objects"], orphans["young_objects"]
    size, young_size = format_size(orphans["bytes"]), format_size(orphans["young_bytes"])
    are, stay = ("is", "stays") if young == 1 else ("are", "stay")
    if number:
        told = f"found {counted(number, 'object')} ({size}) that nothing refers to"
        more = f"; {young} more ({young_size}) {are} less than a day old, and {stay} for now"
    else:
        told = "found nothing that no checkpoint refers to"
        few = counted(young, "object")
        more = f", but for {few} ({young_size}) less than a day old, which {stay} for now"
    return told + more if young else told
