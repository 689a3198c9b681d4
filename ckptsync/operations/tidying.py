"""Opening a repository to tidy it up, which is not for its writer alone."""

from dataclasses import dataclass
from typing import Final

from ckptsync.errors import Diverged, NotFound, Refused
from ckptsync.model import Role
from ckptsync.operations.objections import objection
from ckptsync.operations.pipeline import Pipeline
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
    replica: bool
    """The store itself brings it here from another bucket."""


def open_for_tidying(pipeline: Pipeline) -> Tidying | None:
    """For a change of head that is right whoever makes it: by the primary, a standby, a pruner.

    None where the bucket is empty. From then on this node remembers what it sees of the repository,
    so that it tidies nothing up in one that went back in time.

    Raises what `require_role`, `look_for_tidying` and `require_tidier` raise; UnfitStore, and where
    the store ignores conditions what `require_writer` raises.
    """
    require_role(pipeline)
    tidying = look_for_tidying(pipeline)
    if tidying is None:
        return None
    require_tidier(pipeline, tidying)
    if not require_fit(pipeline).fences:
        require_writer(pipeline, tidying.head)  # a swap of another's could undo one of its own
    pipeline.state.identity.joined(tidying.head.repository_id)
    return tidying


def look_for_tidying(pipeline: Pipeline) -> Tidying | None:
    """Only reads. None where the bucket is empty, and always was as far as this node knows.

    Raises HeadLost, RollbackDetected, WrongRepository; IntegrityError, UnsupportedFormat,
    StoreError.
    """
    register = pipeline.register()
    try:
        found = register.read()
    except NotFound:
        require_no_manifest(pipeline.store)
        return None
    repository = require_own(pipeline, found.head)
    return Tidying(repository=repository, register=register, head=found.head, replica=found.replica)


def require_role(pipeline: Pipeline) -> None:
    """Raises Fenced, Diverged, Stopped for a node that is to write nothing. Asks no store."""
    role, name = role_of(pipeline), pipeline.node.pipeline
    if role in _SILENT:
        raise objection(role, name, pipeline.state.roles.current()) or Diverged(
            f"this node runs '{name}' without having fenced another: it writes nothing to "
            f"{pipeline.store.name}",
            hint=f"ckptsync status {name}",
        )


def require_tidier(pipeline: Pipeline, tidying: Tidying) -> None:
    """Raises Fenced, ForeignWriter for a primary that was displaced; Refused in a replica."""
    instances = pipeline.state.identity.remembered().instances
    displaced = bool(instances) and tidying.head.writer.instance not in instances
    if displaced and role_of(pipeline) is Role.PRIMARY:
        require_writer(pipeline, tidying.head)
    if tidying.replica:
        raise Refused(
            f"{pipeline.store.name} is a replica, as its store says: what is changed here is not "
            "changed where it comes from",
            hint="tidy up the bucket that it is replicated from",
        )


def require_writer(pipeline: Pipeline, head: Head) -> None:
    """For what no operator asked for: only the writer does that.

    Raises Fenced and the other refusals of epochs.
    """
    epochs.require_writer(head, pipeline.state.identity.remembered(), pipeline.store.name)
