"""Looking into a bucket that another pipeline pushes to: allowed, but never unnoticed."""

import structlog

from ckptsync.operations.pipeline import Pipeline
from ckptsync.repository.repository import Repository

log = structlog.get_logger()


def warn_if_foreign(pipeline: Pipeline, repository: Repository) -> None:
    owner = repository.descriptor.pipeline
    if owner != pipeline.node.pipeline:
        log.warning("repository.foreign", store=repository.store.name, owner=owner)
