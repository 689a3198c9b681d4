"""Manifests as stored, from the local cache where it has them."""

import structlog

from ckptsync.errors import IntegrityError, NotFound
from ckptsync.operations.download import ANOTHER, MissingObject
from ckptsync.operations.pipeline import Pipeline
from ckptsync.repository.head import Entry
from ckptsync.repository.repository import Repository

log = structlog.get_logger()


def manifest_bytes(pipeline: Pipeline, repository: Repository, entry: Entry) -> bytes:
    """Verified, wherever it comes from. Raises MissingObject, IntegrityError, StoreError."""
    cached = pipeline.state.manifests.get(bytes.fromhex(entry.manifest.digest))
    if cached is not None:
        try:
            repository.check_manifest(cached, entry)
        except IntegrityError:
            log.warning("manifest.cache_damaged", checkpoint=entry.id)
        else:
            return cached
    try:
        return repository.manifest_bytes(entry)
    except NotFound as error:
        raise MissingObject(
            f"the manifest of checkpoint {entry.id} is gone from {repository.store.name}, "
            "though head names it",
            hint=ANOTHER,
        ) from error


def remember_manifest(pipeline: Pipeline, entry: Entry, data: bytes) -> None:
    pipeline.state.manifests.put(bytes.fromhex(entry.manifest.digest), data)
