"""The names of objects in a repository. No name is ever used twice."""

import re
import secrets
from typing import Final

from ckptsync.model import CheckpointId

DESCRIPTOR: Final = "ckptsync.json"
HEAD: Final = "head.json"
RECOVER: Final = "RECOVER.md"
MANIFESTS: Final = "manifests/"
CHUNKS: Final = "chunks/"
PACKS: Final = "packs/"
CATALOG: Final = "catalog/"
CONDEMNED: Final = "condemned/"

_CHECKPOINT = r"[0-9a-f]{4}-[0-9a-f]{8}-[0-9a-f]{12}"
CHECKPOINT_PATTERN: Final = re.compile(_CHECKPOINT)
DATA_PATTERN: Final = re.compile(
    r"chunks/([0-9a-f]{2})/\1[0-9a-f]{30}|packs/([0-9a-f]{2})/\2[0-9a-f]{30}\.tar\.zst"
)
CATALOG_PATTERN: Final = re.compile(rf"{CATALOG}[0-9a-f]{{32}}\.json\.zst")
CONDEMNED_PATTERN: Final = re.compile(rf"{CONDEMNED}([0-9]{{1,19}})-[0-9a-f]{{32}}\.json\.zst")
"""The first group is the generation."""


def chunk() -> str:
    name = secrets.token_hex(16)
    return f"{CHUNKS}{name[:2]}/{name}"


def pack() -> str:
    name = secrets.token_hex(16)
    return f"{PACKS}{name[:2]}/{name}.tar.zst"


def catalog() -> str:
    return f"{CATALOG}{secrets.token_hex(16)}.json.zst"


def condemned(generation: int) -> str:
    return f"{CONDEMNED}{generation}-{secrets.token_hex(16)}.json.zst"


def manifest(checkpoint: CheckpointId) -> str:
    return f"{MANIFESTS}{checkpoint}.json.zst"


def checkpoint_of(manifest_key: str) -> CheckpointId | None:
    """The checkpoint whose manifest has this key; None if no manifest has."""
    name = CheckpointId(manifest_key.removeprefix(MANIFESTS).removesuffix(".json.zst"))
    known = CHECKPOINT_PATTERN.fullmatch(name) and manifest(name) == manifest_key
    return name if known else None


def checkpoint(*, timeline: int, seq: int) -> CheckpointId:
    """Mint an id. Two calls never give the same one, whatever the timeline and seq."""
    return CheckpointId(f"{timeline:04x}-{seq:08x}-{secrets.token_hex(6)}")


def timeline(checkpoint: CheckpointId) -> int:
    """The timeline that an id was minted for."""
    return int(checkpoint.split("-")[0], 16)


def seq(checkpoint: CheckpointId) -> int:
    """The sequence number that an id was minted with."""
    return int(checkpoint.split("-")[1], 16)
