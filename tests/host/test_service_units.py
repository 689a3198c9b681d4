"""The units that are shipped are what systemd understands, and let in no more than they must."""

import fnmatch
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from ckptsync import errors
from ckptsync.config.example import example
from ckptsync.config.load import parse
from ckptsync.errors import CkptsyncError

pytestmark = pytest.mark.host

Require = Callable[..., None]

UNITS: Final = Path(__file__).parents[2] / "systemd"
DAEMONS: Final = ["ckptsync.service", "ckptsync@.service"]
PRUNER: Final = "ckptsync-prune@.service"
STORAGE: Final = UNITS / "ckptsync@.service.d" / "storage.conf.example"
GATE: Final = UNITS / "pipeline@.service.d" / "ckptsync.conf"
READ_BY_SYSTEMD: Final = {".service", ".timer", ".path", ".conf", ".example"}
PROGRAMS: Final = re.compile(
    r"^(Exec\w+=)(ckptsync|/usr/lib/ckptsync/[a-z-]+)(?= |$)", re.MULTILINE
)


@pytest.fixture
def installed(tmp_path: Path, require: Require) -> Path:
    """A directory with all units, for a pipeline `orders`, whose programs are all there."""
    require("systemd-analyze")
    units = tmp_path / "units"
    for path in UNITS.rglob("*"):
        if path.suffix in READ_BY_SYSTEMD:
            target = units / path.relative_to(UNITS).with_name(path.name.removesuffix(".example"))
            target.parent.mkdir(exist_ok=True, parents=True)
            target.write_text(PROGRAMS.sub(rf"\1{shutil.which('true')}", path.read_text()))
    (units / "pipeline@.service").write_text("[Service]\nExecStart=/bin/sleep infinity\n")
    return units


def analyze(units: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "SYSTEMD_UNIT_PATH": f"{units}:", "LC_ALL": "C.UTF-8"},
    )


def test_systemd_finds_nothing_wrong_with_the_units_and_their_drop_ins(installed: Path) -> None:
    names = [
        path.name.replace("@.", "@orders.")
        for path in installed.iterdir()
        if path.suffix in {".service", ".timer", ".path"}
    ]

    checked = analyze(installed, "verify", *names)

    assert len(names) == 11
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_systemd_is_heard_where_it_finds_something(installed: Path) -> None:
    with (installed / "ckptsync@.service.d" / "storage.conf").open("a") as drop_in:
        drop_in.write("[Service]\nProtectEverything=yes\n")

    assert "ProtectEverything" in analyze(installed, "verify", "ckptsync@orders.service").stderr


@pytest.mark.parametrize("unit", [*DAEMONS, PRUNER])
def test_what_runs_for_long_or_may_delete_is_exposed_to_less_than_two_of_ten(
    installed: Path, unit: str
) -> None:
    said = analyze(
        installed, "security", "--offline=true", "--no-pager", str(installed / unit)
    ).stdout

    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert level is not None, said
    assert float(level[1]) < 2.0


def test_one_daemon_for_all_pipelines_is_run_as_one_for_each() -> None:
    each, all_ = (dict(enumerate(settings(UNITS / name, "Service"))) for name in reversed(DAEMONS))
    different = {each[number] for number in each if each[number] != all_[number]}

    assert len(each) == len(all_)
    assert different == {("ExecStart", "ckptsync run %i"), ("RuntimeDirectory", "ckptsync/%i")}


def test_a_pruner_has_the_daemons_sandbox_and_is_that_node() -> None:
    daemon, pruner = (
        list(settings(UNITS / name, "Service")) for name in ("ckptsync@.service", PRUNER)
    )
    sandbox = daemon[daemon.index(("ProtectSystem", "strict")) :]
    itself = {"User", "Group", "UMask", "StateDirectory", "StateDirectoryMode", "Environment"}

    assert pruner[-len(sandbox) :] == sandbox
    assert {each for each in daemon if each[0] in itself} <= set(pruner)
    assert ("ExecStart", "ckptsync prune %i") in pruner


def test_a_pruner_runs_every_hour_and_makes_up_for_what_it_missed() -> None:
    timer = dict(settings(UNITS / "ckptsync-prune@.timer", "Timer"))

    assert (timer["OnCalendar"], timer["Persistent"]) == ("hourly", "yes")
    assert "RandomizedDelaySec" in timer
    assert "ckptsync-prune@orders.timer" in DOCUMENT


def test_a_removal_of_the_package_stops_every_unit() -> None:
    stopped = re.findall(r"ckptsync[-.@*\w]+", (UNITS.parent / "packaging" / "prerm").read_text())
    shipped = [
        path.name.replace("@.", "@orders.")
        for path in UNITS.iterdir()
        if path.suffix in {".service", ".timer", ".path"}
    ]

    assert [
        name for name in shipped if not any(fnmatch.fnmatch(name, each) for each in stopped)
    ] == []


def settings(unit: Path, section: str) -> Iterator[tuple[str, str]]:
    """The assignments of a section, in their order."""
    text = re.sub(r"\\\n *", "", unit.read_text())
    (body,) = re.findall(rf"^\[{section}\]\n(.*?)(?=^\[|\Z)", text, re.MULTILINE | re.DOTALL)
    for line in body.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.partition("=")
            yield name, value


