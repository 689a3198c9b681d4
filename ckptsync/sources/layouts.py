"""The layouts there are: two built in, others from the entry-point group `ckptsync.layouts`."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

from ckptsync.errors import ConfigError
from ckptsync.sources import directory, feldera
from ckptsync.sources.base import Layout
from ckptsync.sources.directory import Directory
from ckptsync.sources.feldera import Feldera

GROUP: Final = "ckptsync.layouts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the configuration says of a pipeline's storage; a layout takes what it needs."""

    root: Path
    marker: str | None = None
    quiet: timedelta = directory.QUIET
    engine_running: Callable[[], bool] | None = None


Factory = Callable[[Options], Layout]
"""What an entry point of the group names."""


def layout(name: str, options: Options) -> Layout:
    """Raises ConfigError, with the names there are, if there is no such layout."""
    if name in _BUILT_IN:
        return _BUILT_IN[name](options)
    installed = entry_points(group=GROUP)
    if name in installed.names:
        try:
            factory: Factory = installed[name].load()
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"the layout {name!r} cannot be loaded: {error}") from error
        return factory(options)
    known = sorted({*_BUILT_IN, *installed.names})
    close = get_close_matches(name, known, n=1)
    raise ConfigError(
        f"there is no layout {name!r}; known are {', '.join(known)}",
        hint=f"did you mean {close[0]!r}?" if close else f"entry-point group {GROUP} adds others",
    )


def _feldera(options: Options) -> Layout:
    return Feldera(options.root)


def _directory(options: Options) -> Layout:
    return Directory(
        options.root,
        marker=options.marker,
        quiet=options.quiet,
        engine_running=options.engine_running,
    )


_BUILT_IN: Final[dict[str, Factory]] = {feldera.NAME: _feldera, directory.NAME: _directory}
