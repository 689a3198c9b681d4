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


def open_for_writing(pipeline: Pipeline, *, anew: bool = False) -> Writable:
    """Create the repository if nothing of one is there; refuse if it is not this node's.

    The store is probed at most once a day, or `anew`.

    Raises WrongRepository, Fenced, ForeignWriter, RollbackDetected; HeadLost; UnfitStore;
    IntegrityError, UnsupportedFormat; StoreError.
    """
    register = pipeline.register()
    try:
        head = register.read().head
    except NotFound:
        create_repository(pipeline)
        head = register.read().head
    repository = require_own(pipeline, head)
    me = pipeline.state.identity.remembered()
    epochs.require_writer(head, me, pipeline.store.name)
    capabilities = require_fit(pipeline, anew=anew)  # writes scratch: only where all else is well
    return Writable(
        repository=repository,
        register=register,
        head=head,
        read_back=capabilities.verifies_checksums is False,
    )


def require_own(pipeline: Pipeline, head: Head) -> Repository:
    """The repository of a head, which this pipeline may write to as far as its descriptor says.

    Raises WrongRepository, UnsupportedFormat, IntegrityError, StoreError.
    """
    descriptor = _descriptor(pipeline, head)
    where = pipeline.store.name
    me = pipeline.state.identity.remembered()
    epochs.require_own_repository(descriptor, me, pipeline.node, where)
    descriptor.require_writable(f"{where}/{keys.DESCRIPTOR}")
    return Repository(store=pipeline.store, descriptor=descriptor)


def create_repository(pipeline: Pipeline) -> None:
    """Where there is no head: create one that names this node its writer.

    Raises HeadLost, WrongRepository, UnfitStore, StoreError.
    """
    require_no_manifest(pipeline.store)
    _require_unclaimed(pipeline)
    require_fit(pipeline, anew=True)
    now = pipeline.store.now()
    wanted = creation.fresh_descriptor(
        pipeline.node,
        now,
        hash_=pipeline.creation.hash,
        chunk_size=pipeline.creation.chunk_size,
        pack_below=pipeline.creation.pack_below,
    )
    creation.create(pipeline.register(), pipeline.node, wanted, now)


def _require_unclaimed(pipeline: Pipeline) -> None:
    """Raises WrongRepository if a descriptor is there that is not this pipeline's."""
    try:
        descriptor = descriptors.read(pipeline.store)
    except NotFound:
        return
    me = pipeline.state.identity.remembered()
    epochs.require_own_repository(descriptor, me, pipeline.node, pipeline.store.name)


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


def require_fit(pipeline: Pipeline, *, anew: bool = False) -> Capabilities:
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
