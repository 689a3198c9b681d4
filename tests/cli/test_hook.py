"""The question to the operator's own command."""

import json
import os
import sys
from pathlib import Path

import pytest

from ckptsync.cli.hook import engine_running, environment_for_hooks
from ckptsync.errors import CannotTell


@pytest.mark.parametrize(("code", "running"), [(0, True), (1, False), (3, False)])
def test_a_clear_answer_is_taken(code: int, running: bool) -> None:
    assert engine_running(["sh", "-c", f"exit {code}"])() is running


@pytest.mark.parametrize("code", [2, 4, 126, 127, 255])
def test_any_other_answer_is_no_answer(code: int) -> None:
    with pytest.raises(CannotTell, match=f"exited with {code}"):
        engine_running(["sh", "-c", f"exit {code}"])()


def test_a_command_that_is_not_there_is_no_answer(tmp_path: Path) -> None:
    with pytest.raises(CannotTell, match="could not be run"):
        engine_running([str(tmp_path / "nonesuch")])()


def test_arguments_meet_no_shell(tmp_path: Path) -> None:
    made = tmp_path / "made"

    assert engine_running(["test", "$(touch ", str(made), ")"]) is not None
    with pytest.raises(CannotTell):
        engine_running(["test", f"$(touch {made})", "a", "b", "c"])()
    assert not made.exists()


def test_what_the_command_prints_is_not_taken_for_our_output(
    capfd: pytest.CaptureFixture[str],
) -> None:
    engine_running(["sh", "-c", "echo running"])()

    assert capfd.readouterr().out == ""


def test_the_command_does_not_get_what_systemd_says_to_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.setenv("WATCHDOG_USEC", "1")
    seen = tmp_path / "seen"
    code = f"import json, os; json.dump(dict(os.environ), open({str(seen)!r}, 'w'))"

    engine_running([sys.executable, "-c", code])()

    environment = json.loads(seen.read_text())
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & environment.keys()
    assert environment["PATH"] == os.environ["PATH"]


def test_nothing_else_is_taken_from_the_environment() -> None:
    given = {"PATH": "/bin", "LISTEN_FDS": "1", "NOTIFY_SOCKET": "x", "AWS_PROFILE": "p"}

    assert environment_for_hooks(given) == {"PATH": "/bin", "AWS_PROFILE": "p"}
