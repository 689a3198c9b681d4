"""Bringing a repository into being: a descriptor, then a head that names this node its writer."""

from datetime import datetime
from importlib.resources import files
from uuid import uuid4

import structlog

from ckptsync.errors import NotFound, PreconditionFailed
from ckptsync.hashing import Hash
from ckptsync.repository import descriptor as descriptors
from ckptsync.repository import epochs, keys
from ckptsync.repository.descriptor import Descriptor
from ckptsync.repository.epochs import Node
from ckptsync.repository.head import Head, Timeline, Writer
from ckptsync.repository.register import SWAPS, Moved, Register
from ckptsync.repository.repository import read_head
from ckptsync.stores.base import Expect, ObjectStore

log = structlog.get_logger()


def fresh_descriptor(
    node: Node, now: datetime, *, hash_: Hash, chunk_size: int, pack_below: int
) -> Descriptor:
    return Descriptor(
        repository_id=str(uuid4()),
        created_at=now,
        pipeline=node.pipeline,
        hash=hash_,
        chunk_size=chunk_size,
        pack_below=pack_below,
    )


def create(register: Register, node: Node, wanted: Descriptor, now: datetime) -> Descriptor:
    """Create what is missing of a repository without checkpoints; give its descriptor.

    A descriptor that is already there wins over the wanted one. Of two nodes that create at
    once one becomes the writer; the other finds that out when it reads head again.

    Raises WrongRepository before writing a head beside another pipeline's descriptor.
    """
    store = register.store
    descriptor = _settle_descriptor(store, wanted)
    me = register.identity.remembered()
    epochs.require_own_repository(descriptor, me, node, store.name)
    store.put(keys.RECOVER, _recovery_instructions())
    instance = str(uuid4())
    register.identity.begin(descriptor.repository_id, instance)
    _create_head(register, _first_head(descriptor, node, me.node_id, instance, now))
    return descriptor


def _create_head(register: Register, first: Head) -> None:
    moved = Moved()
    for _ in range(SWAPS):
        try:
            register.swap(
                Expect.ABSENT,
                first,
                as_writer=True,
                landed=lambda head: head.writer.instance == first.writer.instance,
            )
        except Moved as error:
            moved = error
            if _is_there(register.store):
                log.info("repository.created_by_another_node", store=register.store.name)
                return
            register.pause()
        else:
            log.info(
                "repository.created", store=register.store.name, repository=first.repository_id
            )
            return
    raise register.gave_up(moved)


def _is_there(store: ObjectStore) -> bool:
    try:
        read_head(store)
    except NotFound:
        return False
    return True


def _settle_descriptor(store: ObjectStore, wanted: Descriptor) -> Descriptor:
    try:
        return descriptors.read(store)
    except NotFound:
        try:
            store.put(keys.DESCRIPTOR, descriptors.encode(wanted), expect=Expect.ABSENT)
        except PreconditionFailed:
            log.info("descriptor.already_there", store=store.name)
    return descriptors.read(store)


def _first_head(
    descriptor: Descriptor, node: Node, node_id: str, instance: str, now: datetime
) -> Head:
    return Head(
        repository_id=descriptor.repository_id,
        revision=1,
        write_id="",
        epoch=1,
        writer=Writer(node=node.name, node_id=node_id, instance=instance, write_id="", since=now),
        timeline=1,
        latest=None,
        next_seq=1,
        timelines=(Timeline(id=1, epoch=1, node=node.name, reason="create", at=now),),
    )


def _recovery_instructions() -> bytes:
    return (files("ckptsync.repository") / "RECOVER.md").read_bytes()
