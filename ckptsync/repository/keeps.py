"""Keeps: names that protect a checkpoint from retention, for ever or until a time. Pure.

Times are the store's. An expired keep protects nothing, whether or not head still holds it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from ckptsync.errors import Refused
from ckptsync.model import CheckpointId
from ckptsync.moments import utc
from ckptsync.repository.head import Head, Keep

NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Of a whole name."""
MOST: Final = 256
"""Keeps of one repository: they lie in head, which every push writes anew."""
_NEVER: Final = datetime.max.replace(tzinfo=UTC)


def named(head: Head, now: datetime) -> Mapping[CheckpointId, tuple[str, ...]]:
    """The checkpoints that are kept, each with the names that keep it, sorted."""
    names: dict[CheckpointId, tuple[str, ...]] = {}
    for name, keep in sorted(_valid(head, now).items()):
        names[keep.checkpoint] = (*names.get(keep.checkpoint, ()), name)
    return names


def told(head: Head, now: datetime) -> Mapping[CheckpointId, str]:
    """The checkpoints that are kept, each with a text that names the keep that lasts longest."""
    return {checkpoint: _told(names, head) for checkpoint, names in named(head, now).items()}


def kept(head: Head, name: str, keep: Keep, *, now: datetime) -> Head:
    """A head with this keep under this name.

    A keep of the same checkpoint is replaced, as is one that has expired. The other expired ones go
    only where there are MOST: the clock may have run ahead. Raises Refused if the name keeps
    another checkpoint, or if there are MOST keeps that have not expired.
    """
    valid = _valid(head, now)
    former = valid.get(name)
    if former is not None and former.checkpoint != keep.checkpoint:
        raise Refused(
            f"'{name}' already keeps checkpoint {former.checkpoint}, as {former.by} asked",
            hint=f"take another name, or let that checkpoint go first: ckptsync unkeep {name}",
        )
    if former is None and len(valid) >= MOST:
        raise Refused(
            f"{len(valid)} checkpoints are kept by name, and no more than {MOST} can be",
            hint="let one go that is no longer needed: ckptsync unkeep NAME; "
            "'ckptsync list' shows the names",
        )
    all_fit = len(head.keeps.keys() | {name}) <= MOST
    return head.model_copy(update={"keeps": {**(head.keeps if all_fit else valid), name: keep}})


def unkept(head: Head, name: str) -> Head:
    """A head without the keep of this name; the very same where there is none."""
    if name not in head.keeps:
        return head
    return head.model_copy(
        update={"keeps": {each: keep for each, keep in head.keeps.items() if each != name}}
    )


def tidied(head: Head, *, there: Callable[[CheckpointId], bool]) -> Mapping[str, Keep]:
    """The keeps of what is there, as `there` tells, expired ones too.

    By a clock that is put right again they have not expired.
    """
    return {name: keep for name, keep in head.keeps.items() if there(keep.checkpoint)}


def _told(names: Sequence[str], head: Head) -> str:
    until = {name: head.keeps[name].until or _NEVER for name in names}
    longest = max(names, key=lambda name: until[name])
    text = f"kept as '{longest}'"
    if until[longest] < _NEVER:
        text += f" until {utc(until[longest]):%Y-%m-%d %H:%M:%S} UTC"
    if len(names) > 1:
        text += f", and by {len(names) - 1} more name{'s' * (len(names) > 2)}"
    return text


def _valid(head: Head, now: datetime) -> dict[str, Keep]:
    return {
        name: keep for name, keep in head.keeps.items() if keep.until is None or keep.until > now
    }
