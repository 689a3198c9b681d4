"""ckptsync doctor"""

from collections.abc import Iterator, Mapping
from typing import Any

import click

from ckptsync.cli import wiring
from ckptsync.cli.answer import Answer
from ckptsync.cli.invocation import Invocation, json_option, pipeline_argument
from ckptsync.cli.wording import counted
from ckptsync.config.model import Config
from ckptsync.errors import Cancelled, CkptsyncError
from ckptsync.failure import Failure
from ckptsync.operations.doctor import Diagnosis, Finding, doctor
from ckptsync.operations.doctor_finding import failed


@click.command("doctor")
@pipeline_argument
@json_option
@click.pass_obj
def command(invocation: Invocation, name: str | None) -> Answer:
    """Try out everything that a pipeline depends on.

    Every pipeline, if none is named. Writes nothing but scratch objects under probe/ in the
    bucket. If checks fail, the exit code is that of the first.
    """
    config = invocation.config()
    names = [config.choose(name)] if name is not None else sorted(config.pipelines)
    found = {each: _examine(invocation, config, each) for each in names}
    return Answer(
        document={
            "pipelines": [
                {"pipeline": each, "findings": [_document(one) for one in diagnosis.findings]}
                for each, diagnosis in found.items()
            ]
        },
        lines=lambda: _lines(found),
        verdict=_verdict(found),
    )


def _examine(invocation: Invocation, config: Config, name: str) -> Diagnosis:
    try:
        with wiring.wire(
            config, name, invocation.stop, backoff=wiring.HASTY, reading=True
        ) as pipeline:
            return doctor(pipeline)
    except Cancelled:
        raise
    except CkptsyncError as error:
        return Diagnosis(findings=(failed("configuration", error),))


def _document(finding: Finding) -> Mapping[str, Any]:
    return {
        "what": finding.what,
        "verdict": finding.verdict,
        "detail": finding.detail,
        "hint": finding.hint,
    }


def _lines(found: Mapping[str, Diagnosis]) -> Iterator[str]:
    for number, (name, diagnosis) in enumerate(found.items()):
        if len(found) > 1:
            yield from ("",) if number else ()
            yield name
        for finding in diagnosis.findings:
            yield f"{finding.verdict:<8} {finding.what}: {finding.detail}"
            if finding.hint:
                yield f"{'':<8} try: {finding.hint}"


def _verdict(found: Mapping[str, Diagnosis]) -> Failure | None:
    """Of the kind of the first check that failed: others often follow from it."""
    several = len(found) > 1
    failures = {
        f"{name}: {what}" if several else what: error
        for name, diagnosis in found.items()
        for what, error in diagnosis.failures.items()
    }
    if not failures:
        return None
    first = next(iter(failures.values()))
    return Failure(
        kind=type(first).__name__,
        message=f"{counted(len(failures), 'check')} failed: {', '.join(failures)}",
        hint=None,
        exit_code=first.exit_code,
    )
