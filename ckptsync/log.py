"""Logging: lines of JSON for machines, colours on a terminal; always on stderr."""

import logging
import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from ckptsync.escaping import escaped, escaped_lines

_SECRET: Final = re.compile(
    r"secret|password|passphrase|credential|authorization|token|access_key|private_key",
    re.IGNORECASE,
)
_USERINFO: Final = re.compile(r"(?<=://)[^/\s@]+(?=@)")
_HIDDEN: Final = "***"
_OF_MANY_LINES: Final = frozenset({"exception", "stack"})


def configure(
    *,
    json: bool | None,
    level: str = "info",
    told: Callable[[Processor], Processor] = lambda renderer: renderer,
) -> None:
    """Set up logging for the process; `json` None means JSON unless stderr is a terminal.

    `told` may put a renderer of its own around that for people; it gets text that cannot steer
    a terminal. Raises ValueError for an unknown level.
    """
    names = logging.getLevelNamesMapping()
    if level.upper() not in names:
        raise ValueError(f"{level!r} is not a level: write debug, info, warning or error")
    terminal = sys.stderr.isatty()
    rendering: list[Processor]
    if json or (json is None and not terminal):
        rendering = [structlog.processors.JSONRenderer(sort_keys=True)]
    else:
        rendering = [
            printable,
            told(
                structlog.dev.ConsoleRenderer(
                    colors=terminal and not os.environ.get("NO_COLOR"),
                    # The default, where rich is installed, prints local variables: secrets, too.
                    exception_formatter=structlog.dev.plain_traceback,
                )
            ),
        ]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,  # to text, so that redact sees every line
            redact,
            *rendering,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(names[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Hide what a field's name says is secret, at any depth, and passwords in URLs."""
    return {key: _redacted(key, value) for key, value in event.items()}


def _redacted(key: str, value: Any) -> Any:
    if _SECRET.search(key) and value is not None:
        return _HIDDEN
    if isinstance(value, str):
        return _USERINFO.sub(_HIDDEN, value)
    if isinstance(value, Mapping):
        return {str(name): _redacted(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(key, inner) for inner in value]
    return value


def printable(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Keep what came from a bucket from steering the terminal or passing for a line of ours."""
    return {key: _printable(key, value) for key, value in event.items()}


def _printable(key: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value  # the console shows its repr, which is printable
    return escaped_lines(value) if key in _OF_MANY_LINES else escaped(value)
