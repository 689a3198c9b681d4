"""A terminal that somebody watches, so that what is written to it never has to wait."""

import os
import pty
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Screen:
    """`descriptor` is the process's end; `text` is complete once the terminal is closed."""

    def __init__(self) -> None:
        self._watched, self.descriptor = pty.openpty()
        self._seen = bytearray()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()

    @property
    def text(self) -> str:
        return self._seen.decode(errors="replace")

    def close(self) -> None:
        """Call when every process that writes to it has ended."""
        os.close(self.descriptor)
        self._watcher.join()
        os.close(self._watched)

    def _watch(self) -> None:
        with suppress(OSError):  # how Linux says that nobody has the other end open any more
            while data := os.read(self._watched, 1 << 16):
                self._seen += data


@contextmanager
def terminal() -> Iterator[Screen]:
    screen = Screen()
    try:
        yield screen
    finally:
        screen.close()
