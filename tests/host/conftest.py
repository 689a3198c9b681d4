"""Tests that need programs of Debian's. What is missing is a failure that names the package."""

import shutil
from collections.abc import Callable
from typing import Final

import pytest

_PACKAGES: Final = {
    "bash": "bash",
    "jq": "jq",
    "zstd": "zstd",
    "tar": "tar",
    "systemd-analyze": "systemd",
    "systemd-sysusers": "systemd",
    "node": "nodejs",
    "dpkg-deb": "dpkg",
}


@pytest.fixture(scope="session")
def require() -> Callable[..., None]:
    def required(*programs: str) -> None:
        missing = sorted(_PACKAGES[each] for each in programs if shutil.which(each) is None)
        if missing:
            pytest.fail(f"missing here: apt-get install {' '.join(missing)}", pytrace=False)

    return required
