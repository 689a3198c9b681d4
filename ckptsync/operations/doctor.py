"""Doctor: try out everything that a pipeline depends on, and say what was found."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from ckptsync.errors import Cancelled, CkptsyncError
from ckptsync.operations import doctor_host, doctor_pruning, doctor_repository, doctor_store
from ckptsync.operations.doctor_finding import Finding, Verdict, examined, failed
from ckptsync.operations.pipeline import Pipeline

__all__ = ["Diagnosis", "Finding", "Verdict", "doctor"]

_HOST: Final = (
    ("storage", doctor_host.storage),
    ("work directory", doctor_host.work),
    ("open files", doctor_host.open_files),
    ("state", doctor_host.state),
    ("pruning", doctor_pruning.pruning),
    ("read_bucket", doctor_repository.read_bucket),
)
_BUCKET: Final = (
    ("bucket: write", doctor_store.use),
    ("bucket: filesystem", doctor_store.mount),
    ("repository", doctor_repository.repository),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    findings: tuple[Finding, ...]

    @property
    def failures(self) -> Mapping[str, CkptsyncError]:
        """By what was examined, in that order; there may be warnings besides."""
        return {each.what: each.error for each in self.findings if each.error is not None}


def doctor(pipeline: Pipeline) -> Diagnosis:
    """Examine host, bucket and repository. What fails is a finding, and hides no other one.

    Only a bucket that cannot be reached at all is not asked further. Changes nothing but scratch
    objects under probe/, and remembers here what the probe saw. Raises Cancelled.
    """
    findings = [each for what, check in _HOST for each in examined(what, partial(check, pipeline))]
    try:
        findings += doctor_store.listing(pipeline)
    except Cancelled:
        raise
    except CkptsyncError as error:
        findings.append(failed("bucket", error))
    else:
        for what, check in _BUCKET:
            findings += examined(what, partial(check, pipeline))
    return Diagnosis(findings=tuple(findings))