def test_what_passes_by_itself_is_tried_again() -> None:
    service = dict(settings(UNITS / "ckptsync@.service", "Service"))
    kept_down = {int(code) for code in service["RestartPreventExitStatus"].split()}

    assert service["Restart"] == "on-failure"
    assert kept_down.isdisjoint(kind.exit_code for kind in error_classes() if kind.transient)
    assert kept_down <= {kind.exit_code for kind in error_classes()}


def error_classes(kind: type[CkptsyncError] = CkptsyncError) -> Iterator[type[CkptsyncError]]:
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from error_classes(below)


def test_storage_and_work_directory_are_opened_as_one_mount() -> None:
    # With an entry for each, rename(2) from one into the other fails with EXDEV.
    drop_in = dict(settings(STORAGE, "Service"))
    storage = parse(example(), Path("example.toml")).pipelines["orders"].storage_path
    work = storage.parent / ".ckptsync-orders"

    opened = [Path(path) for path in drop_in["ReadWritePaths"].split()]

    assert [path for path in opened if storage.is_relative_to(path)] == opened
    assert [path for path in opened if work.is_relative_to(path)] == opened
    assert len(opened) == 1


# What the document says


DOCUMENT: Final = (UNITS.parent / "docs" / "systemd.md").read_text()
PIPELINE: Final = """
[pipelines.orders]
storage_path = "/var/lib/feldera/orders"
sync = { bucket = "s3://acme-dr/orders" }
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)


def test_the_configurations_in_the_document_are_valid() -> None:
    written = blocks("toml")

    assert len(written) == 3
    for text in written:
        assert parse(f"{text}{PIPELINE}", Path("systemd.md")).choose(None) == "orders"


def test_the_drop_in_of_the_document_is_the_one_that_is_shipped() -> None:
    shipped = STORAGE.read_text().splitlines()

    written = [line for line in blocks("ini")[0].splitlines() if line and line[0] != "#"]
    assert [line for line in shipped if line and line[0] != "#"] == written


@pytest.mark.parametrize("wish", ["start", "stop"])
def test_what_the_document_names_is_there(wish: str) -> None:
    assert f"ckptsync-engine-{wish}@orders.path" in DOCUMENT
    assert (UNITS / f"ckptsync-engine-{wish}@.path").exists()
    assert f'["/usr/lib/ckptsync/request-engine", "{wish}", "orders"]' in DOCUMENT


# The gate before an engine


@pytest.mark.parametrize(
    ("answer", "condition"),
    [(0, 0), (11, 1), (13, 1), (1, 255), (2, 255), (12, 255), (14, 255), (16, 255), (70, 255)],
)
def test_an_engine_starts_on_yes_is_skipped_on_no_and_fails_on_what_is_neither(
    tmp_path: Path, answer: int, condition: int
) -> None:
    program(tmp_path / "setpriv", f'echo "$@" >> {tmp_path}/asked; while [ "${{1#-}}" != "$1" ]; '
            'do shift; done; exec "$@"')  # fmt: skip
    program(tmp_path / "ckptsync", f'echo "$XDG_STATE_HOME" >> {tmp_path}/asked; exit {answer}')

    assert gate(tmp_path).returncode == condition
    asked = "--reuid=ckptsync --regid=ckptsync --init-groups ckptsync may-start orders\n/var/lib\n"
    assert (tmp_path / "asked").read_text() == asked


def test_an_engine_does_not_start_where_ckptsync_is_not_installed(tmp_path: Path) -> None:
    program(tmp_path / "setpriv", "exec /nowhere/ckptsync")

    assert gate(tmp_path).returncode == 255


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def gate(programs: Path) -> subprocess.CompletedProcess[str]:
    """Run the condition as systemd would, with these programs first in PATH."""
    condition = dict(settings(GATE, "Service"))["ExecCondition"]
    assert condition.startswith("+")
    arguments = shlex.split(condition[1:].replace("$$", "$").replace("%i", "orders"))
    return subprocess.run(
        arguments,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": f"{programs}:/usr/bin:/bin"},
    )


# What the units forbid


_IMPORT_ALL: Final = """
import ctypes, errno, os, sys
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) != 0:
    sys.exit(os.strerror(ctypes.get_errno()))
import mmap
try:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
except PermissionError:
    pass
else:
    sys.exit("writable code was granted")
import importlib, pkgutil
import ckptsync
for module in pkgutil.walk_packages(ckptsync.__path__, "ckptsync."):
    importlib.import_module(module.name)
from awscrt.checksums import crc32c
from blake3 import blake3
from zstandard import compress
crc32c(compress(blake3(bytes(1 << 20), max_threads=blake3.AUTO).digest()))
import boto3
boto3.client("s3", region_name="eu-central-1", aws_access_key_id="a", aws_secret_access_key="b")
"""


def test_everything_is_loaded_without_memory_that_can_be_both_written_and_run() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT_ALL], capture_output=True, text=True, check=False
    )

    if done.stderr == "Invalid argument\n":
        pytest.skip("this kernel is older than 6.3, and cannot forbid it")
    assert (done.returncode, done.stderr) == (0, "")
