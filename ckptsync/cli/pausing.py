"""Pausing a pipeline's schedule and resuming it, through its daemon or without one."""

from datetime import datetime
from typing import TYPE_CHECKING

from ckptsync.cli import ask
from ckptsync.cli.answer import Answer
from ckptsync.cli.invocation import Invocation
from ckptsync.cli.wording import moment
from ckptsync.operations import documents
from ckptsync.operations.pipeline import Pipeline

if TYPE_CHECKING:
    from ckptsync.api.client import Client

_Since = tuple[datetime | None, datetime | None]
"""Since when it was paused before, and is now."""


def set_paused(invocation: Invocation, name: str | None, *, paused: bool) -> Answer:
    """Does nothing, and says so, where that is how it is already. Raises what `either` raises."""
    config = invocation.config()
    name = config.choose(name)

    def there(client: "Client") -> _Since:
        before = client.snapshot().paused_since
        if paused:
            client.pause()
        else:
            client.resume()
        return before, client.snapshot().paused_since

    def here(pipeline: Pipeline) -> _Since:
        roles = pipeline.state.roles
        before = roles.paused_since()
        if paused:
            roles.pause(pipeline.now())
        else:
            roles.resume()
        return before, roles.paused_since()

    what = "pause" if paused else "resumption"
    before, now = ask.either(invocation, config, name, what, there=there, here=here)
    already = (before is not None) is paused
    return Answer(
        document={
            "pipeline": name,
            "paused_since": None if now is None else documents.time(now),
            "already": already,
        },
        lines=lambda: [_line(name, before, paused=paused, already=already)],
    )


def _line(name: str, before: datetime | None, *, paused: bool, already: bool) -> str:
    if not paused:
        return f"{name} was not paused" if already else f"{name} is not paused any more"
    since = f" already, since {moment(before)}" if before is not None else ""
    return f"{name} is paused{since}"
