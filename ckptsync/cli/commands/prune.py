"""ckptsync prune"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import click

from ckptsync.cli import ask, previewing
from ckptsync.cli.answer import Answer
from ckptsync.cli.invocation import Invocation, json_option, pipeline_argument
from ckptsync.cli.wording import counted, orphaned
from ckptsync.errors import NothingToDo
from ckptsync.failure import Failure
from ckptsync.operations.indexing import READER_GRACE
from ckptsync.operations.orders import Prune
from ckptsync.units import format_duration, format_size

_DONE: Final = ("retired", "revived", "forgotten", "deleted_objects")


@click.command("prune")
@pipeline_argument
@click.option(
    "-n",
    "--dry-run",
    is_flag=True,
    help="Show every checkpoint and what would become of it, and change nothing.",
)
@click.option(
    "--orphans",
    is_flag=True,
    help="Look through the whole bucket for what nothing refers to, as is else done once a day.",
)
@click.option(
    "--bad",
    is_flag=True,
    help="Forget what is marked damaged, too; nothing marks a checkpoint so yet.",
)
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
    config = invocation.config()
    name = config.choose(name)
    order = Prune(orphans=orphans, bad=bad, insist=yes)
    if dry_run:
        return previewing.answer(invocation, config, name, order, error_if_none=error_if_none)
    document = ask.carry_out(invocation, config, name, order)
    if error_if_none and not _is_done(document):
        told = Failure.of(NothingToDo(f"there was {_nothing(document)}"))
        return Answer(document=document, lines=lambda: _besides(document), verdict=told)
    return Answer(document=document, lines=lambda: lines(document))


def lines(document: Mapping[str, Any]) -> Iterator[str]:
    """What a prune came to, by its document."""
    yield _done(document) if _is_done(document) else _nothing(document)
    yield from _besides(document)


def _is_done(document: Mapping[str, Any]) -> bool:
    return any(document[each] for each in _DONE)


def _besides(document: Mapping[str, Any]) -> Iterator[str]:
    found = document["orphans"]
    if found is not None:
        yield orphaned(found)


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
            what = f"{number:,}" if parts else counted(number, "checkpoint")
            parts.append(f"{verb} {what}{remark}")
    if document["deleted_objects"]:
        objects = counted(document["deleted_objects"], "object")
        size = format_size(document["deleted_bytes"])
        parts.append(f"deleted {objects} ({size}) from {document['bucket']}")
    else:
        parts[-1] += f" in {document['bucket']}"
    return f"{', '.join(parts)}, in {document['seconds']:.1f} s"


def _nothing(document: Mapping[str, Any]) -> str:
    kept, retired, bad = (document[each] for each in ("kept", "retired_now", "bad_now"))
    parts = [f"{counted(kept, 'checkpoint')} {_are(kept)} kept"]
    if retired:
        parts.append(f"{retired:,} {_are(retired)} retired")
    if bad:
        parts.append(f"{bad:,} {_are(bad)} marked damaged (see --bad)")
    return f"nothing to prune in {document['bucket']}: {', '.join(parts)}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
