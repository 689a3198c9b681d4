"""What pruning would do, without doing it."""

from dataclasses import dataclass
from datetime import datetime

from ckptsync.errors import CkptsyncError
from ckptsync.operations import resolve
from ckptsync.operations.foreign import warn_if_foreign
from ckptsync.operations.indexing import READER_GRACE
from ckptsync.operations.looking import look_again
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.resolve import LATEST
from ckptsync.operations.retain import objection, require_sound
from ckptsync.repository import nodes, retention
from ckptsync.repository.repository import Empty
from ckptsync.repository.retention import Listed, Plan, Policy, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    verdicts: tuple[Verdict, ...]
    """Of every checkpoint in the bucket, the newest first."""
    plan: Plan
    refusal: CkptsyncError | None
    """What would be held against it, unless the operator insists."""
    policy: Policy
    now: datetime
    """By the store's clock."""


def preview(pipeline: Pipeline, *, bad: bool = False) -> Preview:
    """Judge every checkpoint; only reads, and takes no lock.

    Raises CheckpointNotFound where the bucket is empty; HeadLost; IntegrityError for what makes
    pruning stop; UnsupportedFormat, StoreError.
    """
    found = look_again(pipeline.store, pipeline.state.identity.remembered())
    if isinstance(found, Empty):
        raise resolve.not_found(LATEST, [pipeline.store.name])
    repository, at = found
    warn_if_foreign(pipeline, repository)
    require_sound(repository, at.head)
    now = pipeline.store.now()
    policy = pipeline.retention
    verdicts = retention.judge(
        map(Listed.of, repository.entries(at.head)),
        head=at.head,
        in_use=nodes.in_use(nodes.read_all(pipeline.store)),
        policy=policy,
        now=now,
    )
    plan = retention.plan(verdicts, now=now, reader_grace=READER_GRACE, bad=bad)
    return Preview(
        verdicts=verdicts,
        plan=plan,
        refusal=objection(at.head, plan, policy, where=pipeline.store.name),
        policy=policy,
        now=now,
    )
