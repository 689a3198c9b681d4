"""ckptsync status"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import click

from ckptsync.cli import daemon, wiring
from ckptsync.cli import status as shown
from ckptsync.cli.answer import Answer
from ckptsync.cli.daemon import Said
from ckptsync.cli.invocation import Invocation, duration, json_option, pipeline_argument
from ckptsync.cli.tables import facts
from ckptsync.cli.watching import watch
from ckptsync.config.model import Config
from ckptsync.errors import Cancelled, CannotTell, CkptsyncError
from ckptsync.failure import Failure
from ckptsync.operations.status import Status, status, unreachable


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    status: Status
    daemon: Said

    @property
    def problems(self) -> Iterator[CkptsyncError]:
        if self.status.problem is not None:
            yield self.status.problem
        if isinstance(self.daemon, CkptsyncError):
            yield CannotTell(str(self.daemon), hint=self.daemon.hint)


@click.command("status")
@pipeline_argument
@click.option("--watch", "again", is_flag=True, help="Look again and again, until interrupted.")
@click.option(
    "--interval",
    callback=duration,
    default="2s",
    show_default=True,
    metavar="DURATION",
    help="How long --watch waits between looks.",
)
@json_option
@click.pass_obj
def command(
    invocation: Invocation, name: str | None, again: bool, interval: timedelta
) -> Answer | int:
    """Show how a pipeline and its bucket are doing.

    Every pipeline, if none is named, with what its daemon says, if one runs. What cannot be
    looked at is never shown as empty: the exit code is 16 if a bucket, the storage, the state or
    the daemon did not answer, or 10 for a bucket that is not there, 14 for one that denies
    access, 12 for a damaged one, 11 for one not to be trusted; it is 11, too, on a node that is
    fenced, diverged or stopped. A watch that is interrupted exits with 0.
    """
    config = invocation.config()
    names = [config.choose(name)] if name is not None else sorted(config.pipelines)
    look = partial(_look, invocation, config, names)
    if again:
        return watch(look, every=interval, stop=invocation.stop, as_json=invocation.json)
    return look()


def _look(invocation: Invocation, config: Config, names: Sequence[str]) -> Answer:
    found = [
        _Seen(
            status=_status(invocation, config, each),
            daemon=daemon.ask(config.daemon.state_dir, each),
        )
        for each in names
    ]
    return Answer(
        document={"pipelines": [_document(each) for each in found]},
        lines=lambda: _lines(found),
        verdict=_verdict([problem for each in found for problem in each.problems]),
    )


def _verdict(problems: Sequence[CkptsyncError]) -> Failure | None:
    """That something is known to be wrong is worse than that it cannot be told."""
    known = [each for each in problems if not isinstance(each, CannotTell)]
    return next((Failure.of(each) for each in (*known, *problems)), None)


def _document(seen: _Seen) -> Mapping[str, Any]:
    return {**shown.document(seen.status), **daemon.document(seen.daemon)}


def _lines(found: Sequence[_Seen]) -> Iterator[str]:
    for number, each in enumerate(found):
        if number:
            yield ""
        pairs = (*shown.facts(each.status), *daemon.facts(each.daemon, datetime.now(UTC)))
        yield from facts(f"{each.status.pipeline} in {each.status.store}", pairs)


def _status(invocation: Invocation, config: Config, name: str) -> Status:
    try:
        with wiring.wire(
            config, name, invocation.stop, backoff=wiring.HASTY, reading=True
        ) as pipeline:
            return status(pipeline)
    except Cancelled:
        raise
    except CkptsyncError as error:
        settings = config.pipelines[name]
        layout = wiring.local_layout(config, name)
        return unreachable(name, str(settings.sync.bucket), layout, settings.storage_path, error)
