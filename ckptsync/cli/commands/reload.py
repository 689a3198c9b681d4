"""ckptsync reload"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ckptsync.api.client import Client, DaemonAway
from ckptsync.cli.answer import Answer
from ckptsync.cli.invocation import Invocation, json_option, pipeline_argument
from ckptsync.errors import CkptsyncError, Partial
from ckptsync.failure import Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    pid: int
    pipelines: Sequence[str]
    """Those that it had before."""
    failure: Failure | None


@click.command("reload")
@pipeline_argument
@json_option
@click.pass_obj
def command(invocation: Invocation, name: str | None) -> Answer:
    """Let the daemon read its configuration anew.

    Every daemon that has a pipeline of the configuration, or the one that has PIPELINE. A
    pipeline whose settings have not changed goes on undisturbed. A configuration with a mistake
    changes nothing.
    """
    config = invocation.config()
    names = [config.choose(name)] if name is not None else sorted(config.pipelines)
    daemons = _daemons(config.daemon.state_dir, names)
    if not daemons:
        raise CkptsyncError("no daemon is running", hint="ckptsync run")
    told = [_tell(config.daemon.state_dir, pid, having) for pid, having in daemons.items()]
    return Answer(
        document={
            "daemons": [_document(each) for each in told],
        },
        lines=lambda: _lines(told),
        verdict=_verdict(told),
    )


def _daemons(state_dir: Path, names: Sequence[str]) -> Mapping[int, Sequence[str]]:
    """By process, with the pipelines that each has. Raises CkptsyncError for one that is stuck."""
    found: dict[int, list[str]] = {}
    for name in names:
        try:
            with Client(state_dir, name) as client:
                found.setdefault(client.snapshot().pid, []).append(name)
        except DaemonAway:
            continue
    return found


def _tell(state_dir: Path, pid: int, names: Sequence[str]) -> _Told:
    failure = None
    try:
        with Client(state_dir, names[0]) as client:
            client.reload()
    except DaemonAway:
        failure = Failure.of(CkptsyncError(f"the daemon, process {pid}, has ended meanwhile"))
    except CkptsyncError as error:
        failure = Failure.of(error)
    return _Told(pid=pid, pipelines=names, failure=failure)


def _verdict(told: Sequence[_Told]) -> Failure | None:
    failures = [each.failure for each in told if each.failure is not None]
    if not failures:
        return None
    if len(failures) == len(told):
        return failures[0]
    return Failure.of(
        Partial(
            f"{len(failures)} of {len(told)} daemons failed, the first one with: "
            f"{failures[0].message}"
        )
    )


def _document(told: _Told) -> Mapping[str, Any]:
    return {
        "pid": told.pid,
        "pipelines": list(told.pipelines),
        "error": None if told.failure is None else told.failure.document(),
    }


def _lines(told: Sequence[_Told]) -> Iterator[str]:
    for each in told:
        what = "reloaded" if each.failure is None else "not reloaded"
        yield f"{what}: process {each.pid}, with {', '.join(each.pipelines)}"
