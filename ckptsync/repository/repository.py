"""A repository as read from a store: descriptor, head, entries, manifests."""

from collections.abc import Iterator
from dataclasses import dataclass

from ckptsync.errors import (
    Busy,
    HeadLost,
    IntegrityError,
    NotFound,
)
from ckptsync.model import CheckpointId
from ckptsync.repository import catalog, condemned, head, keys, manifest, manifest_reader
from ckptsync.repository import descriptor as descriptors
from ckptsync.repository.catalog import CatalogPage
from ckptsync.repository.descriptor import Descriptor
from ckptsync.repository.head import CondemnedList, Entry, Head, Page
from ckptsync.repository.manifest import Manifest
from ckptsync.repository.objects import StoredObject
from ckptsync.stores.base import ObjectStore, Version


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadAt:
    """A head, and the version of the object that a swap will expect."""

    head: Head
    version: Version
    replica: bool = False
    """Brought here by the store from another bucket, so it may be old, or here before its data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Empty:
    """No checkpoint was ever committed here."""

    descriptor: Descriptor | None
    head: HeadAt | None = None


def read_head(store: ObjectStore, *, unless: Version | None = None) -> HeadAt:
    """Raises NotFound, NotModified, IntegrityError, UnsupportedFormat."""
    fetched = store.get(keys.HEAD, limit=head.LIMIT, unless=unless)
    what = f"{store.name}/{keys.HEAD}"
    return HeadAt(
        head=head.decode(fetched.data, what), version=fetched.version, replica=fetched.replica
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """What can be read of a repository that exists. Every object is verified as it is read."""

    store: ObjectStore
    descriptor: Descriptor

    def named(self, key: str) -> str:
        """The object as errors name it."""
        return f"{self.store.name}/{key}"

    def head(self, *, unless: Version | None = None) -> HeadAt:
        """Raises NotFound, NotModified, IntegrityError, UnsupportedFormat."""
        found = read_head(self.store, unless=unless)
        self.require_own(found.head)
        return found

    def require_own(self, of: Head) -> None:
        """Raises IntegrityError if a head belongs to another repository."""
        if of.repository_id != self.descriptor.repository_id:
            raise IntegrityError(
                f"{self.named(keys.HEAD)} belongs to repository {of.repository_id}, "
                f"the descriptor beside it to {self.descriptor.repository_id}"
            )

    def entries(self, of: Head) -> Iterator[Entry]:
        """Every entry of a head, newest first; pages are read as they are reached.

        Raises what `require_page` does: that a page is gone is no answer to what it held.
        """
        yield from reversed(of.checkpoints)
        for page in reversed(of.pages):
            yield from reversed(self.require_page(page, of).entries)

    def find(self, of: Head, checkpoint: CheckpointId) -> Entry | None:
        """An entry by id; reads no page that cannot hold it. Raises as `require_page`."""
        found = of.entry(checkpoint)
        if found is None:
            seq = keys.seq(checkpoint)
            pages = (page for page in of.pages if page.seq[0] <= seq <= page.seq[1])
            held = (entry for page in pages for entry in self.require_page(page, of).entries)
            found = next((entry for entry in held if entry.id == checkpoint), None)
        return found

    def read_page(self, page: Page, of: Head) -> tuple[Entry, ...]:
        """The entries of a page of a head, oldest first. Raises NotFound, IntegrityError."""
        return self._read_page(page, of).entries

    def require_page(self, page: Page, of: Head) -> CatalogPage:
        """A page of a head, as it was stored.

        A head that is no longer the newest may name pages that were replaced, and deleted since.
        Raises Busy if that is so; IntegrityError, also where the newest head names the page and
        it is gone; StoreError.
        """
        try:
            return self._read_page(page, of)
        except NotFound as error:
            if self._was_replaced(page):
                raise Busy(
                    f"the list of checkpoints in {self.store.name} changed while it was read",
                    hint="try again",
                ) from error
            raise IntegrityError(
                f"{self.named(page.key)} is gone, though head names it: "
                f"checkpoints {page.seq[0]} to {page.seq[1]} cannot be listed",
                hint=f"put {page.key} back from a copy of the bucket",
            ) from error

    def _read_page(self, page: Page, of: Head) -> CatalogPage:
        data = self._get(page.key, catalog.STORED_LIMIT)
        return catalog.decode(data, page, of, self.descriptor.hash, self.named(page.key))

    def _was_replaced(self, page: Page) -> bool:
        try:
            newest = self.head().head
        except NotFound:
            return False
        return page.key not in {each.key for each in newest.pages}

    def manifest_bytes(self, entry: Entry) -> bytes:
        """The stored manifest, verified. Raises NotFound, IntegrityError."""
        key = keys.manifest(entry.id)
        data = self.store.get(key, limit=manifest.STORED_LIMIT).data
        self.check_manifest(data, entry)
        return data

    def check_manifest(self, data: bytes, entry: Entry) -> None:
        """Raises IntegrityError unless the data is what the entry refers to."""
        if self.descriptor.hash.of(data).hex() != entry.manifest.digest:
            raise IntegrityError(
                f"{self.named(keys.manifest(entry.id))} is damaged: "
                f"its digest is not {entry.manifest.digest}, which head names",
                hint="pull an older checkpoint: --checkpoint ID; 'ckptsync list' shows them",
            )

    def decode_manifest(self, data: bytes, entry: Entry) -> Manifest:
        """Raises IntegrityError, also unless it says what the entry says; UnsupportedFormat."""
        what = self.named(keys.manifest(entry.id))
        read = manifest_reader.decode(data, self.descriptor, what)
        if read.checkpoint != entry.id:
            raise IntegrityError(f"{what} describes checkpoint {read.checkpoint}")
        for name, (inside, outside) in _shared_facts(read, entry).items():
            if inside != outside:
                raise IntegrityError(
                    f"{what} gives {name} as {inside!r:.80}, head as {outside!r:.80}",
                    hint="pull another checkpoint: --checkpoint ID; 'ckptsync list' shows them",
                )
        return read

    def objects(self, data: bytes, entry: Entry) -> tuple[StoredObject, ...]:
        """What a manifest refers to, which `manifest_bytes` gave: its files are not read.

        Raises IntegrityError, UnsupportedFormat.
        """
        return manifest_reader.read_objects(
            data, self.descriptor, self.named(keys.manifest(entry.id))
        )

    def manifest(self, entry: Entry) -> Manifest:
        """Raises NotFound, IntegrityError, UnsupportedFormat."""
        return self.decode_manifest(self.manifest_bytes(entry), entry)

    def condemned(self, named: CondemnedList) -> frozenset[str]:
        """Raises NotFound, IntegrityError."""
        data = self._get(named.key, condemned.STORED_LIMIT)
        return condemned.decode(
            data,
            named,
            self.descriptor.hash,
            self.named(named.key),
            repository_id=self.descriptor.repository_id,
        )

    def _get(self, key: str, limit: int) -> bytes:
        return self.store.get(key, limit=limit).data


def _shared_facts(read: Manifest, entry: Entry) -> dict[str, tuple[object, object]]:
    """What both a manifest and its entry say."""
    header = read.header
    facts = {name: getattr(header, name) for name in ("timeline", "epoch")}
    facts |= {name: getattr(header.totals, name) for name in ("bytes", "new_bytes")}
    engine = ("step", "records", "lineage", "fingerprint")
    facts |= {name: getattr(header.engine, name) for name in engine}
    shared = {name: (fact, getattr(entry, name)) for name, fact in facts.items()}
    return {"engine_id": (header.engine.id, entry.engine_id)} | shared


def look(store: ObjectStore) -> tuple[Repository, HeadAt] | Empty:
    """Find out whether a store holds a repository with checkpoints.

    Empty is only ever the store's own definite answer: neither descriptor nor head; a
    descriptor and nothing under manifests/; or a head that never committed anything.

    Raises HeadLost; IntegrityError; UnsupportedFormat; any other StoreError.
    """
    try:
        found: HeadAt | None = read_head(store)
    except NotFound:
        found = None
    try:
        descriptor: Descriptor | None = descriptors.read(store)
    except NotFound:
        descriptor = None
    if found is None:
        require_no_manifest(store)
        return Empty(descriptor=descriptor)
    if descriptor is None:
        raise IntegrityError(
            f"{store.name}: head.json is there, {keys.DESCRIPTOR} is not",
            hint=f"put {keys.DESCRIPTOR} back from a copy of the bucket",
        )
    if found.head.next_seq == 1:
        return Empty(descriptor=descriptor, head=found)
    repository = Repository(store=store, descriptor=descriptor)
    repository.require_own(found.head)
    return repository, found


def _has_head(store: ObjectStore) -> bool:
    try:
        store.stat(keys.HEAD)
    except NotFound:
        return False
    return True


def require_no_manifest(store: ObjectStore) -> None:
    """Raises HeadLost if there is any manifest, as there must not be where there is no head.

    Raises Busy if another node has created the repository since head was looked for.
    """
    stray = next(iter(store.walk(keys.MANIFESTS)), None)
    if stray is not None:
        if _has_head(store):
            raise Busy(f"{store.name}: another node has just created it", hint="try again")
        raise HeadLost(
            f"{store.name}: head.json is gone, but {stray.key} is there: "
            "the list of checkpoints is lost, not empty",
            hint="put head.json back from an older version of the object or a copy of the bucket, "
            "or: ckptsync repair rebuild-head",
        )
