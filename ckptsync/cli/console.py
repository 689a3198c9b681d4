"""Warnings as people read them: a sentence for each event, where a log line has fields."""

import threading
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Final

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

SENTENCES: Final[Mapping[str, str]] = {
    "activation.fresh": "no checkpoint was found in {searched}, so the pipeline starts fresh",
    "activation.given_up": "an activation that was interrupted is given up: node '{node}' took "
    "over at epoch {epoch}",
    "activation.landed": "the claim of an activation that was given up has come to the bucket "
    "after all, at epoch {epoch}: it is gone on with",
    "activation.local": "the bucket's latest cannot be had, so the newest checkpoint on this host "
    "is gone on from: {error}",
    "activation.unfenced": "NO OTHER NODE COULD BE FENCED, and nothing is pushed until the bucket "
    "answers: {error}",
    "activation.unrelated": "the bucket cannot say what it calls checkpoint {checkpoint}, so the "
    "new timeline goes on from nothing it knows: {error}",
    "api.misfortune": "a command could not be served: {error}",
    "clock.jumped": "the clock of this host jumped by {seconds} s, or the host slept; what is to "
    "happen at its time is set anew",
    "condemned.unreadable": "{key} cannot be read, so what was uploaded before is uploaded again: "
    "{error}",
    "daemon.crashed": "this is a bug of ckptsync, {error}, and ends the daemon; report it with "
    "what follows",
    "download.read_again": "{key} came damaged, and is fetched once more: {error}",
    "duty.failed": "{duty} failed, and will be tried again: {error}",
    "duty.unknown": "what this node has to do next cannot be told: {error}",
    "epoch.taken": "this node took epoch {epoch} from node '{displaced}'",
    "fence.unchecked": "whether another node took over cannot be told now: {error}",
    "fenced.engine_not_stopped": "ANOTHER NODE TOOK OVER, and the engine here still runs; trying "
    "again: {error}",
    "fencing.off": "{store} ignores conditions on writes, and fencing is off: two primaries there "
    "would overwrite each other",
    "head.latest_unfit": "{store}: {fault}, so a pull of the latest will fail",
    "head.swap_unanswered": "no answer whether the checkpoint was committed; looking again: "
    "{error}",
    "heartbeat.failed": "this node cannot say in the bucket that it lives: {error}",
    "hook.failed": "the hook {hook} printed: {output}",
    "manifest.cache_damaged": "what this host remembered of the manifest of {checkpoint} is "
    "damaged; fetching it again",
    "node.same_elsewhere": "a node '{node}' on another machine was just at work; waiting up to "
    "{seconds} s to see whether it still is",
    "pipeline.not_run": "pipeline '{pipeline}' cannot be run, and will be tried again: {error}",
    "prune.left_to_others": "this node may not delete in its bucket, so pruning is left to a node "
    "that may: {error}",
    "pull.finishing": "an earlier pull was interrupted while it put {checkpoint} in place; this "
    "one finishes it",
    "pull.incomplete": "checkpoint {checkpoint} is not all there yet, trying an older one: {error}",
    "push.not_pruned": "the push is done, but the bucket was not pruned after it: {error}",
    "pull.retired": "checkpoint {checkpoint} is retired and may be deleted while it is pulled; "
    "ckptsync keep {checkpoint} holds it",
    "push.parent_unreadable": "the manifest of {checkpoint} cannot be read, so everything is "
    "uploaded anew; see what 'ckptsync verify' says: {error}",
    "push.stored_unreadable": "whether {checkpoint} is the checkpoint of its name here cannot be "
    "told, so that is pushed; see what 'ckptsync verify' says: {error}",
    "push.unprepared": "the engine did not write a checkpoint when asked, so the newest there is "
    "will do: {error}",
    "reload.refused": "the configuration was not read anew, and everything stays as it was: "
    "{error}",
    "repository.foreign": "{store} belongs to pipeline '{owner}', not to this one",
    "request.failed": "{kind} failed: {error}",
    "role.diverged": "THE BUCKET WENT ON WITHOUT THIS NODE, which pushes nothing until an "
    "operator has decided with 'ckptsync diverged': {error}",
    "role.fenced": "this node is fenced, and writes nothing any more: {error}",
    "role.stopped": "this node writes nothing until an operator has judged: {error}",
    "role.unannounced": "the hook on_role_change was not told of role {role}: {error}",
    "standby.incomplete": "checkpoint {checkpoint} is not all there yet, so an older one is held "
    "ready until it is: {error}",
    "standby.lost": "checkpoint {checkpoint}, which was held ready here, is not whole any more: "
    "{problem}",
    "start.not_pulled": "the checkpoint to start from was not pulled: {error}",
    "start.unverified": "the engine may start, though nobody can say that no other node took "
    "over: {error}",
    "statcache.mismatch": "{path} changed without a trace in its times: all files of {checkpoint} "
    "are read again",
    "state.unavailable": "going on without what this host remembers, so a bucket that was emptied "
    "or went back in time is not noticed: {error}",
    "store.retrying": "{store}: {reason}; trying again",
    "switchover.engine_not_started": "the pipeline is this node's again, but its engine was not "
    "started: {error}",
    "switchover.waiting": "the bucket does not say who has the pipeline; asking again: {error}",
    "systemd.unreachable": "systemd cannot be told how this process is doing: {error}",
}
_SELDOM: Final = frozenset(
    {"fence.unchecked", "heartbeat.failed", "store.retrying", "switchover.waiting"}
)
"""Told once in a while, not each time."""
_WHILE: Final = 60.0  # seconds


class Sentences:
    """Renders events that have a sentence as `warning: ...`, and leaves others to `otherwise`.

    A field `hint`, where there is one, follows as `try: ...`.
    """

    def __init__(self, otherwise: Processor, clock: Callable[[], float] = monotonic) -> None:
        self._otherwise = otherwise
        self._clock = clock
        self._told: dict[str, float] = {}
        self._lock = threading.Lock()

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> Any:
        """Raises DropEvent for what was told within the last minute, as structlog wants it."""
        name: str = event["event"]
        if name not in SENTENCES:
            return self._otherwise(logger, method, event)
        text = SENTENCES[name].format_map(event)
        if name in _SELDOM and not self._due(text):
            raise structlog.DropEvent
        hint = event.get("hint")
        return f"warning: {text}; try: {hint}" if hint else f"warning: {text}"

    def _due(self, text: str) -> bool:
        now = self._clock()
        with self._lock:
            due = now - self._told.get(text, -_WHILE) >= _WHILE
            if due:
                self._told[text] = now
        return due
