from collections.abc import Iterator

import pytest

from tests.sources import samples


@pytest.fixture(autouse=True)
def _close_databases() -> Iterator[None]:
    yield
    while samples.opened:
        samples.opened.pop().close()
