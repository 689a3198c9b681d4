"""How large a pipeline's checkpoints are, by its last pushes from here. No store is asked."""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from statistics import median_low
from typing import Final

from ckptsync.config.forecast import Sizes
from ckptsync.config.model import Config
from ckptsync.errors import CkptsyncError
from ckptsync.state.database import Database, state_path
from ckptsync.state.history import History, Outcome, Run

_ENOUGH: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    sizes: Sizes
    """Of the last checkpoint, and the median of what was new in the last ones."""
    pushes: int
    """How many these are, from 1 to 20."""


def remembered(config: Config, name: str) -> Remembered | None:
    """None where nothing tells, as where the database may not be read. Creates nothing."""
    bucket = str(config.pipelines[name].sync.bucket)
    path = state_path(config.daemon.state_dir, name, bucket)
    try:
        if not path.is_file():
            return None
        with closing(Database(path)) as database:
            return told(History(database).runs())
    except (CkptsyncError, OSError):
        return None


def told(runs: Sequence[Run]) -> Remembered | None:
    """What runs say, the newest first. A checkpoint that was pushed twice counts once."""
    pushed: dict[str, Sizes] = {}
    for run in runs:
        if run.kind != "push" or run.outcome is not Outcome.DONE or len(pushed) == _ENOUGH:
            continue
        match json.loads(run.details or "{}"):
            case {"checkpoint": {"id": str(id), "bytes": int(whole), "new_bytes": int(new)}}:
                pushed.setdefault(id, Sizes(whole=whole, new=new))
    if not pushed:
        return None
    whole = next(iter(pushed.values())).whole
    # The lower one of two: the first checkpoint of a bucket is all new.
    new = median_low(sizes.new for sizes in pushed.values())
    return Remembered(sizes=Sizes(whole=whole, new=min(new, whole)), pushes=len(pushed))
