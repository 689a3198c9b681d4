"""The units that are shipped are what systemd understands."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.host

UNITS = Path(__file__).parents[2] / "systemd"


def test_systemd_finds_nothing_wrong_with_the_units(
    tmp_path: Path, require: Callable[..., None]
) -> None:
    require("systemd-analyze")
    for unit in UNITS.iterdir():
        text = unit.read_text().replace("ExecStart=ckptsync", f"ExecStart={shutil.which('true')}")
        (tmp_path / unit.name.replace("@.", "@orders.")).write_text(text)

    checked = subprocess.run(
        ["systemd-analyze", "verify", *tmp_path.iterdir()],
        capture_output=True,
        text=True,
        check=False,
    )

    complaints = [line for line in checked.stderr.splitlines() if str(tmp_path) in line]
    assert (checked.returncode, complaints) == (0, [])
