"""Checkpoints in the bucket from which no Feldera engine could resume."""

from collections.abc import Set
from dataclasses import replace
from pathlib import Path

import pytest

from ckptsync.errors import IntegrityError
from ckptsync.model import LocalCheckpoint, ignore
from ckptsync.operations.push import push
from ckptsync.sources.feldera import Feldera
from ckptsync.sources.pin import OpenFiles
from ckptsync.stores.memory import MemoryStore
from tests.fakes.feldera_engine import Engine, Sizes, batches_of, resume
from tests.operations.victims import on_disk
from tests.pipelines import Host, snapshot, wanted

SMALL = Sizes(traces=1, new_batches=2, batch_bytes=100, state_bytes=50)


class Forgetful(Feldera):
    """Pins a checkpoint without some of its files, as a defect once might."""

    def __init__(self, root: Path, forgets: Set[str]) -> None:
        super().__init__(root)
        self._forgets = forgets

    def pin(self, checkpoint: LocalCheckpoint) -> OpenFiles:
        id = checkpoint.engine.id
        return OpenFiles(
            self._root,
            checkpoint,
            tree=id,
            loose=[name for name in batches_of(self._root / id) if name[:2] not in self._forgets],
            skip=lambda name: name in self._forgets,
            immutable=True,
        )


@pytest.mark.parametrize(
    ("forgets", "fetched"),
    [
        ({"CHECKPOINT"}, False),
        ({"state.json"}, False),
        ({"dependencies.json", "pspine-batches-0-0000.integral.dat"}, False),
        ({"z1-0-0000.dat"}, True),
        ({"w0", "w1"}, True),
    ],
)
def test_an_unfit_checkpoint_is_an_integrity_error_and_replaces_nothing(
    bucket: MemoryStore, disk: Path, forgets: set[str], fetched: bool
) -> None:
    primary = Host(home=disk / "primary", layout="feldera")
    with Engine(primary.root, seed=1, sizes=SMALL) as engine:
        engine.run(1)
    with primary.running(bucket) as pipeline:
        push(
            replace(pipeline, layout=Forgetful(primary.root, forgets)),
            engine_id=None,
            new_timeline=False,
            progress=ignore,
        )
    victim = Host(home=disk / "victim", layout="feldera")
    with Engine(victim.root, seed=2, sizes=SMALL) as engine:
        engine.run(2)
    before, working, stored = on_disk(victim), resume(victim.root), snapshot(bucket)
    moved: list[int] = []

    for wish in (wanted(force=True), wanted(to=victim.home / "elsewhere")):
        with pytest.raises(IntegrityError) as raised:
            victim.pull(bucket, wish, progress=moved.append)

        assert raised.value.exit_code == 12
        assert raised.value.hint is not None
        assert "--checkpoint" in raised.value.hint
        assert on_disk(victim) == before
        assert resume(victim.root) == working
        assert snapshot(bucket) == stored
        assert not victim.work.exists()
        assert not list(victim.home.glob("*elsewhere*"))
    assert any(moved) == fetched, "what names tell is told before a byte is fetched"
