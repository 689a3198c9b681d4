"""What pruning would do, without doing it."""

from dataclasses import dataclass
from datetime import datetime

from ckptsync.errors import CkptsyncError
from ckptsync.model import Progress, ignore
from ckptsync.operations.indexing import READER_GRACE, bring_up
from ckptsync.operations.orphans import Orphans, doubt_about, look_for_orphans
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.retain import objection, require_sound
from ckptsync.operations.tidying import Tidying, look_for_tidying, require_role, require_tidier
from ckptsync.operations.transfers import stoppable
from ckptsync.repository import nodes, retention
from ckptsync.repository.retention import Listed, Plan, Policy, Verdict
from ckptsync.state.database import Database
from ckptsync.state.index import Index


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    verdicts: tuple[Verdict, ...]
    """Of every checkpoint in the bucket, the newest first."""
    plan: Plan
    orphans: Orphans | None
    """None where they were not asked for."""
    refusal: CkptsyncError | None
    """What this node would be told in place of pruning."""
    policy: Policy
    now: datetime
    """By the store's clock."""


def preview(
    pipeline: Pipeline,
    *,
    bad: bool = False,
    orphans: bool = False,
    insist: bool = False,
    progress: Progress = ignore,
) -> Preview:
    """Judge every checkpoint, and with `orphans` look through the whole bucket; only reads.

    For that it reads every manifest. Takes no lock. Progress gets the bytes that are read.

    Raises what `look_for_tidying` raises; IntegrityError for what makes pruning stop; Cancelled.
    """
    progress = stoppable(progress, pipeline.stop)
    tidying = look_for_tidying(pipeline)
    policy, now = pipeline.retention, pipeline.store.now()
    if tidying is None:
        nothing = Plan(retire=frozenset(), revive=frozenset(), forget=frozenset())
        return Preview(
            verdicts=(), plan=nothing, orphans=None, refusal=None, policy=policy, now=now
        )
    repository, head = tidying.repository, tidying.head
    require_sound(repository, head)
    verdicts = retention.judge(
        map(Listed.of, repository.entries(head)),
        head=head,
        in_use=nodes.in_use(nodes.read_all(pipeline.store)),
        policy=policy,
        now=now,
    )
    plan = retention.plan(verdicts, now=now, reader_grace=READER_GRACE, bad=bad)
    found = _orphans(pipeline, tidying, now, progress) if orphans else None
    return Preview(
        verdicts=verdicts,
        plan=plan,
        orphans=found,
        refusal=_refusal(pipeline, tidying, plan, found, insist=insist),
        policy=policy,
        now=now,
    )


def _orphans(pipeline: Pipeline, tidying: Tidying, now: datetime, progress: Progress) -> Orphans:
    index = Index(Database.in_memory(), tidying.head.repository_id)
    bring_up(pipeline, tidying.repository, tidying.head, index, now=now, progress=progress)
    return look_for_orphans(pipeline, tidying, index, spare=True, progress=progress)


def _refusal(
    pipeline: Pipeline, tidying: Tidying, plan: Plan, orphans: Orphans | None, *, insist: bool
) -> CkptsyncError | None:
    try:
        require_role(pipeline)
        require_tidier(pipeline, tidying)
    except CkptsyncError as error:
        return error
    if insist:
        return None
    doubt = None if orphans is None else doubt_about(pipeline, tidying, orphans)
    return doubt or objection(pipeline, tidying.head, plan)
