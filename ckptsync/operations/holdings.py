"""What a standby has on its disk: staged files, and the checkpoints that are whole in them."""

from collections.abc import Callable

import structlog

from ckptsync.errors import IntegrityError, Refused, SourceError, UnsupportedFormat
from ckptsync.hashing import Digest, Hash
from ckptsync.model import Progress
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.stage import Stored, digests, recover
from ckptsync.operations.warm import WarmCheckpoint, as_row, from_row
from ckptsync.repository.head import Entry
from ckptsync.sources.staged_files import StagedFiles, discard

log = structlog.get_logger()


class Holdings:
    """The table and the files are the truth; what is in memory is only as far as was looked.

    What was verified as it was written is not read again; what an earlier process left is, once.
    """

    def __init__(self, pipeline: Pipeline, *, on_forget: Callable[[], None]) -> None:
        """Reads nothing yet. `on_forget` is called when what was held may be held no longer."""
        self._pipeline = pipeline
        self._table = pipeline.state.warm
        self._on_forget = on_forget
        self._known: tuple[str, ...] | None = None  # what the table has
        self._files: StagedFiles | None = None
        self._scheme: tuple[Hash, int] | None = None  # of the digests of those files
        self._last: Stored | None = None
        self.checkpoints: tuple[WarmCheckpoint, ...] = ()
        """Those held; the one added last comes first."""

    def load(self, progress: Progress) -> None:
        """Find out what is held, unless that is known."""
        ids = self._table.ids()
        if ids == self._known:
            return
        self.forget()
        held = [self._recovered(id, progress) for id in ids]
        self.checkpoints = tuple(each for each in held if each is not None)
        self._known = self._table.ids()

    def files(self, stored: Stored, progress: Progress) -> StagedFiles:
        """Where a checkpoint is to be staged."""
        descriptor = stored.repository.descriptor
        scheme = (descriptor.hash, descriptor.chunk_size)
        if self._files is not None and self._scheme != scheme:
            self.clear()  # their digests are of another kind, so none of them could be told
        if self._files is None:
            root, work = self._pipeline.storage_path, self._pipeline.work_path
            files = StagedFiles(work, root, digests(self._pipeline, descriptor))
            recover(self._pipeline, files, progress)
            self._files, self._scheme = files, scheme
        return self._files

    def find(self, entry: Entry) -> WarmCheckpoint | None:
        """The checkpoint of an entry, if it is held."""
        return next((each for each in self.checkpoints if each.is_of(entry)), None)

    def stored(self, checkpoint: WarmCheckpoint) -> Stored:
        """Of one that is held, or was the last to be staged. Raises SourceError if it is not."""
        if self._last is not None and checkpoint.is_of(self._last.entry):
            return self._last
        row = self._table.find(checkpoint.entry.id)
        if row is None:
            raise SourceError(
                f"checkpoint {checkpoint.entry.id} is not staged in {self._pipeline.work_path} "
                "any more",
                hint="try again: it is fetched anew",
            )
        return from_row(self._pipeline, row)[1]

    def add(
        self,
        checkpoint: WarmCheckpoint,
        stored: Stored,
        *,
        besides: frozenset[Digest] = frozenset(),
    ) -> None:
        """Hold a checkpoint that was just staged, and delete what is no longer of use.

        That spares the files with the digests `besides`. A checkpoint of which some files are in
        the storage alone, where anybody may delete them, is not held: it can only be published.
        """
        self._last = stored
        files = self._files
        if files is None or any(file.digest not in files for file in stored.manifest.files):
            return
        self._table.add(as_row(checkpoint, stored), keep=self._pipeline.standby.warm_keep)
        self._known = self._table.ids()
        others = (each for each in self.checkpoints if each.entry.id != checkpoint.entry.id)
        self.checkpoints = (checkpoint, *(each for each in others if each.entry.id in self._known))
        self.tidy(besides)

    def tidy(self, besides: frozenset[Digest] = frozenset()) -> None:
        """Delete the staged files that no checkpoint needs that is held."""
        if self._files is not None:
            needed = [self.stored(each).digests() for each in self.checkpoints]
            self._files.keep_only(besides.union(*needed))

    def begin_to_publish(self, id: str) -> None:
        """No other is whole from now on: some of its files may be moved away."""
        for other in self._table.ids():
            if other != id:
                self._table.drop(other)
        self.forget()

    def clear(self) -> None:
        """Delete all that is held or staged."""
        if self._files is None:
            discard(self._pipeline.work_path)
        else:
            self._files.discard()
        self._table.clear()
        self.forget()

    def forget(self) -> None:
        """Let what is on the disk be looked at anew."""
        self.checkpoints, self._known = (), None
        self._files = self._last = None
        self._on_forget()

    def _recovered(self, id: str, progress: Progress) -> WarmCheckpoint | None:
        """None, and held no longer, if it is not whole."""
        row = self._table.find(id)
        if row is None:
            return None
        try:
            checkpoint, stored = from_row(self._pipeline, row)
        except (IntegrityError, Refused, UnsupportedFormat) as error:
            problem = str(error)
        else:
            staging = stored.staging(self.files(stored, progress))
            unfinished = self._pipeline.state.identity.remembered().publishing
            begun = unfinished is not None and unfinished.checkpoint_id == id
            here = staging.has if begun else staging.has_staged  # begun: some are in the storage
            missing = sum(not here(file) for file in staging.files())
            if not missing:
                return checkpoint
            problem = f"{missing} of its files are gone or damaged"
        log.warning("standby.lost", checkpoint=id, problem=problem)
        self._table.drop(id)
        return None
