"""What is built installs elsewhere and runs there: the wheel, and the Debian package."""

import io
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from ckptsync import __version__
from ckptsync.config.example import example

pytestmark = pytest.mark.host

Require = Callable[..., None]

PROJECT: Final = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", directory, PROJECT)
    (made,) = directory.iterdir()
    return made


def test_the_wheel_carries_what_is_read_at_run_time_and_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())

    read = {"config/example.toml", "repository/RECOVER.md", "py.typed"}
    assert {f"ckptsync/{name}" for name in read} <= names
    metadata = f"ckptsync-{__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"ckptsync", metadata}
    assert f"{metadata}/licenses/LICENSE" in names


def test_the_wheel_installs_into_an_empty_environment_and_runs(tmp_path: Path, wheel: Path) -> None:
    # As 'pipx install' does, but with the libraries of this environment, not from an index.
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", python]
    run(*pip, "install", "--no-deps", "--no-index", wheel)
    (site,) = home.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib"))

    ckptsync = home / "bin" / "ckptsync"
    assert run(ckptsync, "--version", cwd=tmp_path) == f"ckptsync {__version__}\n"
    assert run(ckptsync, "config", "example", cwd=tmp_path) == example()
    where = run(python, "-c", "import ckptsync; print(ckptsync.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(home)


# The Debian package


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make deb` does, which fetches the libraries from an index."""
    if shutil.which("dpkg-deb") is None:
        pytest.fail("missing here: apt-get install dpkg", pytrace=False)
    directory = tmp_path_factory.mktemp("deb")
    run(PROJECT / "packaging" / "build-deb", sys.executable, directory)
    (made,) = directory.iterdir()
    return made


@pytest.fixture(scope="module")
def unpacked(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    run("dpkg-deb", "--raw-extract", package, root)
    return root


def test_the_package_wants_the_python_it_was_built_with(package: Path) -> None:
    major, minor = sys.version_info[:2]
    facts = run("dpkg-deb", "--field", package, "Package", "Version", "Depends")

    assert facts.splitlines() == [
        "Package: ckptsync",
        f"Version: {__version__}",
        f"Depends: python3 (>= {major}.{minor}), python3 (<< {major}.{minor + 1}), systemd",
    ]


def test_everything_in_the_package_is_roots_and_only_root_may_write_it(package: Path) -> None:
    stream = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", package], capture_output=True, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(stream)) as archive:
        members = archive.getmembers()

    assert {(member.uname, member.gname) for member in members} == {("root", "root")}
    assert [
        member.name
        for member in members
        if not member.issym() and member.mode & (stat.S_IWGRP | stat.S_IWOTH | stat.S_ISUID)
    ] == []
    closed = [member.name for member in members if member.isdir() and member.mode != 0o755]
    assert closed == ["./etc/ckptsync"]


def test_the_packages_program_runs_its_own_code_wherever_it_lies(
    unpacked: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(unpacked / "opt" / "ckptsync", moved, symlinks=True)
    with (moved / "lib" / "ckptsync" / "config" / "example.toml").open("a") as file:
        file.write("# this very copy\n")

    python: list[str | Path] = [sys.executable, "-I", moved / "bin" / "ckptsync"]
    assert run(*python, "--version", cwd=tmp_path) == f"ckptsync {__version__}\n"
    assert run(*python, "config", "example") == example() + "# this very copy\n"
    link = unpacked / "usr" / "bin" / "ckptsync"
    assert link.readlink() == Path("/opt/ckptsync/bin/ckptsync")


def test_what_is_in_the_package_is_built_for_where_it_will_lie(unpacked: Path) -> None:
    scripts = [unpacked / "opt/ckptsync/bin/ckptsync", *(unpacked / "usr/lib/ckptsync").iterdir()]

    assert {path.read_text().splitlines()[0] for path in scripts} == {
        "#!/usr/bin/python3 -I",
        "#!/bin/sh",
    }
    compiled = [*(unpacked / "opt" / "ckptsync" / "lib" / "ckptsync").rglob("*.pyc")]
    assert compiled
    for path in compiled:
        assert b"/opt/ckptsync/lib/ckptsync/" in path.read_bytes()


def test_the_package_installs_the_units_and_the_rule_as_they_are(unpacked: Path) -> None:
    units = unpacked / "usr" / "lib" / "systemd" / "system"
    shipped = {
        path.name
        for path in (PROJECT / "systemd").iterdir()
        if path.suffix in {".service", ".timer", ".path"}
    }

    assert {path.name for path in units.iterdir()} == shipped
    rule = unpacked / "usr/share/polkit-1/rules.d/50-ckptsync.rules"
    assert rule.read_text() == (PROJECT / "systemd" / "50-ckptsync.rules").read_text()
    run_by_units = unpacked / "usr" / "lib" / "ckptsync"
    assert {
        f"/usr/lib/ckptsync/{path.name}"
        for path in run_by_units.iterdir()
        if os.access(path, os.X_OK)
    } == {"/usr/lib/ckptsync/answer-request", "/usr/lib/ckptsync/request-engine"}


def test_the_user_of_the_units_is_made(unpacked: Path, tmp_path: Path, require: Require) -> None:
    require("systemd-sysusers")
    root = tmp_path / "root"
    shutil.copytree(unpacked / "usr" / "lib" / "sysusers.d", root / "usr" / "lib" / "sysusers.d")
    (root / "etc").mkdir()

    run("systemd-sysusers", f"--root={root}")

    users = [line.split(":") for line in (root / "etc" / "passwd").read_text().splitlines()]
    ((name, _, _, _, _, home, shell),) = users
    assert (name, home) == ("ckptsync", "/var/lib/ckptsync")
    assert shell.endswith("nologin")
    assert "ckptsync" in (root / "etc" / "group").read_text()


@pytest.mark.parametrize(("script", "arguments"), [("postinst", ["configure", ""]),
    ("postinst", ["configure", "0.0.1"]), ("prerm", ["upgrade", "9"]), ("prerm", ["remove"]),
    ("postrm", ["remove"]), ("postrm", ["purge"])])  # fmt: skip
def test_the_package_is_installed_and_removed_where_systemd_does_not_run(
    unpacked: Path, tmp_path: Path, script: str, arguments: list[str]
) -> None:
    text = (
        (unpacked / "DEBIAN" / script).read_text().replace("/run/systemd/system", f"{tmp_path}/no")
    )
    for name in ("systemd-sysusers", "chgrp"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/called\n')
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"

    subprocess.run(["sh", "-c", text, script, *arguments], env={"PATH": path}, check=True)

    called = tmp_path / "called"
    assert (called.read_text().splitlines() if called.exists() else []) == (
        ["systemd-sysusers ckptsync.conf", "chgrp ckptsync /etc/ckptsync"]
        if script == "postinst"
        else []
    )
