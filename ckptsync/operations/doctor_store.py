"""What a pipeline needs of its bucket, tried out with scratch objects under probe/."""

import secrets
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

from ckptsync.errors import AccessDenied, CkptsyncError, IntegrityError, UnfitStore
from ckptsync.model import Role
from ckptsync.operations.doctor_finding import Finding, examined, failed, ok, warning
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.roles import role_of
from ckptsync.operations.writing import remember_capabilities
from ckptsync.stores.base import ObjectStore
from ckptsync.stores.mounts import sharing_warning
from ckptsync.stores.probe import Capabilities, probe, race
from ckptsync.units import format_duration

SCRATCH: Final = "probe/"
NOTABLE_OFFSET: Final = timedelta(seconds=30)
SIGNATURES_EXPIRE: Final = timedelta(minutes=15)
"""S3 refuses requests whose clock is further off."""

_FILE: Final = "file://"


def listing(pipeline: Pipeline) -> Iterator[Finding]:
    """The first request to the store. Raises what says that it cannot be reached at all."""
    store = pipeline.store
    try:
        next(iter(store.walk(SCRATCH)), None)
    except AccessDenied as error:
        yield failed("bucket: list", error)
    else:
        yield ok("bucket: list", f"{store.name} answers")


def use(pipeline: Pipeline) -> Iterator[Finding]:
    """Write, read, delete; and the rest only if that much is allowed."""
    store, key = pipeline.store, f"{SCRATCH}{pipeline.node.name}.doctor.json"
    body = f'{{"format":"ckptsync/probe","nonce":"{secrets.token_hex(16)}"}}'.encode()
    try:
        store.put(key, body)
    except AccessDenied as error:
        if role_of(pipeline) is not Role.STANDBY:
            raise
        yield warning(
            "bucket: write",
            f"{error}: this node can stand by, if it may write below nodes/, but it cannot be "
            "activated with these rights",
            hint="before it is activated, give it the rights of a primary",
        )
        return
    yield ok("bucket: write", f"{key} was written")
    yield from examined("bucket: read", partial(_reading, store, key, body))
    yield from examined("bucket: conditions", partial(_capabilities, pipeline))
    yield from examined("bucket: delete", partial(_deleting, pipeline, key))


def mount(pipeline: Pipeline) -> Iterator[Finding]:
    """Of a bucket that is a directory: whether its filesystem keeps its locks."""
    name = pipeline.store.name
    if name.startswith(_FILE) and (doubt := sharing_warning(Path(name.removeprefix(_FILE)))):
        yield warning("bucket: filesystem", doubt)


def _reading(store: ObjectStore, key: str, body: bytes) -> Iterator[Finding]:
    if store.get(key, limit=1 << 20).data == body:
        yield ok("bucket: read", "what was written was read")
    else:
        yield failed(
            "bucket: read",
            IntegrityError(
                f"{store.name}: what was read of '{key}' is not what was written just before",
                hint="another doctor may be at work on this node; else the store is not consistent",
            ),
        )


def _deleting(pipeline: Pipeline, key: str) -> Iterator[Finding]:
    try:
        pipeline.store.delete([key])
    except AccessDenied:
        yield warning(
            "bucket: delete",
            "this node may not delete: it can push, and nobody who breaks into it can delete "
            "checkpoints; pruning it leaves to others, and a race of writers is not tried",
            hint="have a node that may delete run this, as by cron: "
            f"ckptsync prune {pipeline.node.pipeline}",
        )
        return
    yield ok("bucket: delete", f"{key} was deleted")
    yield from examined("bucket: race", partial(_racing, pipeline))


def _racing(pipeline: Pipeline) -> Iterator[Finding]:
    what = "bucket: race"
    seen = race(pipeline.store, f"{SCRATCH}{pipeline.node.name}.race.json")
    if seen.sound:
        yield ok(what, f"of {seen.writers} writers at once exactly one wins")
    elif set(seen.winners) == {1}:
        yield _unfenced(pipeline, what, "the one writer that won a race did not leave its bytes")
    else:
        won = " and ".join(map(str, sorted(set(seen.winners) - {1})))
        yield _unfenced(
            pipeline, what, f"of {seen.writers} writers at once {won} were told that they won"
        )


def _capabilities(pipeline: Pipeline) -> Iterator[Finding]:
    """What a push would probe; it is remembered for the next one."""
    seen = probe(pipeline.store, pipeline.node.name, clock=pipeline.now)
    if seen.fences:
        yield ok("bucket: conditions", "writes that expect something else are refused")
    else:
        ignored = "replaces" if seen.conditional_create else "creates"
        yield _unfenced(
            pipeline, "bucket: conditions", f"it {ignored} objects against the condition to do so"
        )
    yield _checksums(seen)
    yield _clock(seen.clock_offset)
    remember_capabilities(pipeline, seen)


def _unfenced(pipeline: Pipeline, what: str, seen: str) -> Finding:
    detail = f"{pipeline.store.name}: {seen}, so two primaries could not be told apart"
    if pipeline.fencing:
        return failed(
            what,
            UnfitStore(
                detail,
                hint="use a store with conditional writes, "
                'or set fencing = "off" to live with that',
            ),
        )
    return warning(what, f"{detail}; fencing is off")


def _checksums(seen: Capabilities) -> Finding:
    what = "bucket: checksums"
    if seen.verifies_checksums is None:
        return ok(what, "there is no network on which bytes could be damaged")
    if seen.verifies_checksums:
        return ok(what, "bytes damaged on their way are refused")
    return warning(
        what, "the store takes bytes that were damaged on their way: what is pushed is read back"
    )


def _clock(ahead: timedelta) -> Finding:
    what = "clock"
    if abs(ahead) <= NOTABLE_OFFSET:
        return ok(what, "that of the store and this host's agree")
    apart = "ahead of" if ahead > timedelta(0) else "behind"
    detail = f"the store's is {format_duration(abs(ahead))} {apart} this host's"
    hint = "synchronise this host's clock, as with chrony or systemd-timesyncd"
    if abs(ahead) <= SIGNATURES_EXPIRE:
        return warning(what, f"{detail}: ages are shown wrong", hint=hint)
    return failed(
        what,
        CkptsyncError(f"{detail}: S3 refuses signatures of more than 15 minutes off", hint=hint),
    )
