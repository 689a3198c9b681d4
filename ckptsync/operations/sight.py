"""A store's head, asked for again and again; one request a time while it does not change."""

from ckptsync.errors import NotFound, NotModified
from ckptsync.repository.repository import Empty, HeadAt, Repository, look, read_head
from ckptsync.stores.base import ObjectStore, Version

Found = tuple[Repository, HeadAt]


class Sight:
    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._repository: Repository | None = None
        self._dealt_with: Version | None = None

    def look(self) -> Found | Empty | None:
        """What `look` of a repository gives; None while head is what was dealt with.

        Raises what `look` raises.
        """
        try:
            found = self._look_again() or look(self._store)
        except NotModified:
            return None
        self._repository = None if isinstance(found, Empty) else found[0]
        return found

    def dealt_with(self, at: HeadAt) -> None:
        """Say that this head has nothing more to tell."""
        self._dealt_with = at.version

    def forget(self) -> None:
        """Let the next look tell everything anew."""
        self._repository = self._dealt_with = None

    def _look_again(self) -> Found | None:
        """None where there is no such repository any more. Raises NotModified."""
        if self._repository is None:
            return None
        try:
            at = read_head(self._store, unless=self._dealt_with)
        except NotFound:
            return None
        known = at.head.repository_id == self._repository.descriptor.repository_id
        return (self._repository, at) if known else None
