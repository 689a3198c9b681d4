"""Deleting what was condemned, and whether this node may delete at all."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final

import structlog

from ckptsync.errors import AccessDenied, NotFound, StoreError
from ckptsync.model import Progress
from ckptsync.operations.pipeline import Pipeline
from ckptsync.state.index import Index

log = structlog.get_logger()

_LASTS: Final = timedelta(days=1)
_MAY: Final = "may_delete"
_MAY_NOT: Final = "may_not_delete"
_AT_ONCE: Final = 1000
"""Keys that one request may delete on S3."""
_MOST_KEPT: Final = 8
"""Keys that cannot be deleted, until all count as such."""


def is_left_to_others(pipeline: Pipeline) -> bool:
    """Whether the store has refused a deletion of this node within a day. Asks no store."""
    repository_id = pipeline.state.identity.remembered().repository_id
    if repository_id is None:
        return False
    return _is_recent(pipeline, Index(pipeline.state.database, repository_id), _MAY_NOT)


def require_delete(pipeline: Pipeline, index: Index) -> None:
    """Try to delete what is not there, unless deleting was seen to be allowed within a day.

    Raises AccessDenied, so before anything was changed; StoreError.
    """
    if _is_recent(pipeline, index, _MAY):
        return
    try:
        pipeline.store.delete([f"probe/{pipeline.node.name}.prune.json"])
    except AccessDenied as error:
        raise _denied(pipeline, index, error) from error
    index.note(_MAY, pipeline.now())
    index.note(_MAY_NOT, None)


def delete(
    pipeline: Pipeline, index: Index, doomed: Sequence[tuple[str, int]], progress: Progress
) -> None:
    """Delete keys, and cross each off once the store has answered that it is gone.

    One that cannot be deleted keeps no other from it; only where many cannot, it ends there.
    Progress gets the bytes that are gone.

    Raises AccessDenied; StoreError also where a key that the store called deleted is still there;
    Cancelled. Of several keys that cannot be deleted it is the first that is told of.
    """
    sizes, kept, gone = dict(doomed), _Kept(), 0
    try:
        keys = list(sizes)
        for start in range(0, len(keys), _AT_ONCE):
            progress(0)
            for some in _deleted(pipeline, keys[start : start + _AT_ONCE], kept):
                _require_gone(pipeline, some[-1])
                index.deleted(some)
                gone += len(some)
                progress(sum(sizes[key] for key in some))
        kept.tell()
    except AccessDenied as error:
        if gone or len(doomed) == 1:
            raise
        raise _denied(pipeline, index, error) from error


class _Kept:
    """What the store said to keys that it would not delete."""

    def __init__(self) -> None:
        self._errors: list[StoreError] = []

    def add(self, error: StoreError) -> None:
        """Raises the first once there are too many."""
        self._errors.append(error)
        if len(self._errors) > _MOST_KEPT:
            self.tell()

    def tell(self) -> None:
        """Raises the first, if there was any."""
        if self._errors:
            raise self._errors[0]


def _deleted(pipeline: Pipeline, keys: Sequence[str], kept: _Kept) -> Iterator[Sequence[str]]:
    """Those that the store calls deleted, in parts; halved until a bad key is alone."""
    try:
        pipeline.store.delete(keys)
    except StoreError as error:
        if error.transient:
            raise
        if len(keys) == 1:
            kept.add(error)
            return
        half = len(keys) // 2
        yield from _deleted(pipeline, keys[:half], kept)
        yield from _deleted(pipeline, keys[half:], kept)
    else:
        yield keys


def _require_gone(pipeline: Pipeline, key: str) -> None:
    """Some gateways answer that they deleted, and did not: one key of each request tells."""
    try:
        pipeline.store.stat(key)
    except NotFound:
        return
    raise StoreError(
        pipeline.store.name,
        "delete",
        key,
        "the store answered that it was deleted, and it is still there",
        hint="is deleting suspended there, by object lock or a rule of the bucket?",
    )


def _denied(pipeline: Pipeline, index: Index, error: AccessDenied) -> AccessDenied:
    index.note(_MAY, None)
    index.note(_MAY_NOT, pipeline.now())
    return AccessDenied(
        error.store,
        error.action,
        error.key,
        error.reason,
        hint="pruning is the job of a node that may delete: have it run "
        f"'ckptsync prune {pipeline.node.pipeline}'",
    )


def _is_recent(pipeline: Pipeline, index: Index, fact: str) -> bool:
    at = index.recall(fact)
    return at is not None and abs(pipeline.now() - at) < _LASTS
