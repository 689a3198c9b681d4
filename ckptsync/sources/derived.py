"""What publishing puts beside a checkpoint's own files."""

from collections.abc import Mapping, Sequence

from ckptsync.hashing import Digest, Hash
from ckptsync.model import Engine, File
from ckptsync.sources import feldera
from ckptsync.sources.feldera_files import CATALOG, STATE, catalog_of
from ckptsync.sources.pidlock import PIDLOCK


def derived(engine: Engine, files: Sequence[File], hash_: Hash) -> Mapping[str, Digest | None]:
    """The paths, each with the digest that its content follows from; None where any will do."""
    if engine.layout != feldera.NAME or engine.metadata is None:
        return {}
    state = f"{engine.id}/{STATE}"
    return {
        CATALOG: hash_.of(catalog_of([engine.metadata])),
        STATE: next((file.digest for file in files if file.path == state), None),
        PIDLOCK: None,
    }
