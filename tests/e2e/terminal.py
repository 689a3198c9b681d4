"""A terminal that somebody watches, so that what is written to it never has to wait."""

import os
import pty
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

_PATIENCE: Final = 60.0  # seconds, for a machine that does much else


class Screen:
    """`descriptor` is the process's end; `text` is complete once the terminal is closed."""

    def __init__(self) -> None:
        self._watched, self.descriptor = pty.openpty()
        self._seen = bytearray()
        self._more = threading.Condition()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()

    @property
    def text(self) -> str:
        return self._seen.decode(errors="replace")

    def await_(self, shown: Callable[[str], bool]) -> None:
        """Wait until what was written so far is as it should be."""
        with self._more:
            assert self._more.wait_for(lambda: shown(self.text), timeout=_PATIENCE), self.text

    def type(self, text: str) -> None:
        """As somebody at the keyboard would; \\x04 ends the input."""
        os.write(self._watched, text.encode())

    def close(self) -> None:
        """Call when every process that writes to it has ended."""
        os.close(self.descriptor)
        self._watcher.join()
        os.close(self._watched)

    def _watch(self) -> None:
        with suppress(OSError):  # how Linux says that nobody has the other end open any more
            while data := os.read(self._watched, 1 << 16):
                with self._more:
                    self._seen += data
                    self._more.notify_all()


@contextmanager
def terminal() -> Iterator[Screen]:
    screen = Screen()
    try:
        yield screen
    finally:
        screen.close()
