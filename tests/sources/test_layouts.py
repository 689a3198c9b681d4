import sys
from pathlib import Path

import pytest

from ckptsync.errors import ConfigError
from ckptsync.sources.directory import Directory
from ckptsync.sources.feldera import Feldera
from ckptsync.sources.layouts import Options, layout


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution with two layouts, as pip would install it."""
    info = tmp_path / "mylayouts-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mylayouts\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[ckptsync.layouts]\nmine = mylayouts:make\nbroken = mylayouts:absent\n"
    )
    (tmp_path / "mylayouts.py").write_text(
        "from ckptsync.sources.directory import Directory\n"
        "class Mine(Directory):\n    name = 'mine'\n"
        "def make(options):\n    return Mine(options.root, marker=options.marker)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mylayouts", raising=False)


def test_the_layouts_that_ship_are_found_by_name(tmp_path: Path) -> None:
    assert isinstance(layout("feldera", Options(root=tmp_path)), Feldera)
    assert isinstance(layout("directory", Options(root=tmp_path)), Directory)
    assert layout("feldera", Options(root=tmp_path)).name == "feldera"


def test_the_options_reach_the_layout(tmp_path: Path) -> None:
    made = layout("directory", Options(root=tmp_path, engine_running=lambda: True))

    assert made.engine_running() is True


@pytest.mark.usefixtures("installed")
def test_a_layout_of_another_package_is_found_by_name(tmp_path: Path) -> None:
    assert layout("mine", Options(root=tmp_path)).name == "mine"


@pytest.mark.usefixtures("installed")
def test_a_layout_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'broken' cannot be loaded: .*absent"):
        layout("broken", Options(root=tmp_path))


@pytest.mark.usefixtures("installed")
def test_an_unknown_layout_is_an_error_with_the_list_and_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="known are broken, directory, feldera, mine") as raised:
        layout("felder", Options(root=tmp_path))

    assert raised.value.hint == "did you mean 'feldera'?"
