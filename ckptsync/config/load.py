"""Reading the file: every mistake in it is reported at once."""

import re
import tomllib
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from ckptsync.config.checks import Checks
from ckptsync.config.explain import Problem, problem, problems, unknown
from ckptsync.config.model import Config, Daemon, Pipeline
from ckptsync.config.providers import Scheme
from ckptsync.errors import ConfigError, PermissionRefused

DEFAULT_PATH: Final = Path("/etc/ckptsync/config.toml")

PIPELINE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")

_NONE: Final = Checks()
_TOP: Final = ("daemon", "defaults", "pipelines")

Table = Mapping[str, Any]
S = TypeVar("S", Daemon, Pipeline)


def load(path: Path, checks: Checks = _NONE) -> Config:
    """Read and check the file.

    Raises ConfigError listing every problem, not just the first; PermissionRefused.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path} does not exist",
            hint=f"ckptsync config example > {path}, or name another file with -c",
        ) from error
    except PermissionError as error:
        raise PermissionRefused(
            f"{path} may not be read by this user",
            hint="run ckptsync as the user who owns it, or add that user to its group",
        ) from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: byte {error.start} is wrong") from error
    return parse(text, path, checks)


def parse(text: str, path: Path, checks: Checks = _NONE) -> Config:
    """Check the text of a configuration file; `path` is for messages. Raises ConfigError."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    except RecursionError:
        raise ConfigError(f"{path} is not valid TOML: it is nested too deeply") from None
    found = [unknown((key,), _TOP) for key in document if key not in _TOP]
    daemon = _check(Daemon, ("daemon",), _table(document, "daemon", found), found, checks)
    pipelines = _pipelines(document, found, checks)
    if found or daemon is None:
        # The same mistake in the defaults comes up once for each pipeline.
        each_once = tuple(dict.fromkeys(map(str, found)))
        count = f"{len(each_once)} problems" if len(each_once) > 1 else "a problem"
        lines = (f"  {each}" for each in each_once)
        raise ConfigError("\n".join([f"{path} has {count}:", *lines]), problems=each_once)
    return Config(path=path, daemon=daemon, pipelines=pipelines)


def _pipelines(document: Table, found: list[Problem], checks: Checks) -> dict[str, Pipeline]:
    defaults = _table(document, "defaults", found)
    tables = _table(document, "pipelines", found)
    if not tables:
        found.append(problem(("pipelines",), "is required: at least one [pipelines.NAME]"))
    pipelines = {}
    for name in tables:
        at = ("pipelines", name)
        if not PIPELINE_NAME.fullmatch(name):
            found.append(problem(at, "must be named with up to 100 letters, digits, '_' and '-'"))
        own = _table(tables, name, found, at=at)
        mistakes: list[Problem] = []
        pipeline = _check(Pipeline, at, _merge(defaults, own), mistakes, checks)
        found += [_attribute(mistake, own, defaults) for mistake in mistakes]
        if pipeline is not None:
            pipelines[name] = pipeline
    found += _overlaps(pipelines)
    return pipelines


def _check(
    model: type[S], at: tuple[str, ...], table: Table, found: list[Problem], checks: Checks
) -> S | None:
    try:
        return model.model_validate(table, context=checks)
    except ValidationError as error:
        mistakes = problems(error, model)
        found += [Problem(at=at + mistake.at, text=mistake.text) for mistake in mistakes]
        return None


def _table(
    parent: Table, key: str, found: list[Problem], *, at: tuple[str, ...] | None = None
) -> Table:
    value = parent.get(key, {})
    if isinstance(value, dict):
        return value
    found.append(problem(at or (key,), "must be a table"))
    return {}


def _merge(defaults: Table, own: Table) -> Table:
    """What is written for the pipeline wins; a list is replaced, not appended to."""
    merged = dict(defaults)
    for key, value in own.items():
        inherited = defaults.get(key)
        if isinstance(value, dict) and isinstance(inherited, dict):
            merged[key] = _merge(inherited, value)
        else:
            merged[key] = value
    return merged


def _attribute(mistake: Problem, own: Table, defaults: Table) -> Problem:
    """Report what was inherited where it was written."""
    at = mistake.at[2:]
    if at and _holds(defaults, at) and not _holds(own, at):
        return Problem(at=("defaults", *at), text=mistake.text)
    return mistake


def _holds(table: Any, at: tuple[str, ...]) -> bool:
    for key in at:
        if not isinstance(table, dict):
            return isinstance(table, list)  # an index into a list that is there
        if key not in table:
            return False
        table = table[key]
    return True


def _overlaps(pipelines: Mapping[str, Pipeline]) -> list[Problem]:
    """A repository belongs to one pipeline, so no two may share one or lie within another."""
    return [
        problem(
            ("pipelines", name, "sync", "bucket"),
            f"overlaps that of pipeline {other!r} ({theirs.bucket}): give each its own prefix",
            value=str(mine.bucket),
        )
        for (other, theirs), (name, mine) in combinations(
            ((name, pipeline.sync) for name, pipeline in pipelines.items()), 2
        )
        if mine.bucket.overlaps(theirs.bucket)
        and (mine.endpoint == theirs.endpoint or mine.bucket.scheme is Scheme.FILE)
    ]
