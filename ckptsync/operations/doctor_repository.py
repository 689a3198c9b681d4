"""What a pipeline finds in its buckets: is it a repository, its own, and as it was left?"""

from collections.abc import Iterator

from ckptsync.errors import Fenced, ForeignWriter, RollbackDetected
from ckptsync.model import Role
from ckptsync.operations import doctor_host
from ckptsync.operations.doctor_finding import Finding, examined, failed, ok, warning
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.roles import role_of
from ckptsync.repository import epochs, keys
from ckptsync.repository.head import Head
from ckptsync.repository.register import head_lost
from ckptsync.repository.repository import Empty, look
from ckptsync.state.identity import Remembered


def repository(pipeline: Pipeline) -> Iterator[Finding]:
    store, me = pipeline.store, pipeline.state.identity.remembered()
    found = look(store)
    descriptor = found.descriptor if isinstance(found, Empty) else found[0].descriptor
    if descriptor is not None:
        epochs.require_own_repository(descriptor, me, pipeline.node, store.name)
        descriptor.require_writable(f"{store.name}/{keys.DESCRIPTOR}")
    at = found.head if isinstance(found, Empty) else found[1]
    if at is None:
        if me.revision:
            raise head_lost(store.name, me)
        yield ok("repository", f"{store.name} holds none yet: the first push creates it")
        return
    head = at.head
    yield _content(head, store.name)
    if pipeline.state.missing is None:
        yield from _history(head, me, store.name, role=role_of(pipeline))
    else:
        yield warning("rollback", "unknown: without the state nothing of the bucket is remembered")
    latest = head.entry(head.latest) if head.latest else None
    if latest is not None:
        yield from examined("disk space", lambda: doctor_host.space(pipeline, latest.bytes))


def read_bucket(pipeline: Pipeline) -> Iterator[Finding]:
    """Nothing, where there is none."""
    store = pipeline.read_store
    if store is None:
        return
    if isinstance(look(store), Empty):
        yield warning(
            "read_bucket",
            f"{store.name} can be read, but holds no checkpoint",
            hint="check read_bucket and its prefix",
        )
    else:
        yield ok("read_bucket", f"{store.name} can be read, and holds checkpoints")


def _content(head: Head, where: str) -> Finding:
    held = len(head.checkpoints) + sum(page.count for page in head.pages)
    detail = f"{where}: epoch {head.epoch}, revision {head.revision}, checkpoints: {held}"
    if head.latest is None and held:
        return warning(
            "repository",
            f"{detail}, none of them live",
            hint="'ckptsync list' shows their states",
        )
    return ok("repository", detail)


def _history(head: Head, me: Remembered, where: str, *, role: Role) -> Iterator[Finding]:
    try:
        epochs.require_no_rollback(head, me, where)
    except RollbackDetected as error:  # whoever wrote that older head says nothing of today
        yield failed("rollback", error)
    else:
        yield ok("rollback", "the bucket is no older than what this node has seen of it")
        yield _writer(head, me, where, role=role)


def _writer(head: Head, me: Remembered, where: str, *, role: Role) -> Finding:
    """A node that never was the writer may be meant to stand by; one that was must know."""
    if role is Role.STANDBY and head.writer.instance not in me.instances:
        return ok("writer", f"'{head.writer.node}' is the one that may push; this node stands by")
    try:
        epochs.require_writer(head, me, where)
    except (Fenced, ForeignWriter) as error:
        if me.instances:
            return failed("writer", error)
        return warning("writer", str(error), hint=error.hint)
    return ok("writer", f"this node, '{head.writer.node}', is the one that may push")
