"""The JSON files by which a Feldera engine describes its checkpoints.

Numbers are read exactly: a fingerprint uses all of its 64 bits.
"""

import json
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ckptsync.errors import SourceError
from ckptsync.sources.faults import explained

CATALOG: Final = "checkpoints.feldera"
STATE: Final = "state.json"
CHECKPOINT: Final = "CHECKPOINT"
DEPENDENCIES: Final = "dependencies.json"

_TRACE: Final = "pspine-batches"
_BETWEEN: Final = " \t\r\n,"
_U64 = Annotated[int, Field(ge=0, lt=2**64)]
_Name = Annotated[str, Field(pattern=r"^[^/\x00]+$")]  # a name that led elsewhere would be pushed


class _Fields(BaseModel):
    """Fields that are not listed are ignored: newer engines add some."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class State(_Fields):
    """What the engine resumes from."""

    step: _U64 | None = None
    processed_records: _U64 | None = None
    initial_start_time: int | float | str | None = None


class Dependencies(_Fields):
    batches: tuple[_Name, ...]
    state_files: tuple[_Name, ...] = ()
    """Beside CHECKPOINT; unknown, thus empty, for checkpoints of older engines."""


class _CatalogFields(_Fields):
    uuid: UUID
    fingerprint: _U64
    steps: _U64 | None = None
    processed_records: _U64 | None = None


class _TraceBatches(_Fields):
    files: tuple[_Name, ...]


_CATALOG: Final = TypeAdapter(tuple[_CatalogFields, ...])
_DEPENDENCIES: Final = TypeAdapter[Dependencies | tuple[_Name, ...]](
    Dependencies | tuple[_Name, ...], config=ConfigDict(strict=True)
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
    """What a checkpoint needs; `names` are those in its folder.

    Without a list of its own, that is what its traces name. Raises Vanished, SourceError.
    """
    if DEPENDENCIES not in names:
        traces = [folder / name for name in names if name.startswith(_TRACE)]
        return Dependencies(batches=tuple(batch for path in traces for batch in _batches(path)))
    path = folder / DEPENDENCIES
    with explained(path, "read"), _damaged(path):
        found = _DEPENDENCIES.validate_json(path.read_bytes())
    return found if isinstance(found, Dependencies) else Dependencies(batches=found)


def _batches(path: Path) -> tuple[str, ...]:
    with explained(path, "read"), _damaged(path):
        return _TraceBatches.model_validate_json(path.read_bytes()).files


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
