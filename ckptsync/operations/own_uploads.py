"""What earlier tries of a push have stored, as far as the next one may count on it."""

from ckptsync.model import CheckpointId, ignore
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.verify_presence import absent
from ckptsync.repository import keys
from ckptsync.repository.head import Head
from ckptsync.repository.known import stored_object
from ckptsync.repository.manifest import Manifest
from ckptsync.state.index import Index
from ckptsync.state.journal import Upload, UploadJournal


def drop_committed(pipeline: Pipeline, head: Head) -> None:
    """Forget the uploads of a push that committed, where the process died before it noted that.

    Else they would be own ones for ever: even after a verify has found one damaged, and after the
    entry that says so was forgotten.
    """
    pushing = pipeline.state.identity.remembered().pushing
    if pushing is None or head.next_seq <= keys.seq(CheckpointId(pushing.checkpoint_id)):
        return
    database = pipeline.state.database
    journal = UploadJournal(database, head.repository_id)
    index = Index(database, head.repository_id)
    with database.transaction():
        index.note_unreferenced(journal.sizes().items(), due=pipeline.store.now())
        journal.clear()


def drop_referred(journal: UploadJournal, parent: Manifest) -> None:
    """Forget the uploads that the parent checkpoint refers to: they are the parent's now."""
    uploads = journal.sizes()
    if uploads:
        journal.drop(each.key for each in parent.objects if each.key in uploads)


def still_there(pipeline: Pipeline, journal: UploadJournal) -> list[Upload]:
    """Asked of the store, since others may have tidied up meanwhile.

    Raises StoreError, Cancelled.
    """
    uploads = list(journal.uploads())
    if not uploads:
        return []
    faults = absent(
        pipeline.store,
        map(stored_object, uploads),
        parallel=pipeline.parallel,
        stop=pipeline.stop,
        progress=ignore,
    )
    gone = {key for key, _size in faults}
    journal.drop(gone)
    return [upload for upload in uploads if upload.key not in gone]
