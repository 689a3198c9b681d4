"""Deleting what was condemned, and whether this node may delete at all."""

from collections.abc import Sequence
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

    Progress gets the bytes that are gone. Raises AccessDenied; StoreError also where a key that
    the store called deleted is still there; Cancelled.
    """
    for start in range(0, len(doomed), _AT_ONCE):
        progress(0)
        some = doomed[start : start + _AT_ONCE]
        keys = [key for key, _size in some]
        try:
            pipeline.store.delete(keys)
        except AccessDenied as error:
            raise _denied(pipeline, index, error) from error
        _require_gone(pipeline, keys[-1])
        index.deleted(keys)
        progress(sum(size for _key, size in some))


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
        hint="pruning is the job of a node that may delete: have it run 'ckptsync prune'",
    )


def _is_recent(pipeline: Pipeline, index: Index, fact: str) -> bool:
    at = index.recall(fact)
    return at is not None and abs(pipeline.now() - at) < _LASTS
