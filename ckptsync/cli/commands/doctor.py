"""ckptsync doctor"""

from collections.abc import Iterator

import click

from ckptsync.cli import wiring
from ckptsync.cli.answer import Answer, Failure
from ckptsync.cli.invocation import Invocation, json_option, pipeline_argument
from ckptsync.cli.wording import counted
from ckptsync.operations.doctor import Diagnosis, doctor


@click.command("doctor")
@pipeline_argument
@json_option
@click.pass_obj
def command(invocation: Invocation, name: str | None) -> Answer:
    """Try out everything that a pipeline depends on.

    Writes nothing but scratch objects under probe/ in the bucket. If checks fail, the exit code
    is that of the first.
    """
    config = invocation.config()
    name = config.choose(name)
    with wiring.wire(config, name, invocation.stop, backoff=wiring.HASTY) as pipeline:
        diagnosis = doctor(pipeline)
    return Answer(
        document={
            "pipeline": name,
            "findings": [
                {
                    "what": finding.what,
                    "verdict": finding.verdict,
                    "detail": finding.detail,
                    "hint": finding.hint,
                }
                for finding in diagnosis.findings
            ],
        },
        lines=lambda: _lines(diagnosis),
        verdict=_verdict(diagnosis),
    )


def _lines(diagnosis: Diagnosis) -> Iterator[str]:
    for finding in diagnosis.findings:
        yield f"{finding.verdict:<8} {finding.what}: {finding.detail}"
        if finding.hint:
            yield f"{'':<8} try: {finding.hint}"


def _verdict(diagnosis: Diagnosis) -> Failure | None:
    """Of the kind of the first check that failed: others often follow from it."""
    failures = diagnosis.failures
    if not failures:
        return None
    first = next(iter(failures.values()))
    return Failure(
        kind=type(first).__name__,
        message=f"{counted(len(failures), 'check')} failed: {', '.join(failures)}",
        hint=None,
        exit_code=first.exit_code,
    )
