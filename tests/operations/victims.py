"""Hosts that pull what they should not get."""

from typing import Any

import pytest

from ckptsync.errors import (
    CkptsyncError,
)
from ckptsync.model import ignore
from ckptsync.stores.memory import MemoryStore
from tests.operations.standbys import standing_by
from tests.pipelines import (
    Host,
    contents,
    snapshot,
    wanted,
)


def on_disk(host: Host) -> dict[str, Any]:
    """All but our own database, and the directories that hold nothing."""
    if not host.home.exists():
        return {}
    return {
        path: value
        for path, value in contents(host.home).items()
        if not path.startswith("state.sqlite") and not path.endswith("/")
    }


def require_refused(
    host: Host, store: MemoryStore, kinds: type[CkptsyncError] | tuple[type[CkptsyncError], ...]
) -> CkptsyncError:
    """A pull into the storage and one elsewhere raise, and change neither disk nor bucket.

    So does a poll, which may keep what it found to be sound.
    """
    host.checkpoint("ckpt-0", {"mine": b"mine"})
    disk, stored = on_disk(host), snapshot(store)
    raised: list[CkptsyncError] = []
    for wish in (wanted(force=True), wanted(to=host.home / "elsewhere")):
        with pytest.raises(kinds) as caught:
            host.pull(store, wish)
        raised.append(caught.value)
        assert on_disk(host) == disk
        assert snapshot(store) == stored
        assert not list(host.home.glob("*elsewhere*"))
    with standing_by(host, store) as standby:
        with pytest.raises(kinds):
            standby.poll(progress=ignore)
        assert standby.newest() is None
        standby.clear()
    assert on_disk(host) == disk
    assert snapshot(store) == stored
    return raised[0]
