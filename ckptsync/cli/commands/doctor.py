"""ckptsync doctor"""

from collections.abc import Iterator

import click

from ckptsync.cli import wiring
from ckptsync.cli.answer import Answer
from ckptsync.cli.invocation import Invocation, json_option, pipeline_argument
from ckptsync.cli.wording import counted
from ckptsync.errors import CkptsyncError
from ckptsync.operations.doctor import Diagnosis, Verdict, doctor


@click.command("doctor")
@pipeline_argument
@json_option
@click.pass_obj
def command(invocation: Invocation, name: str | None) -> Answer:
    """Try out everything that a pipeline depends on.

    Writes nothing but scratch objects under probe/ in the bucket.
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
        text=lambda: "\n".join(_lines(diagnosis)),
        verdict=_verdict(diagnosis),
    )


def _lines(diagnosis: Diagnosis) -> Iterator[str]:
    for finding in diagnosis.findings:
        yield f"{finding.verdict:<8} {finding.what}: {finding.detail}"
        if finding.hint:
            yield f"{'':<8} try: {finding.hint}"


def _verdict(diagnosis: Diagnosis) -> CkptsyncError | None:
    if diagnosis.sound:
        return None
    failed = [each.what for each in diagnosis.findings if each.verdict is Verdict.FAILED]
    return CkptsyncError(f"{counted(len(failed), 'check')} failed: {', '.join(failed)}")
