"""What is missing of a checkpoint that was deleted while it was fetched: no damage, but its end."""

from collections.abc import Iterator
from contextlib import contextmanager

from ckptsync.errors import Busy, IntegrityError, NotFound
from ckptsync.operations.download import MissingObject
from ckptsync.repository.head import Entry
from ckptsync.repository.repository import Repository


class Forgotten(Busy):
    """Head names the checkpoint no longer, and what only that referred to may be deleted."""


@contextmanager
def telling_forgotten(repository: Repository, entry: Entry) -> Iterator[None]:
    """Raises Forgotten in place of MissingObject where head does not name the entry any more.

    So it costs nothing while nothing is missing. Raises StoreError where head cannot be read:
    then nobody can tell.
    """
    try:
        yield
    except MissingObject as error:
        if _is_named(repository, entry):
            raise
        raise Forgotten(
            f"checkpoint {entry.id} was deleted from {repository.store.name} while it was "
            "fetched, as old ones are",
            hint="'ckptsync list --remote' shows those that are there; "
            "'ckptsync keep ID' holds one of them",
        ) from error


def _is_named(repository: Repository, entry: Entry) -> bool:
    try:
        return repository.find(repository.head().head, entry.id) is not None
    except (NotFound, IntegrityError):
        return True  # nothing says that it was forgotten
