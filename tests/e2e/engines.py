"""Engines that hooks start and stop, as units of a service manager would."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tests.e2e.daemons import eventually
from tests.e2e.site import COMMAND, Site
from tests.fakes.feldera_engine import read_record

_REPOSITORY: Final = Path(__file__).resolve().parents[2]

_START: Final = """\
#!/bin/sh
{gate} orders > {home}/gate 2>&1 || exit $?
rm -f {home}/resumed {home}/output
(cd {repository} && exec {python} -m tests.fakes.feldera_engine {storage} --count 3000 \
    --interval 0.1 --batch-bytes 1024 --record {home}/record --resumed {home}/resumed --last \
    > {home}/output 2>&1) &
echo $! > {home}/pid.new && mv {home}/pid.new {home}/pid
while ! grep -qs started {home}/output; do kill -0 $! || exit 1; sleep 0.02; done
"""
_STOP: Final = """\
#!/bin/sh
test -e {home}/pid || exit 0
pid=$(cat {home}/pid)
kill -$1 $pid
# The dead may stay as zombies, where nobody asks how they ended.
while grep -qs '^State:.[^ZX]' /proc/$pid/status; do sleep 0.02; done
rm {home}/pid
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostEngine:
    """The engine of a host. Its start asks `ckptsync may-start` first."""

    site: Site
    """With the hooks that start and stop it."""

    @classmethod
    def on(cls, site: Site) -> "HostEngine":
        start, stop = site.home / "start-engine", site.home / "stop-engine"
        _script(start, _START, site, gate=shlex.join([str(COMMAND), "may-start"]))
        _script(site.home / "start-ungated", _START, site, gate="true")
        _script(stop, _STOP, site)
        hooks = {
            **site.hooks,
            "on_activate": (str(start),),
            "on_release": (str(stop), "TERM"),
            "on_fenced": (str(stop), "KILL"),
        }
        site = replace(site, hooks=hooks)
        site.write_config()
        return cls(site=site)

    def start(self, *, gated: bool = True) -> None:
        name = "start-engine" if gated else "start-ungated"
        subprocess.run([self.site.home / name], env=self.site.environment(), check=True, timeout=60)

    def kill(self) -> None:
        """As the loss of power would. Does nothing where none runs."""
        with suppress(FileNotFoundError):
            os.kill(int((self.site.home / "pid").read_text()), signal.SIGKILL)
            eventually(lambda: not self.runs)
            (self.site.home / "pid").unlink()

    @property
    def runs(self) -> bool:
        with suppress(FileNotFoundError):
            pid = int((self.site.home / "pid").read_text())
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            return state not in {"Z", "X"}
        return False

    @property
    def written(self) -> Mapping[str, Mapping[str, str]]:
        """The files of each checkpoint that it wrote on this host, the oldest first."""
        return read_record(self.site.home / "record")

    @property
    def resumed(self) -> Any:
        """What the engine that was started last has gone on from."""
        return json.loads((self.site.home / "resumed").read_text())


@contextmanager
def engine(site: Site) -> Iterator[HostEngine]:
    """None runs yet; at the end none does any more."""
    made = HostEngine.on(site)
    try:
        yield made
    finally:
        made.kill()


def _script(path: Path, text: str, site: Site, **more: str) -> None:
    facts = {
        "home": site.home,
        "storage": site.storage(),
        "repository": _REPOSITORY,
        "python": sys.executable,
    }
    quoted = {name: shlex.quote(str(each)) for name, each in facts.items()}
    path.write_text(text.format(**quoted, **more))
    path.chmod(0o700)
