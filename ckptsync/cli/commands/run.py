"""ckptsync run"""

import faulthandler
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click
import structlog

from ckptsync import log as logging
from ckptsync.cli import wiring
from ckptsync.cli.answer import Answer
from ckptsync.cli.invocation import Invocation, json_option
from ckptsync.config.model import Config
from ckptsync.daemon.systemd import Notifier, under_systemd
from ckptsync.errors import Cancelled, CkptsyncError, Partial
from ckptsync.failure import EXIT_BUG, Failure
from ckptsync.model import ignore

if TYPE_CHECKING:
    from ckptsync.daemon.service import Service

log = structlog.get_logger()


@click.command("run")
@click.argument("names", metavar="[PIPELINE]...", nargs=-1)
@click.option("--once", "just_once", is_flag=True, help="Do what is due now, and end: for cron.")
@json_option
@click.pass_obj
def command(invocation: Invocation, names: tuple[str, ...], just_once: bool) -> Answer:
    """Keep pipelines in sync: the daemon.

    Every pipeline of the configuration, or those that are named. A primary pushes on schedule, a
    standby stays warm, and 'ckptsync activate' makes it the primary. SIGHUP, or 'ckptsync
    reload', reads the configuration again.
    """
    journal = under_systemd()
    notifier = Notifier()  # takes its variables away before any hook could inherit them
    if just_once:
        return _once(invocation, invocation.config(), names)
    faulthandler.enable()  # a watchdog ends a process that hangs with SIGABRT: it tells where
    logging.configure(
        json=True if invocation.json_logs or journal else None, level=invocation.log_level or "info"
    )
    from ckptsync.cli.serving import serve

    try:
        serve(
            lambda: invocation.config(secrets=True),
            lambda config: _chosen(config, names),
            notifier,
            invocation.stop,
            _reload_on_hangup,
        )
    except CkptsyncError:
        raise
    except BaseException as bug:  # noqa: BLE001 - whatever it is, the process has to end
        _give_up(bug)
    return Answer(document={"stopped": True}, lines=lambda: ["stopped"])


def _chosen(config: Config, names: Sequence[str]) -> Sequence[str]:
    """The pipelines that were named, each once, or all. Raises ConfigError."""
    return tuple(dict.fromkeys(config.choose(name) for name in names or sorted(config.pipelines)))


def _reload_on_hangup(service: "Service") -> None:
    signal.signal(signal.SIGHUP, lambda _number, _frame: service.ask_reload())


def _give_up(bug: BaseException) -> NoReturn:
    """End at once: the threads of a push that is under way would be waited for."""
    try:
        log.critical("daemon.crashed", error=type(bug).__name__, exc_info=bug)
        sys.stderr.flush()
    finally:
        os._exit(EXIT_BUG)


def _once(invocation: Invocation, config: Config, names: Sequence[str]) -> Answer:
    done = {name: _do_once(invocation, config, name) for name in _chosen(config, names)}
    failures = [each for each in done.values() if isinstance(each, CkptsyncError)]
    verdict = failures[0] if failures else None
    if failures and len(failures) < len(done):
        verdict = Partial(
            f"{len(failures)} of {len(done)} pipelines failed, the first one with: {failures[0]}"
        )
    return Answer(
        document={"pipelines": [_document(name, each) for name, each in done.items()]},
        lines=lambda: [f"{name}: {_line(each)}" for name, each in done.items()],
        verdict=None if verdict is None else Failure.of(verdict),
    )


def _do_once(
    invocation: Invocation, config: Config, name: str
) -> "Mapping[str, Any] | CkptsyncError":
    from ckptsync.daemon.once import once

    try:
        with (
            wiring.lock(config, name),
            wiring.wire(config, name, invocation.stop) as pipeline,
        ):
            did = once(pipeline, progress=ignore)
    except Cancelled:
        raise
    except CkptsyncError as error:
        return error
    return {"role": str(did.role), "did": did.did, "document": did.document}


def _document(name: str, outcome: Mapping[str, Any] | CkptsyncError) -> Mapping[str, Any]:
    document = {"pipeline": name, "role": None, "did": None, "document": None, "error": None}
    if isinstance(outcome, CkptsyncError):
        return {**document, "error": Failure.of(outcome).document()}
    return {**document, **outcome}


def _line(outcome: Mapping[str, Any] | CkptsyncError) -> str:
    if isinstance(outcome, CkptsyncError):
        return f"failed: {outcome}"
    return f"{outcome['role']}, {outcome['did'] or 'nothing to do'}"
