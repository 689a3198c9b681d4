"""SIGKILL at writes of activation, rejoin and switchover to the disk; see `takeover_kills`.

CKPTSYNC_KILLS=1 kills at each of some 1,500 writes, which takes minutes. Else each scenario skips
some, so that all of them together take half a minute.
"""

import os
from pathlib import Path
from typing import Final

import pytest

from tests.crashes import in_fresh_interpreter
from tests.operations import takeover_kills

_ALL: Final = "CKPTSYNC_KILLS" in os.environ


@pytest.mark.parametrize(
    ("scenario", "layout", "first", "step"),
    [
        ("activate", "directory", 0, 5),
        ("activate", "feldera", 2, 5),
        ("activate warm", "directory", 1, 6),
        ("activate warm", "feldera", 3, 6),
        ("activate without the bucket", "directory", 0, 6),
        ("activate without the bucket", "feldera", 3, 6),
        ("rejoin", "directory", 0, 1),
        ("rejoin", "feldera", 0, 1),
        ("switch over", "directory", 0, 9),
        ("switch over", "feldera", 4, 9),
        ("take back", "directory", 0, 3),
    ],
)
@pytest.mark.timeout(900)
def test_a_kill_at_any_write_leaves_one_primary_and_everything_acknowledged(
    disk: Path, scenario: str, layout: str, first: int, step: int
) -> None:
    slice_, slices = (0, 1) if _ALL else (first, step)

    deaths = in_fresh_interpreter(
        takeover_kills.__name__, scenario, layout, str(slice_), str(slices), str(disk)
    )

    assert int(deaths) >= 8
