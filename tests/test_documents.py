"""What the documents say is held to what the program does, as far as a test can."""

import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from pydantic import BaseModel

from ckptsync import errors
from ckptsync.cli.application import COMMANDS
from ckptsync.config.load import parse
from ckptsync.errors import CkptsyncError
from ckptsync.failure import EXIT_BUG
from ckptsync.model import Role
from ckptsync.repository import catalog, manifest, nodes, packs, paths, untrusted
from ckptsync.repository import descriptor as descriptors
from ckptsync.repository import head as heads
from ckptsync.sources.layouts import GROUP

PROJECT: Final = Path(__file__).parents[1]
README: Final = (PROJECT / "README.md").read_text()
FORMAT: Final = (PROJECT / "docs" / "format.md").read_text()
DOCUMENTS: Final = [*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")]
_DONE_AND_UNNAMED: Final = {0, EXIT_BUG}


def error_classes(kind: type[CkptsyncError] = CkptsyncError) -> Iterator[type[CkptsyncError]]:
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from error_classes(below)


def test_the_readme_has_every_exit_code_and_no_other() -> None:
    table = README.partition("## Exit codes")[2].partition("## ")[0]
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}

    assert documented == {kind.exit_code for kind in error_classes()} | _DONE_AND_UNNAMED


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    drawn = dict(
        re.findall(r"(?:[├└]── |^ {4})(\w+) +(\d+)", inspect.getdoc(errors) or "", re.MULTILINE)
    )
    first = re.search(r"(CkptsyncError) +(\d+)", errors.__doc__ or "")
    assert first is not None
    drawn[first[1]] = first[2]

    assert drawn == {kind.__name__: str(kind.exit_code) for kind in error_classes()}


def test_every_command_is_in_the_readme_and_every_one_there_exists() -> None:
    shown = set(re.findall(r"\$ ckptsync ([\w-]+)", README))

    assert shown <= set(COMMANDS)
    assert {name for name in COMMANDS if f"ckptsync {name}" not in README} == set()


def test_the_configuration_in_the_readme_is_valid() -> None:
    texts = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)

    config = parse("\n".join(texts), PROJECT / "README.md")

    assert config.choose(None) == "orders"
    assert config.pipelines["orders"].hooks.on_activate is not None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text())

    assert [each for each in targets if not (document.parent / each).exists()] == []


def test_the_make_targets_in_the_readme_exist() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    targets = set(re.findall(r"`?make ([a-z-]+)", README))

    assert targets
    assert {
        each for each in targets if not re.search(rf"^{each}:", makefile, re.MULTILINE)
    } == set()


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (heads.LIMIT, "At most 8 MiB."),
        (catalog.STORED_LIMIT, "At most 8 MiB stored and 32 MiB inflated"),
        (manifest.STORED_LIMIT, "At most 256 MiB stored, 1 GiB inflated"),
        (manifest.MAX_FILES, "5,000,000 files"),
        (packs.MAX_FRAME, "an inflated frame is at most 32 MiB"),
        (paths.MAX_PATH, "at most 4,096 bytes"),
        (untrusted.MAX_DEPTH, "nested at most 32 deep"),
        (untrusted.MAX_WINDOW, "whose window is at most 128 MiB"),
        (manifest.HEADER_LIMIT, "all members but the three lists take at most 1 MiB"),
        (manifest.ROW_LIMIT, "a row of a list at most 2 MiB"),
        (manifest.MAX_CHUNKS, "of which there are at most 1,048,576"),
        (packs.MAX_FRAMES, "a pack has at most 65,536 frames"),
        (heads.MAX_PAGE_ENTRIES, "each has at most 1024 entries, and one at least"),
        (catalog.SPILL_ABOVE, "more than 512 entries"),
        (catalog.SPILL, "moves the oldest 256"),
        (nodes.LIMIT, "At most 64 KiB."),
        (int(nodes.FRESH.total_seconds()), "younger than 30 seconds"),
    ],
)
def test_the_limits_in_the_format_are_those_of_the_reader(limit: int, text: str) -> None:
    number = re.search(r"(\d[\d,]*)( KiB| MiB| GiB)?", text)
    assert number is not None
    unit = {" KiB": 1 << 10, " MiB": 1 << 20, " GiB": 1 << 30, None: 1}[number[2]]

    assert text in " ".join(FORMAT.split())
    assert limit == int(number[1].replace(",", "")) * unit


def test_the_format_names_every_member_of_the_records() -> None:
    records: list[type[BaseModel]] = [
        descriptors.Descriptor, heads.Head, heads.Writer, heads.Entry, heads.Timeline,
        heads.Page, heads.CondemnedList, heads.Keep, manifest.Header, manifest.EngineRecord,
        manifest.Totals, nodes.Heartbeat,
    ]  # fmt: skip
    members = {name for record in records for name in record.model_fields}

    assert {name for name in members if not re.search(rf'["`]{name}["`]', FORMAT)} == set()


def test_the_format_names_every_role() -> None:
    heartbeats = FORMAT.partition("## Heartbeats")[2]

    assert [role for role in Role if f"`{role}`" not in heartbeats] == []


def test_the_entry_point_group_is_the_documented_one() -> None:
    text = (PROJECT / "docs" / "adding-a-layout.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)

    assert GROUP in tomllib.loads(example)["project"]["entry-points"]
