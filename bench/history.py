"""Push checkpoint after checkpoint in one process, and let days pass for what is retired.

python -m bench.history CONFIG --grow 10000

Every checkpoint is pushed by ckptsync itself. Most of what a push takes where head is full goes
into head; so head is kept short while the history grows, and at the end is given back what it would
hold by then, and the pages that it would name.
"""

import argparse
import os
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from ckptsync import log
from ckptsync.cli.wiring import wire
from ckptsync.config.load import load
from ckptsync.model import ignore
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.push import push
from ckptsync.repository import catalog, pages
from ckptsync.repository import descriptor as descriptors
from ckptsync.repository.head import Entry, Head
from ckptsync.repository.repository import HeadAt, Repository

_PARTS: Final = 4
_PART_SIZE: Final = 2048
_STATE_SIZE: Final = 512
_SHORT: Final = 32
"""Entries of a head that is kept short."""
_LONG_AGO: Final = timedelta(days=2)


def main() -> int:
    options = _parser().parse_args()
    log.configure(json=None, level="error")
    config = load(options.config)
    (name,) = config.pipelines
    with wire(config, name, threading.Event()) as pipeline:
        if options.grow:
            grow(pipeline, options.grow)
        else:
            push_new(pipeline)
            age_retired(pipeline)
    return 0


def push_new(pipeline: Pipeline) -> None:
    """Push a checkpoint of five small files: two of them are new, the others as in the one before.

    The first one has only new files. Nothing is pruned.
    """
    storage = pipeline.storage_path
    before = max(storage.glob("checkpoint-*"), default=None)
    number = 0 if before is None else 1 + int(before.name.rpartition("-")[2])
    now = storage / f"checkpoint-{number:06}"
    if before is None:
        now.mkdir()
    else:
        before.rename(now)
    for part in range(_PARTS) if before is None else [number % _PARTS]:
        (now / f"part-{part}").write_bytes(os.urandom(_PART_SIZE))
    (now / "state").write_bytes(os.urandom(_STATE_SIZE))
    push(pipeline, engine_id=None, new_timeline=False, progress=ignore)


def grow(pipeline: Pipeline, checkpoints: int) -> None:
    """Push so many to an empty bucket, one or two new objects and a manifest each."""
    older: list[Entry] = []
    for pushed in range(1, checkpoints + 1):
        push_new(pipeline)
        if pushed % _SHORT == 0:
            older += _shorten(pipeline)
    _give_back(pipeline, older)


def age_retired(pipeline: Pipeline) -> None:
    """Have what is retired be so for two days, by changing the entries: nobody waits for a day."""
    repository = _repository(pipeline)

    def aged(entry: Entry) -> Entry:
        return entry.model_copy(update={"retired_at": pipeline.store.now() - _LONG_AGO})

    def decide(old: HeadAt) -> Head:
        retired = {each.id for each in repository.entries(old.head) if each.state == "retired"}
        return pages.edited(repository, old.head, retired, aged).head

    _swap(pipeline, decide)


def _shorten(pipeline: Pipeline) -> Sequence[Entry]:
    """Leave nothing but the latest in head; what was before it is returned."""
    before = pipeline.register().read().head.checkpoints
    _swap(pipeline, lambda old: old.head.model_copy(update={"checkpoints": before[-1:]}))
    return before[:-1]


def _give_back(pipeline: Pipeline, older: Sequence[Entry]) -> None:
    hash_ = _repository(pipeline).descriptor.hash

    def decide(old: HeadAt) -> Head:
        whole = (*older, *old.head.checkpoints)
        head = old.head.model_copy(update={"checkpoints": whole})
        while spill := catalog.spill(head, hash_):
            pipeline.store.put(spill.key, spill.data)
            head = spill.head
        return head

    _swap(pipeline, decide)


def _swap(pipeline: Pipeline, decide: Callable[[HeadAt], Head]) -> None:
    pipeline.register().change(decide, as_writer=False, landed=lambda _head: False)


def _repository(pipeline: Pipeline) -> Repository:
    return Repository(store=pipeline.store, descriptor=descriptors.read(pipeline.store))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.history", description=__doc__)
    parser.add_argument("config", type=Path, metavar="CONFIG")
    parser.add_argument(
        "--grow",
        type=int,
        metavar="NUMBER",
        help="to an empty bucket; default: one, and what is retired is so for two days",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
