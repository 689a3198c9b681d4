"""Commands end, with what they started, and nothing waits for what they leave behind."""

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from ckptsync import spawn
from ckptsync.errors import Cancelled
from ckptsync.spawn import Ended
from tests.unprivileged import refused

LONG: Final = timedelta(hours=1)
PATIENCE: Final = 60.0  # seconds


def run(*command: str, timeout: timedelta = LONG, stop: threading.Event | None = None) -> Ended:
    return spawn.run(command, os.environ, timeout=timeout, stop=stop)


class Line:
    """A FIFO to a command: what it says, and whether anybody still holds the other end."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def close(self) -> None:
        os.close(self._end)

    def hear(self) -> str:
        """Wait until something is said."""
        assert select.select([self._end], [], [], PATIENCE)[0], "nothing was said"
        return os.read(self._end, 100).decode().strip()

    def is_held(self) -> bool:
        try:
            return os.read(self._end, 100) != b""
        except BlockingIOError:
            return True


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path / "line")
    yield made
    made.close()


@contextmanager
def stopping_once_it_speaks(line: Line) -> Iterator[threading.Event]:
    stop = threading.Event()

    def listen() -> None:
        line.hear()
        stop.set()

    listener = threading.Thread(target=listen)
    listener.start()
    yield stop
    listener.join()


@pytest.mark.parametrize(
    ("script", "code", "how"),
    [
        ("true", 0, "exited with 0"),
        ("exit 3", 3, "exited with 3"),
        ("kill -9 $$", -9, "was ended by signal 9"),
    ],
)
def test_how_a_command_ended_is_told(script: str, code: int, how: str) -> None:
    assert run("sh", "-c", script) == Ended(how=how, code=code)


def test_a_command_that_cannot_be_run_never_began(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")

    assert run(str(tmp_path / "none")) == Ended(how="could not be run: No such file or directory")
    assert run(str(tmp_path / "text")) == Ended(how="could not be run: Permission denied")


def test_without_room_for_its_output_a_command_never_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))

    assert run("true") == Ended(how="could not be run: No such file or directory")


def test_a_command_has_no_input_and_no_terminal() -> None:
    assert run("cat").code == 0
    assert run(sys.executable, "-c", "import os; assert os.getsid(0) == os.getpid()").code == 0


def test_both_outputs_are_kept_in_their_order_without_blank_lines() -> None:
    ended = run("sh", "-c", r"echo one; echo; echo two >&2; printf '\377three'")

    assert ended.output == ("one", "two", "\N{REPLACEMENT CHARACTER}three")


def test_of_much_output_the_end_is_kept_and_the_disk_is_given_back() -> None:
    code = """
import os, sys, time
for number in range(40_000):
    print(number, "x" * 50)
print("the last line", flush=True)
while os.fstat(1).st_size:  # somebody cuts it short
    time.sleep(0.01)
sys.exit(3)
"""
    ended = run(sys.executable, "-c", code)

    assert ended.code == 3
    assert ended.output[-1] == "the last line"
    assert ended.output[-2].startswith("39999 ")
    assert len("\n".join(ended.output)) < 4096


def test_a_command_whose_time_is_up_is_ended(line: Line) -> None:
    ended = run("sh", "-c", f"exec 3>{line.path}; sleep 600 & wait", timeout=timedelta(seconds=0.5))

    assert ended == Ended(how="did not end within 500ms, and was stopped")
    assert not line.is_held()


def test_a_stop_ends_a_command_and_what_it_started(line: Line, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    script = f"""
        exec 3>{line.path}
        sh -c 'sleep 600 & echo up >&3; wait' &
        trap 'echo asked >{asked}; exit 0' TERM
        wait
    """

    with (
        stopping_once_it_speaks(line) as stop,
        pytest.raises(Cancelled, match="stopped while a command ran"),
    ):
        run("sh", "-c", script, stop=stop)

    assert not line.is_held()
    assert asked.exists(), "it was not asked before it was killed"


def test_what_does_not_listen_is_killed(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawn, "_GRACE", 0.1)
    deaf = f"""exec 3>{line.path}; (trap "" TERM; echo up >&3; sleep 600) & wait"""

    with stopping_once_it_speaks(line) as stop, pytest.raises(Cancelled):
        run("sh", "-c", deaf, stop=stop)

    assert not line.is_held()


def test_nothing_begins_after_a_stop(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()

    with pytest.raises(Cancelled, match="before 'touch' was run"):
        run("touch", str(tmp_path / "made"), stop=stop)

    assert not (tmp_path / "made").exists()


def test_what_is_left_running_is_not_waited_for_and_may_go_on_printing(
    line: Line, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    engine = f"read word <{go}; echo printed; echo alive >{line.path}; read word <{go}"

    ended = run("sh", "-c", f"({engine}) & echo $!")

    try:
        go.write_text("on\n")
        assert line.hear() == "alive"
    finally:
        os.kill(int(ended.output[0]), signal.SIGKILL)
    assert ended.code == 0


def test_a_command_that_cannot_be_ended_is_not_waited_for() -> None:
    found = refused(
        "import subprocess\n"
        "from ckptsync import spawn\n"
        "spawn._GRACE = 0.1\n"
        "quiet = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL}\n"
        "child = subprocess.Popen(['sleep', '5'], start_new_session=True, **quiet)",
        "print(spawn._end(child))",
        Path("unused"),
    )

    assert found == str(os.geteuid() != 0), "only root's child cannot be ended by another user"
