"""What was run on this node, in a phrase."""

import json
from collections.abc import Mapping
from typing import Any

from ckptsync.cli.wording import counted
from ckptsync.state.history import Run
from ckptsync.units import format_size


def outcome(run: Run) -> str | None:
    """What a run came to beyond its outcome, by the document that it left; None if that is all."""
    match json.loads(run.details or "{}"):
        case {"error": {"message": message}}:
            return str(message)
        case {"outcome": "pulled", "checkpoint": {"id": id}, "target": target}:
            return f"{id} to {target}"
        case {"outcome": "kept", "checkpoint": {"engine_id": id}}:
            return f"kept local checkpoint {id}"
        case {"outcome": "fresh"}:
            return "found no checkpoint, changed nothing"
        case {"already_synced": already, "checkpoint": {"id": id}}:
            return f"{id} was there already" if already else str(id)
        case {"role": role, "epoch": epoch, "checkpoint": checkpoint}:
            return f"{role} at epoch {epoch}, goes on from {checkpoint or 'nothing'}"
        case {"node": node, "epoch": epoch}:
            return f"{node} took over at epoch {epoch}"
        case {"quarantine": str(quarantine)}:
            return f"what was here is in {quarantine}"
        case {"epoch": epoch, "checkpoints": int(checkpoints)}:
            return f"head names {counted(checkpoints, 'checkpoint')} at epoch {epoch}"
        case {"epoch": epoch, "latest": latest}:
            return f"goes on from {latest or 'nothing'} at epoch {epoch}"
        case {"left_to_others": True}:
            return "left to a node that may delete"
        case {"retired": [*_], "revived": [*_], "forgotten": [*_]} as document:
            return _pruned(document)
        case {"name": name, "checkpoint": {"id": id}, "already": already}:
            return f"{id} {'was' if already else 'is'} kept as '{name}'"
        case {"name": name, "checkpoint": None, "already": True}:
            return f"there was no keep '{name}'"
        case {"name": name, "checkpoint": str(id), "already": False}:
            return f"'{name}' no longer keeps {id}"
        case _:
            return None


def _pruned(document: Mapping[str, Any]) -> str:
    moved = {
        "retired": document["retired"],
        "brought back": document["revived"],
        "forgot": document["forgotten"],
    }
    parts = [f"{verb} {len(which):,}" for verb, which in moved.items() if which]
    deleted = document.get("deleted_objects")
    if deleted:
        size = format_size(document.get("deleted_bytes", 0))
        parts.append(f"deleted {counted(deleted, 'object')} ({size})")
    return ", ".join(parts) or "there was nothing to prune"
