"""An engine that writes and deletes as fast as it can, and a push that must keep up with it.

CKPTSYNC_FIRE=5000 pushes that many checkpoints instead.
"""

import os
import shutil
import threading
from contextlib import suppress
from dataclasses import replace
from typing import Final

import pytest

from ckptsync.errors import Busy, CheckpointNotFound
from ckptsync.model import ignore
from ckptsync.operations.push import push
from ckptsync.stores.memory import MemoryStore
from tests.fakes import feldera_engine
from tests.fakes.feldera_engine import Engine, Sizes
from tests.operations.invariants import require_sound
from tests.pipelines import Host, wanted

_PUSHED: Final = int(os.environ.get("CKPTSYNC_FIRE", "2000"))
_WRITTEN: Final = 5000
_SIZES: Final = Sizes(traces=1, new_batches=2, batch_bytes=6000, state_bytes=200, merge_at=6)


@pytest.mark.timeout(60 + _PUSHED)
def test_whatever_is_committed_is_exactly_what_an_engine_once_wrote(
    host: Host, bucket: MemoryStore
) -> None:
    host = replace(host, layout="feldera")
    stop = threading.Event()
    with Engine(host.root, seed=42, sizes=_SIZES) as engine:
        writer = threading.Thread(target=engine.run, args=(10**9,), kwargs={"stop": stop.is_set})
        writer.start()
        try:
            pushed = _push_until(host, bucket, engine)
        finally:
            stop.set()
            writer.join()

    assert len(engine.written) >= _WRITTEN
    seen = require_sound(bucket)
    assert seen is not None
    assert list(seen.engine_ids) == pushed, "each committed once, in the order of the pushes"
    reader = Host(home=host.home / "reader", layout="feldera")
    for id in pushed:
        reader.restore(bucket, wanted(id))
        resumed = feldera_engine.resume(reader.root)
        assert resumed is not None
        assert resumed.uuid == id
        assert feldera_engine.contents(reader.root, id) == engine.written[id]
        shutil.rmtree(reader.root)


def _push_until(host: Host, bucket: MemoryStore, engine: Engine) -> list[str]:
    pushed: list[str] = []
    with host.running(bucket) as pipeline:
        while len(pushed) < _PUSHED or len(engine.written) < _WRITTEN:
            # Busy: ten checkpoints in a row were deleted before all their files were open.
            with suppress(Busy, CheckpointNotFound):
                report = push(pipeline, engine_id=None, new_timeline=False, progress=ignore)
                if not report.already_synced:
                    pushed.append(report.entry.engine_id)
    return pushed
