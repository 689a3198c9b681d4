"""Looking at a bucket as a node that has seen it before."""

from ckptsync.repository.register import head_lost
from ckptsync.repository.repository import Empty, HeadAt, Repository, look
from ckptsync.state.identity import Remembered
from ckptsync.stores.base import ObjectStore


def look_again(store: ObjectStore, me: Remembered) -> tuple[Repository, HeadAt] | Empty:
    """As `look` does; a bucket that was not empty when this node last saw it is not empty now.

    Raises HeadLost then, and what `look` raises.
    """
    found = look(store)
    if isinstance(found, Empty) and found.head is None and me.revision:
        raise head_lost(store.name, me)
    return found
