"""A prune killed at each of its writes to the disk, its own and its bucket's; then another one.

    python -m tests.operations.prune_kills SLICE SLICES DIRECTORY

Prints how often it killed. The tests run it in an interpreter of its own, for it forks.
"""

import shutil
import sys
from functools import partial
from itertools import count
from pathlib import Path

import structlog

from tests.crashes import killed
from tests.operations.prunings import AFTER_EVERYTHING, Yard, states, with_everything


def _prune(yard: Yard) -> None:
    yard.host.prune(yard.store)


def main(slice_: str, slices: str, directory: str) -> None:
    home = Path(directory)
    yard = with_everything(home / "yard", on_disk=True)
    before = yard.require_sound()
    deaths = 0
    for number in count(int(slice_), int(slices)):
        left = yard.copied_to(home / f"{number}")
        if not killed(number, partial(_prune, left)):
            break
        deaths += 1
        between = left.require_sound(since=before)
        _prune(left)
        left.require_sound(since=between)
        assert states(left.store) == AFTER_EVERYTHING
        left.require_all_restore()
        left.settle()
        left.require_sound()
        left.require_tidy()
        shutil.rmtree(left.home)
    print(deaths)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    main(*sys.argv[1:])
