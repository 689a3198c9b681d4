"""A standby that follows an engine for long: at any time it could go on from the newest.

CKPTSYNC_POLLS=200 polls that many checkpoints of each kind instead.
"""

import os
import shutil
from collections import Counter
from dataclasses import replace
from typing import Final

import pytest

from ckptsync.model import ignore
from ckptsync.stores.memory import MemoryStore
from tests.fakes import feldera_engine
from tests.fakes.feldera_engine import Engine, Sizes
from tests.fakes.stores import FaultyStore
from tests.operations.standbys import activated_copy, asked, fetched, require_ready, standing_by
from tests.pipelines import PACK_BELOW, Host, contents, noise

_POLLS: Final = int(os.environ.get("CKPTSYNC_POLLS", "40"))
_A_LIFE: Final = 9
"""Checkpoints that one process of the standby sees."""


@pytest.mark.timeout(60 + _POLLS)
def test_each_checkpoint_of_an_engine_could_be_resumed_from(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    host, other = replace(host, layout="feldera"), replace(other, layout="feldera")
    sizes = Sizes(traces=2, new_batches=2, batch_bytes=6000, state_bytes=300, merge_at=6)
    store, reads, seen = FaultyStore(bucket), Counter[str](), 0
    with Engine(host.root, seed=11, sizes=sizes) as engine:
        while seen < _POLLS:
            with standing_by(other, store) as standby:
                for _ in range(_A_LIFE):
                    id = engine.checkpoint()
                    entry = host.push(bucket).entry
                    asked(store)

                    polled = standby.poll(progress=ignore)

                    assert polled.staged is not None
                    assert polled.staged.entry == entry
                    reads.update(fetched(asked(store)))
                    with activated_copy(other) as (copy, _):
                        resumed = feldera_engine.resume(copy.root)
                        assert resumed is not None
                        assert resumed.uuid == id
                        assert resumed.journal == ()
                        assert feldera_engine.contents(copy.root, id) == engine.written[id]
                    seen += 1
    assert not other.root.exists()
    chunks = {key: times for key, times in reads.items() if "chunks/" in key}
    assert len(chunks) > _POLLS
    assert set(chunks.values()) == {1}, "a batch that checkpoints share was fetched twice"


@pytest.mark.timeout(60 + _POLLS)
def test_each_checkpoint_of_a_database_that_compacts_could_be_opened(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    """Immutable tables come and go, and all of them lie in a directory of another name."""
    store, tables, seen = FaultyStore(bucket), list[int](), 0
    while seen < _POLLS:
        with standing_by(other, store) as standby:
            for _ in range(_A_LIFE):
                tables.append(seen)
                if seen % 7 == 6:
                    tables = tables[3:]  # compacted
                files = {f"{table:06}.sst": noise(PACK_BELOW + table, table) for table in tables}
                name = f"ckpt-{seen}"
                top = host.checkpoint(name, {**files, "CURRENT": name.encode()})
                host.push(bucket)
                asked(store)

                standby.poll(progress=ignore)

                assert len(fetched(asked(store))) <= 2, "the new table, and a pack"
                require_ready(other, name, contents(top))
                shutil.rmtree(top)
                seen += 1
