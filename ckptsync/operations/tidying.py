"""Opening a repository to tidy it up, which is not for its writer alone."""

from dataclasses import dataclass
from typing import Final

from ckptsync.errors import Diverged, NotFound, Refused
from ckptsync.model import Role
from ckptsync.operations import resolve
from ckptsync.operations.objections import objection
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.resolve import LATEST
from ckptsync.operations.roles import role_of
from ckptsync.operations.writing import require_fit, require_own
from ckptsync.repository import epochs
from ckptsync.repository.head import Head
from ckptsync.repository.register import Register
from ckptsync.repository.repository import Repository, require_no_manifest

_SILENT: Final = (Role.FENCED, Role.UNFENCED, Role.DIVERGED, Role.STOPPED)
"""What only an operator ends: until then a node writes nothing but its heartbeat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tidying:
    repository: Repository
    register: Register
    head: Head
    """As it was when the repository was opened."""


def open_for_tidying(pipeline: Pipeline) -> Tidying:
    """For a change of head that is right whoever makes it: by the primary, a standby, a pruner.

    From then on this node remembers what it sees of the repository, so that it tidies nothing up
    in one that went back in time.

    Raises Fenced, Diverged, Stopped in a role that writes nothing; where the store ignores
    conditions, what `require_writer` raises; CheckpointNotFound where no repository is; Refused in
    a replica; HeadLost, RollbackDetected, WrongRepository; UnfitStore; IntegrityError,
    UnsupportedFormat, StoreError.
    """
    _require_role(pipeline)
    register = pipeline.register()
    try:
        found = register.read()
    except NotFound as error:
        require_no_manifest(pipeline.store)
        raise resolve.not_found(LATEST, [pipeline.store.name]) from error
    if found.replica:
        raise Refused(
            f"{pipeline.store.name} is a replica, as its store says: what is changed here is not "
            "changed where it comes from",
            hint="tidy up the bucket that it is replicated from",
        )
    head = found.head
    repository = require_own(pipeline, head)
    if not require_fit(pipeline).fences:
        require_writer(pipeline, head)  # a swap of anybody else's could undo one of its own
    pipeline.state.identity.joined(head.repository_id)
    return Tidying(repository=repository, register=register, head=head)


def require_writer(pipeline: Pipeline, head: Head) -> None:
    """For what no operator asked for: only the writer does that.

    Raises Fenced and the other refusals of epochs.
    """
    epochs.require_writer(head, pipeline.state.identity.remembered(), pipeline.store.name)


def _require_role(pipeline: Pipeline) -> None:
    role = role_of(pipeline)
    if role in _SILENT:
        name = pipeline.node.pipeline
        raise objection(role, name, pipeline.state.roles.current()) or Diverged(
            f"this node runs '{name}' without having fenced another: it writes nothing to "
            f"{pipeline.store.name}",
            hint=f"ckptsync status {name}",
        )
