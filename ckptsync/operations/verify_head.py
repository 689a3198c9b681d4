"""What entries must say to make sense beside each other. Pure."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from ckptsync.repository import keys
from ckptsync.repository.head import Entry


def order_faults(entries: Sequence[Entry], next_seq: int) -> Iterator[str]:
    """What is wrong with the numbers of entries that lie in one object, oldest first."""
    for entry in entries:
        if keys.seq(entry.id) != entry.seq:
            yield f"checkpoint {entry.id} has seq {entry.seq}, which its id contradicts"
        if entry.seq >= next_seq:
            yield f"checkpoint {entry.id} has seq {entry.seq}, though {next_seq} comes next"
    for before, after in pairwise(entries):
        if before.seq >= after.seq:
            yield f"checkpoint {after.id} stands behind {before.id}, though it is not newer"
