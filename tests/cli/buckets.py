"""A host whose bucket is a directory, for commands that tidy it up."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ckptsync.cli import ask
from ckptsync.cli.invocation import Invocation
from ckptsync.config.load import parse
from ckptsync.operations.orders import Push
from ckptsync.repository.head import Entry, Head
from ckptsync.repository.repository import read_head
from ckptsync.stores.local import LocalStore
from tests.e2e.site import Site
from tests.operations.actors import edit_head
from tests.pipelines import Impatient, write_tree

LEAN: Final[Mapping[str, Any]] = {"retention_min_count": 1, "retention_min_age": "0s"}
"""Only the newest checkpoint is kept."""


def pushed(home: Path, count: int) -> Site:
    """With checkpoints "step-1" and so on in its bucket, by rules that let none go."""
    site = Site.on_disk(home, layout="directory")
    site.write_config()
    config = parse(site.config.read_text(), site.config)
    for step in range(1, count + 1):
        write_tree(site.storage() / f"step-{step}", {"n": str(step).encode()})
        ask.carry_out(Invocation(stop=Impatient()), config, "orders", Push())
    return site


def ruled(site: Site, **sync: Any) -> Site:
    """The same host, whose rules were changed."""
    changed = replace(site, sync=sync)
    changed.write_config()
    return changed


def bucket(site: Site) -> LocalStore:
    return LocalStore(Path(site.buckets["orders"].removeprefix("file://")))


def head(site: Site) -> Head:
    return read_head(bucket(site)).head


def edit_entries(site: Site, edit: Callable[[Entry], Mapping[str, Any]]) -> None:
    """Change what head says of each checkpoint."""
    entries = head(site).checkpoints
    changed = tuple(each.model_copy(update=dict(edit(each))) for each in entries)
    edit_head(bucket(site), checkpoints=changed)


def states(site: Site) -> dict[str, str]:
    return {each.engine_id: each.state for each in head(site).checkpoints}
