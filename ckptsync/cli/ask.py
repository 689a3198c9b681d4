"""Orders of the command line: the daemon that has the pipeline carries them out, or else we do."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ckptsync.cli import wiring
from ckptsync.cli.invocation import Invocation
from ckptsync.cli.progress import bar
from ckptsync.config.model import Config
from ckptsync.errors import Busy, Cancelled, TimedOut
from ckptsync.operations.carry_out import carry_out_whole
from ckptsync.operations.orders import Order, Switchover, kind
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.standby import Standby
from ckptsync.operations.taking_back import bring_back
from ckptsync.units import format_duration

if TYPE_CHECKING:
    from ckptsync.api.client import Client

T = TypeVar("T")

_TRIES: Final = 5
_PAUSE: Final = 0.1  # seconds; whoever has the lock may be about to listen, or to end


def carry_out(
    invocation: Invocation,
    config: Config,
    name: str,
    order: Order,
    *,
    timeout: timedelta | None = None,
) -> Mapping[str, Any]:
    """What the order came to: the same document, whoever carried it out.

    Raises what carrying it out raises, or Relayed with that; Busy if another command is at work
    on the pipeline. On a stop it raises Cancelled, after `timeout` TimedOut: a daemon goes on
    then.
    """
    what = kind(order)

    def there(client: "Client") -> Mapping[str, Any]:
        asked = client.submit(order)
        with bar(f"{what} {name}") as draw:

            def moving(moved: int) -> None:
                draw(moved)
                if invocation.stop.is_set():
                    raise Cancelled(
                        f"the daemon goes on with the {what}", hint=f"ckptsync status {name}"
                    )

            return client.await_(asked, progress=moving, timeout=timeout)

    def here(pipeline: Pipeline) -> Mapping[str, Any]:
        with _limited(timeout, what, invocation.stop), bar(f"{what} {name}") as progress:
            try:
                return carry_out_whole(
                    pipeline,
                    order,
                    standby=Standby(pipeline),
                    withdraw=threading.Event(),
                    progress=progress,
                    started=False,
                )
            except Cancelled:
                if isinstance(order, Switchover):
                    bring_back(pipeline)
                raise

    return either(invocation, config, name, what, there=there, here=here)


def either(
    invocation: Invocation,
    config: Config,
    name: str,
    what: str,
    *,
    there: "Callable[[Client], T]",
    here: Callable[[Pipeline], T],
) -> T:
    """What the daemon that has the pipeline is asked for, or what is done with the lock of it.

    Raises what those raise; Busy if another command is at work on the pipeline; Cancelled.
    """
    tries = 0
    while True:
        with ExitStack() as held:
            try:
                held.enter_context(wiring.lock(config, name))
            except Busy:
                answer = _asked(config, name, there)
                if answer is not None:
                    return answer
                tries += 1
                if tries == _TRIES:
                    raise
            else:
                return here(held.enter_context(wiring.wire(config, name, invocation.stop)))
        if invocation.stop.wait(_PAUSE):
            raise Cancelled(f"stopped before the {what} was begun")


def hand_in(config: Config, name: str, order: Order) -> bool:
    """Leave an order to the daemon that has the pipeline; False if there is none."""
    return _asked(config, name, lambda client: client.submit(order)) is not None


def _asked(config: Config, name: str, question: "Callable[[Client], T]") -> T | None:
    """None if nobody listens."""
    from ckptsync.api.client import Client, DaemonAway  # only now: they take a while to import

    try:
        with Client(config.daemon.state_dir, name) as client:
            return question(client)
    except DaemonAway:
        return None


@contextmanager
def _limited(timeout: timedelta | None, what: str, stop: threading.Event) -> Iterator[None]:
    """Stop what is done in the block once the time is up, and raise TimedOut then."""
    if timeout is None:
        yield
        return
    over = threading.Event()

    def end() -> None:
        over.set()
        stop.set()

    timer = threading.Timer(timeout.total_seconds(), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Cancelled as error:
        if not over.is_set():
            raise
        raise TimedOut(
            f"the {what} was stopped after {format_duration(timeout)}",
            hint="run it again: it goes on from there",
        ) from error
    finally:
        timer.cancel()
