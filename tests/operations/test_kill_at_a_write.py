"""SIGKILL at every write that push and pull make to the disk; see `kills` for what must hold."""

from pathlib import Path
from typing import Final

import pytest

from tests.crashes import in_fresh_interpreter
from tests.operations import kills

_SLICES: Final = 2  # so that two workers share the longer ones


@pytest.mark.parametrize("slice_", range(_SLICES))
@pytest.mark.parametrize("layout", ["directory", "feldera"])
@pytest.mark.parametrize("scenario", kills.SCENARIOS)
def test_a_kill_at_any_write_loses_nothing_and_shows_nothing_half(
    disk: Path, scenario: str, layout: str, slice_: int
) -> None:
    deaths = in_fresh_interpreter(
        kills.__name__, scenario, layout, str(slice_), str(_SLICES), str(disk)
    )

    assert int(deaths) >= 8
