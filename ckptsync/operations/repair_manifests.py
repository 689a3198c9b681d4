"""What lies under manifests/ without a head to say what it is."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from ckptsync.errors import IntegrityError
from ckptsync.model import CheckpointId, Progress
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.verify_checks import DAMAGE, told, twice
from ckptsync.operations.verify_presence import absent
from ckptsync.operations.verify_references import References
from ckptsync.repository import keys, manifest, manifest_reader, rebuild
from ckptsync.repository.anew import COUNTED
from ckptsync.repository.commit import entry_from
from ckptsync.repository.head import ManifestRef
from ckptsync.repository.manifest import Manifest
from ckptsync.repository.rebuild import Found
from ckptsync.repository.repository import Repository

_CONDEMNED = re.compile(rf"{keys.CONDEMNED}([0-9]{{1,16}})-[0-9a-f]{{32}}\.json\.zst")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    key: str
    reason: str
    """The rest of a sentence that begins with the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    found: Sequence[Found]
    """Every manifest that makes sense."""
    whole: Sequence[Found]
    """Those whose objects are all there."""
    left_out: Sequence[LeftOut]
    next_seq: int
    """Beyond every number in a name, whatever that name is of."""
    generation: int
    """The highest in the name of a condemned list."""


def survey(pipeline: Pipeline, repository: Repository, *, progress: Progress) -> Survey:
    """Read every manifest, and look for the objects that they refer to.

    Progress gets the bytes of the manifests that are done with. Raises UnsupportedFormat, since
    what a newer version wrote must not be left out; StoreError, Cancelled.
    """
    store = repository.store
    references = References(chunk_size=repository.descriptor.chunk_size, contents=False)
    read: list[tuple[Found, Sequence[int]]] = []
    left_out: list[LeftOut] = []
    next_seq = 1
    for key in sorted({info.key for info in store.walk(keys.MANIFESTS)}):
        progress(0)
        try:
            checkpoint = _checkpoint(key, repository)
            if rebuild.is_counted(checkpoint):
                next_seq = max(next_seq, keys.seq(checkpoint) + 1)
            found, contents = twice(partial(_read, repository, checkpoint))
        except DAMAGE as error:
            left_out.append(LeftOut(key=key, reason=told(error, repository, key)))
            continue
        progress(found.entry.manifest.size)
        read.append((found, references.add(contents)))
    objects = references.objects
    faults = absent(
        store, objects, parallel=pipeline.parallel, stop=pipeline.stop, progress=progress
    )
    whole: list[Found] = []
    for found, numbers in read:
        lost = [(objects[each].key, objects[each].size) for each in numbers]
        lost = [each for each in lost if each in faults]
        if not lost:
            whole.append(found)
            continue
        more = f", and lacks {len(lost) - 1} more" if len(lost) > 1 else ""
        reason = f"refers to {lost[0][0]}, which {faults[lost[0]]}{more}"
        left_out.append(LeftOut(key=keys.manifest(found.entry.id), reason=reason))
    return Survey(
        found=[found for found, _ in read],
        whole=whole,
        left_out=left_out,
        next_seq=next_seq,
        generation=_generation(repository),
    )


def _checkpoint(key: str, repository: Repository) -> CheckpointId:
    """Raises IntegrityError if the key is not that of a manifest."""
    name = CheckpointId(key.removeprefix(keys.MANIFESTS).removesuffix(".json.zst"))
    if not keys.CHECKPOINT_PATTERN.fullmatch(name) or keys.manifest(name) != key:
        raise IntegrityError(f"{repository.named(key)} is not the name of a manifest")
    return name


def _read(repository: Repository, checkpoint: CheckpointId) -> tuple[Found, Manifest]:
    """Raises NotFound, IntegrityError, UnsupportedFormat."""
    key = keys.manifest(checkpoint)
    what = repository.named(key)
    data = repository.store.get(key, limit=manifest.STORED_LIMIT).data
    read = manifest_reader.decode(data, repository.descriptor, what)
    if read.checkpoint != checkpoint:
        raise IntegrityError(f"{what} describes checkpoint {read.checkpoint}")
    if wrong := rebuild.fault(read.header):
        raise IntegrityError(f"{what} {wrong}")
    reference = ManifestRef(digest=repository.descriptor.hash.of(data).hex(), size=len(data))
    found = Found(
        entry=entry_from(read.header, reference, read.header.created_at),
        parent=read.header.parent,
        node=read.header.writer.node,
        generation=read.header.sweep_generation,
    )
    return found, read


def _generation(repository: Repository) -> int:
    names = (_CONDEMNED.fullmatch(info.key) for info in repository.store.walk(keys.CONDEMNED))
    generations = (int(name[1]) for name in names if name is not None)
    return max((each for each in generations if each < COUNTED), default=0)
