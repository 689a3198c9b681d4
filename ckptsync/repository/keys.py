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
CONDEMNED: Final = "condemned/"

_CHECKPOINT = r"[0-9a-f]{4}-[0-9a-f]{8}-[0-9a-f]{12}"
CHECKPOINT_PATTERN: Final = re.compile(_CHECKPOINT)
DATA_PATTERN: Final = re.compile(
    r"chunks/([0-9a-f]{2})/\1[0-9a-f]{30}|packs/([0-9a-f]{2})/\2[0-9a-f]{30}\.tar\.zst"
)


def chunk() -> str:
    name = secrets.token_hex(16)
    return f"{CHUNKS}{name[:2]}/{name}"


def pack() -> str:
    name = secrets.token_hex(16)
    return f"{PACKS}{name[:2]}/{name}.tar.zst"


def catalog() -> str:
    return f"catalog/{secrets.token_hex(16)}.json.zst"


def manifest(checkpoint: CheckpointId) -> str:
    return f"{MANIFESTS}{checkpoint}.json.zst"


def checkpoint(*, timeline: int, seq: int) -> CheckpointId:
    """Mint an id. Two calls never give the same one, whatever the timeline and seq."""
    return CheckpointId(f"{timeline:04x}-{seq:08x}-{secrets.token_hex(6)}")


def timeline(checkpoint: CheckpointId) -> int:
    """The timeline that an id was minted for."""
    return int(checkpoint.split("-")[0], 16)


def seq(checkpoint: CheckpointId) -> int:
    """The sequence number that an id was minted with."""
    return int(checkpoint.split("-")[1], 16)
