"""Where the programs are that wheels brought along, so that none is needed on the PATH."""

import sysconfig
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path


def installed(program: str) -> str:
    """The path of a program. Raises FileNotFoundError."""
    return _existing(Path(sysconfig.get_path("scripts"), program))


def s5cmd() -> str:
    """The program itself, not the script of that name, which starts a Python to start it.

    Raises FileNotFoundError.
    """
    try:
        packages = distribution("s5cmd").locate_file("")
    except PackageNotFoundError as error:
        raise FileNotFoundError("s5cmd is missing; 'make bench' installs it") from error
    return _existing(Path(str(packages), "s5cmd", "bin", "s5cmd"))


def _existing(path: Path) -> str:
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; 'make bench' installs it")
    return str(path)
