"""The JSON files by which a Feldera engine describes its checkpoints.

Numbers are read exactly: a fingerprint uses all of its 64 bits.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ckptsync.errors import SourceError
from ckptsync.sources.faults import explained

CATALOG: Final = "checkpoints.feldera"
ACTIVATED: Final = "activated.feldera"
STATE: Final = "state.json"
CHECKPOINT: Final = "CHECKPOINT"
DEPENDENCIES: Final = "dependencies.json"

_TRACE: Final = "pspine-batches"
_BETWEEN: Final = " \t\r\n,"


def is_batch(path: str) -> bool:
    """Whether that is the name of a batch, at the root."""
    return "/" not in path and path.endswith(".feldera") and path not in (CATALOG, ACTIVATED)


def _batch(name: str) -> str:
    if not is_batch(name) or "\0" in name:
        raise ValueError("not the name of a batch")
    return name


_U64 = Annotated[int, Field(ge=0, lt=2**64)]
_Name = Annotated[str, Field(pattern=r"^[^/\x00]+$")]
_Batch = Annotated[str, AfterValidator(_batch)]  # a name that led elsewhere would be pushed


class _Fields(BaseModel):
    """Fields that are not listed are ignored: newer engines add some."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class State(_Fields):
    """What the engine resumes from."""

    step: _U64 | None = None
    processed_records: _U64 | None = None
    initial_start_time: int | float | str | None = None


class Dependencies(_Fields):
    batches: tuple[_Batch, ...]
    state_files: tuple[_Name, ...] = ()
    """Beside CHECKPOINT; unknown, thus empty, for checkpoints of older engines."""


class _CatalogFields(_Fields):
    uuid: UUID
    fingerprint: _U64
    steps: _U64 | None = None
    processed_records: _U64 | None = None


class _TraceBatches(_Fields):
    files: tuple[_Batch, ...]


_CATALOG: Final = TypeAdapter(tuple[_CatalogFields, ...])
_DEPENDENCIES: Final = TypeAdapter[Dependencies | tuple[_Batch, ...]](
    Dependencies | tuple[_Batch, ...], config=ConfigDict(strict=True)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogEntry:
    id: str
    fingerprint: int
    steps: int | None
    records: int | None
    text: str
    """The entry as the engine wrote it, fields that are not known here included."""


def is_uuid(name: str) -> bool:
    """As the engine writes one: lower case, with hyphens."""
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False


def parse_catalog(data: bytes, where: Path | str) -> tuple[CatalogEntry, ...]:
    """Oldest first, as the engine keeps it. Raises SourceError if it is damaged."""
    with _damaged(where):
        fields = _CATALOG.validate_json(data)
    return tuple(
        CatalogEntry(
            id=str(entry.uuid),
            fingerprint=entry.fingerprint,
            steps=entry.steps,
            records=entry.processed_records,
            text=text,
        )
        for entry, text in zip(fields, _elements(data.decode()), strict=True)
    )


def catalog_of(entries: Iterable[str]) -> bytes:
    """The catalog that lists these entries, each given as text."""
    # A lone surrogate, which a hostile manifest may hold, is for the parser to refuse.
    return f"[{','.join(entries)}]".encode(errors="surrogatepass")


def read_state(folder: Path) -> State:
    """Raises Vanished if there is none, SourceError if it is damaged."""
    path = folder / STATE
    with explained(path, "read"), _damaged(path):
        return State.model_validate_json(path.read_bytes())


def read_dependencies(folder: Path, names: Collection[str]) -> Dependencies:
    """What a checkpoint needs; `names` are those in its folder. Raises Vanished, SourceError."""
    documents: dict[str, bytes] = {}
    for name in dependency_lists(names):
        with explained(folder / name, "read"):
            documents[name] = (folder / name).read_bytes()
    return parse_dependencies(documents, folder)


def dependency_lists(names: Collection[str]) -> tuple[str, ...]:
    """Which files of a checkpoint's folder say what it needs: without a list of its own, traces."""
    if DEPENDENCIES in names:
        return (DEPENDENCIES,)
    return tuple(name for name in names if name.startswith(_TRACE) and "/" not in name)


def parse_dependencies(documents: Mapping[str, bytes], where: Path | str) -> Dependencies:
    """What the files named by `dependency_lists` say. Raises SourceError if one is damaged."""
    batches: list[str] = []
    for name, data in documents.items():
        with _damaged(f"{where}/{name}"):
            if name != DEPENDENCIES:
                batches += _TraceBatches.model_validate_json(data).files
                continue
            found = _DEPENDENCIES.validate_json(data)
            if isinstance(found, Dependencies):
                return found
            batches += found
    return Dependencies(batches=tuple(batches))


def _elements(array: str) -> Iterator[str]:
    """The text of each element of a JSON array that was found valid."""
    decoder, at = json.JSONDecoder(), array.index("[") + 1
    while True:
        while array[at] in _BETWEEN:
            at += 1
        if array[at] == "]":
            return
        end = decoder.raw_decode(array, at)[1]
        yield array[at:end]
        at = end


@contextmanager
def _damaged(path: Path | str) -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise SourceError(
            f"{path} is not as the engine writes it{f', at {where}' if where else ''}: "
            f"{problem['msg']}",
            hint="if the disk was damaged, restore with 'ckptsync pull'",
        ) from error
