"""Every failure that ckptsync can name, what a script sees of it, and whether to try again.

CkptsyncError                       1   failure
├── ConfigError                     2   usage or configuration
├── WrongRepository                 2   the bucket belongs to another pipeline
├── UnsupportedFormat               2   written by a newer ckptsync
├── Partial                         3   done for some pipelines, not for all
├── NothingToDo                     4   only with --error-if-none
├── Busy                            5   another process of this node is at it
├── CheckpointNotFound             10
├── Fenced                         11   another writer took over
├── RollbackDetected               11   the bucket is older than what was seen of it
├── ForeignWriter                  11   a writer this node never was
├── Diverged                       11   it ran unfenced, and the bucket went on without it
├── Stopped                        11   this node waits for an operator's judgement
├── IntegrityError                 12   bytes are not what was written
│   └── HeadLost                   12   manifests, but no head
├── Refused                        13   a gate refused; the operator may insist
│   ├── LineageRegression          13   older than, or unrelated to, the latest checkpoint
│   ├── UnpushedWork               13   pulling would hide a checkpoint that no bucket has
│   ├── EngineRunning              13
│   ├── PrimaryActive              13   the writer that would be displaced seems alive
│   ├── NotPrimary                 13   a standby, or not activated yet
│   ├── TooStale                   13   what could be activated is older than allowed
│   ├── Vetoed                     13   the hook pre_activate said no
│   └── UnfitStore                 13   the store ignores conditions
├── PermissionRefused              14   a local file or directory
├── TimedOut                       15   it may still come to pass
├── CannotTell                     16   never to be read as "absent"
├── Cancelled                     130   stopped on request
├── HookFailed                      1   a command of the operator's
├── LocalDiskFull                   1
├── SourceError                     1   what lies on the local disk is not as it should be
│   └── Vanished                    5   the engine deleted or changed it meanwhile
└── StoreError                      1
    ├── NotFound                   10   this key does not exist, and the store said so
    ├── NotModified                 1   the answer to a conditional read
    ├── PreconditionFailed          1   the object is not as the write expected
    ├── BucketNotFound             10   never to be read as an empty bucket
    ├── AccessDenied               14
    ├── ChecksumRejected           12   the bytes that arrived are not those that were sent
    ├── Undurable                  16   written and visible, but a power cut may undo it
    └── Unavailable                 5   transient
        └── Contention              5   a racing write; this one was not applied
"""

from collections.abc import Sequence
from typing import ClassVar


class CkptsyncError(Exception):
    """A failure whose message is a sentence for the operator, with at most one hint."""

    exit_code: ClassVar[int] = 1
    transient: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(CkptsyncError):
    """`problems` has each mistake in a file by itself, where the message tells of all."""

    exit_code = 2

    def __init__(
        self, message: str, *, hint: str | None = None, problems: Sequence[str] = ()
    ) -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)


class WrongRepository(CkptsyncError):
    exit_code = 2


class UnsupportedFormat(CkptsyncError):
    exit_code = 2


class Partial(CkptsyncError):
    exit_code = 3


class NothingToDo(CkptsyncError):
    exit_code = 4


class Busy(CkptsyncError):
    exit_code = 5
    transient = True


class CheckpointNotFound(CkptsyncError):
    exit_code = 10


class Fenced(CkptsyncError):
    exit_code = 11


class RollbackDetected(CkptsyncError):
    exit_code = 11


class ForeignWriter(CkptsyncError):
    exit_code = 11


class Diverged(CkptsyncError):
    exit_code = 11


class Stopped(CkptsyncError):
    exit_code = 11


class IntegrityError(CkptsyncError):
    exit_code = 12


class HeadLost(IntegrityError):
    pass


class Refused(CkptsyncError):
    exit_code = 13


class LineageRegression(Refused):
    pass


class UnpushedWork(Refused):
    pass


class EngineRunning(Refused):
    pass


class PrimaryActive(Refused):
    pass


class NotPrimary(Refused):
    pass


class TooStale(Refused):
    pass


class Vetoed(Refused):
    pass


class UnfitStore(Refused):
    pass


class PermissionRefused(CkptsyncError):
    exit_code = 14


class TimedOut(CkptsyncError):
    exit_code = 15
    transient = True


class CannotTell(CkptsyncError):
    exit_code = 16
    transient = True


class Cancelled(CkptsyncError):
    exit_code = 130


class HookFailed(CkptsyncError):
    pass


class LocalDiskFull(CkptsyncError):
    pass


class SourceError(CkptsyncError):
    pass


class Vanished(SourceError):
    exit_code = 5
    transient = True


class StoreError(CkptsyncError):
    """A call to a store failed. `store`, `action` and `key` are kept for logs and tests."""

    def __init__(
        self, store: str, action: str, key: str, reason: str, *, hint: str | None = None
    ) -> None:
        super().__init__(f"{store}: cannot {action} '{key}': {reason}", hint=hint)
        self.store = store
        self.action = action
        self.key = key
        self.reason = reason


class NotFound(StoreError):
    exit_code = 10


class NotModified(StoreError):
    pass


class PreconditionFailed(StoreError):
    pass


class BucketNotFound(StoreError):
    exit_code = 10


class AccessDenied(StoreError):
    exit_code = 14


class ChecksumRejected(StoreError):
    exit_code = 12


class Undurable(StoreError):
    exit_code = 16


class Unavailable(StoreError):
    exit_code = 5
    transient = True


class Contention(Unavailable):
    pass
