"""What a node says of itself in the bucket, so that others know that it lives."""

from ckptsync.model import CheckpointId
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.roles import role_of
from ckptsync.repository import nodes
from ckptsync.repository.nodes import Heartbeat


def beat(
    pipeline: Pipeline, *, warm: CheckpointId | None = None, pulling: CheckpointId | None = None
) -> None:
    """Say it once. Raises StoreError."""
    me = pipeline.state.identity.remembered()
    nodes.write(
        pipeline.store,
        Heartbeat(
            node=pipeline.node.name,
            node_id=me.node_id,
            machine=pipeline.machine,
            role=role_of(pipeline),
            epoch=me.epoch,
            warm=warm,
            pulling=pulling,
            paused=pipeline.state.roles.paused_since() is not None,
            at=pipeline.now(),
        ),
    )
