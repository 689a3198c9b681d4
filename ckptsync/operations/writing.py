"""Opening a repository in order to change it: is it ours, does it exist, can it be trusted."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from ckptsync.errors import IntegrityError, NotFound, UnfitStore
from ckptsync.operations.pipeline import Pipeline
from ckptsync.repository import creation, epochs, keys
from ckptsync.repository import descriptor as descriptors
from ckptsync.repository.descriptor import Descriptor
from ckptsync.repository.head import Head
from ckptsync.repository.register import Register
from ckptsync.repository.repository import Repository, require_no_manifest
from ckptsync.stores.probe import CAPABILITIES, Capabilities, probe

log = structlog.get_logger()

PROBE_LASTS: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Writable:
    """A repository that this node may commit to, and the head it had when that was found."""

    repository: Repository
    register: Register
    head: Head
    read_back: bool

    @property
    def descriptor(self) -> Descriptor:
        return self.repository.descriptor


def open_for_writing(pipeline: Pipeline) -> Writable:
    """Create the repository if nothing of one is there; refuse if it is not this node's.

    Raises WrongRepository, Fenced, ForeignWriter, RollbackDetected; HeadLost; UnfitStore;
    IntegrityError, UnsupportedFormat; StoreError.
    """
    register = pipeline.register()
    where = pipeline.store.name
    try:
        head = register.read().head
    except NotFound:
        require_no_manifest(pipeline.store)
        _require_unclaimed(pipeline)
        _require_fit(pipeline, anew=True)
        _create(pipeline, register)
        head = register.read().head
    descriptor = _descriptor(pipeline, head)
    me = pipeline.state.identity.remembered()
    epochs.require_own_repository(descriptor, me, pipeline.node, where)
    epochs.require_writer(head, me, where)
    descriptor.require_writable(f"{where}/{keys.DESCRIPTOR}")
    capabilities = _require_fit(pipeline)  # writes scratch, so only where all else is well
    return Writable(
        repository=Repository(store=pipeline.store, descriptor=descriptor),
        register=register,
        head=head,
        read_back=capabilities.verifies_checksums is False,
    )


def _require_unclaimed(pipeline: Pipeline) -> None:
    """Raises WrongRepository if a descriptor is there that is not this pipeline's."""
    try:
        descriptor = descriptors.read(pipeline.store)
    except NotFound:
        return
    me = pipeline.state.identity.remembered()
    epochs.require_own_repository(descriptor, me, pipeline.node, pipeline.store.name)


def _create(pipeline: Pipeline, register: Register) -> None:
    now = pipeline.store.now()
    wanted = creation.fresh_descriptor(
        pipeline.node,
        now,
        hash_=pipeline.creation.hash,
        chunk_size=pipeline.creation.chunk_size,
        pack_below=pipeline.creation.pack_below,
    )
    creation.create(register, pipeline.node, wanted, now)


def _descriptor(pipeline: Pipeline, head: Head) -> Descriptor:
    """Read each time: what nobody can restore without has to be there before more is pushed."""
    try:
        descriptor = descriptors.read(pipeline.store)
    except NotFound:
        raise IntegrityError(
            f"{pipeline.store.name}: head.json is there, {keys.DESCRIPTOR} is not",
            hint=f"put {keys.DESCRIPTOR} back from a copy of the bucket",
        ) from None
    if descriptor.repository_id != head.repository_id:
        raise IntegrityError(
            f"{pipeline.store.name}: head.json belongs to repository {head.repository_id}, "
            f"the descriptor beside it to {descriptor.repository_id}",
            hint="put the one back that does not belong there",
        )
    return descriptor


def remembered_capabilities(pipeline: Pipeline) -> Capabilities | None:
    """What a probe of this very server saw within the last day."""
    found = pipeline.state.capabilities.recall(
        place=pipeline.place, max_age=PROBE_LASTS, now=pipeline.now()
    )
    return None if found is None else CAPABILITIES.validate_json(found)


def remember_capabilities(pipeline: Pipeline, capabilities: Capabilities) -> None:
    pipeline.state.capabilities.remember(
        CAPABILITIES.dump_json(capabilities).decode(), place=pipeline.place, now=pipeline.now()
    )


def _require_fit(pipeline: Pipeline, *, anew: bool = False) -> Capabilities:
    """What the store can do, probed at most once a day if it was found fit. Raises UnfitStore."""
    capabilities = None if anew else remembered_capabilities(pipeline)
    if capabilities is None or not capabilities.fences:
        capabilities = probe(pipeline.store, pipeline.node.name, clock=pipeline.now)
        remember_capabilities(pipeline, capabilities)
    if capabilities.fences:
        return capabilities
    if pipeline.fencing:
        raise UnfitStore(
            f"{pipeline.store.name} ignores conditions on writes: two primaries there could "
            "not be told apart, and would overwrite each other",
            hint='use a store with conditional writes, or set fencing = "off" to live with that',
        )
    log.warning("fencing.off", store=pipeline.store.name)
    return capabilities
