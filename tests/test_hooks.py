"""The operator's own commands: what they are told, and what becomes of their answers."""

import json
import os
import sys
import threading
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
import structlog

from ckptsync.errors import Cancelled, CannotTell, HookFailed
from ckptsync.hooks import Hook, Hooks


def hooks(
    hook: Hook,
    *command: str,
    timeout: timedelta = timedelta(hours=1),
    environment: Mapping[str, str] | None = None,
) -> Hooks:
    return Hooks(commands={hook: command}, timeout=timeout, environment=environment or {})


def told(facts: Mapping[str, str], environment: Mapping[str, str], seen: Path) -> dict[str, str]:
    """The environment of a hook that was run with these."""
    code = f"import json, os; json.dump(dict(os.environ), open({str(seen)!r}, 'w'))"
    hooks(Hook.ON_FENCED, sys.executable, "-c", code, environment=environment).run(
        Hook.ON_FENCED, facts
    )
    found: dict[str, str] = json.loads(seen.read_text())
    return found


def test_what_is_not_configured_is_not_run(tmp_path: Path) -> None:
    configured = hooks(Hook.ON_FENCED, "touch", str(tmp_path / "made"))

    configured.run(Hook.ON_ACTIVATE, {})

    assert [hook for hook in Hook if configured.has(hook)] == [Hook.ON_FENCED]
    assert not (tmp_path / "made").exists()


def test_a_hook_is_told_the_facts_and_what_this_process_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.setenv("WATCHDOG_USEC", "1")
    monkeypatch.setenv("AWS_PROFILE", "dr")

    found = told(
        {"role": "fenced", "previous_role": "primary"},
        {"CKPTSYNC_PIPELINE": "orders"},
        tmp_path / "seen",
    )

    ours = {name: value for name, value in found.items() if name.startswith("CKPTSYNC_")}
    assert ours == {
        "CKPTSYNC_HOOK": "on_fenced",
        "CKPTSYNC_PIPELINE": "orders",
        "CKPTSYNC_ROLE": "fenced",
        "CKPTSYNC_PREVIOUS_ROLE": "primary",
    }
    assert (found["AWS_PROFILE"], found["PATH"]) == ("dr", os.environ["PATH"])
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & found.keys()


@pytest.mark.parametrize(
    ("fact", "variable"),
    [
        ("a\0b", "a\N{REPLACEMENT CHARACTER}b"),
        ("\ud800", "?"),
        ("drill\nof May", "drill\nof May"),
        ("é" * 1_000_000, "é" * 4096),
    ],
)
def test_no_text_keeps_a_hook_from_being_run(tmp_path: Path, fact: str, variable: str) -> None:
    assert told({"reason": fact}, {}, tmp_path / "seen")["CKPTSYNC_REASON"] == variable


def test_arguments_meet_no_shell(tmp_path: Path) -> None:
    with pytest.raises(HookFailed):
        hooks(Hook.PRE_PUSH, "test", f"$(touch {tmp_path}/made)", "=", "").run(Hook.PRE_PUSH, {})

    assert list(tmp_path.iterdir()) == []


def test_what_a_hook_prints_is_logged_and_not_taken_for_our_output(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with structlog.testing.capture_logs() as logged:
        hooks(Hook.ON_ACTIVATE, "sh", "-c", "echo one; echo two >&2").run(Hook.ON_ACTIVATE, {})

    assert logged == [
        {
            "event": "hook.done",
            "log_level": "info",
            "hook": "on_activate",
            "output": ("one", "two"),
        }
    ]
    assert capfd.readouterr() == ("", "")


def test_a_failure_names_the_hook_and_its_last_words_but_no_argument() -> None:
    script = "echo first; echo the unit is masked; exit 4 # hush-hush"

    with structlog.testing.capture_logs() as logged, pytest.raises(HookFailed) as raised:
        hooks(Hook.ON_ACTIVATE, "sh", "-c", script).run(Hook.ON_ACTIVATE, {"request": "r1"})

    assert str(raised.value) == "the hook on_activate, 'sh', exited with 4: the unit is masked"
    (event,) = logged
    assert (event["event"], event["log_level"]) == ("hook.failed", "error")
    assert event["output"] == ("first", "the unit is masked")
    assert "hush" not in str(logged)


@pytest.mark.parametrize(
    ("command", "story"),
    [
        (("sh", "-c", "exit 1"), "'sh', exited with 1"),
        (("sh", "-c", "kill -TERM $$"), "'sh', was ended by signal 15"),
        (("/nonesuch", "x"), "'/nonesuch', could not be run: No such file or directory"),
    ],
)
def test_a_silent_failure_is_told_and_not_logged(command: tuple[str, ...], story: str) -> None:
    with structlog.testing.capture_logs() as logged, pytest.raises(HookFailed) as raised:
        hooks(Hook.PRE_ACTIVATE, *command).run(Hook.PRE_ACTIVATE, {})

    assert str(raised.value) == f"the hook pre_activate, {story}"
    assert logged == []


def test_a_last_line_without_end_is_cut_in_the_error() -> None:
    with pytest.raises(HookFailed) as raised:
        hooks(Hook.PRE_PUSH, "sh", "-c", "printf %03000d 0; exit 1").run(Hook.PRE_PUSH, {})

    assert str(raised.value).endswith(": " + "0" * 200)


def test_a_hook_that_takes_too_long_has_failed() -> None:
    slow = hooks(Hook.ON_RELEASE, "sleep", "600", timeout=timedelta(milliseconds=50))

    with pytest.raises(HookFailed, match="did not end within 50ms, and was stopped"):
        slow.run(Hook.ON_RELEASE, {})


def test_a_stop_is_no_failure_of_the_hook() -> None:
    stop = threading.Event()
    stop.set()

    with pytest.raises(Cancelled):
        hooks(Hook.ON_RELEASE, "true").run(Hook.ON_RELEASE, {}, stop=stop)
    with pytest.raises(Cancelled):
        hooks(Hook.ENGINE_RUNNING, "true").engine_running(stop=stop)


@pytest.mark.parametrize(("code", "running"), [(0, True), (1, False), (3, False)])
def test_a_clear_answer_is_taken(code: int, running: bool) -> None:
    asked = hooks(Hook.ENGINE_RUNNING, "sh", "-c", f"echo 123; exit {code}")

    with structlog.testing.capture_logs() as logged:
        assert asked.engine_running() is running
    assert logged == []


@pytest.mark.parametrize("code", [2, 4, 126, 127, 255])
def test_any_other_answer_is_no_answer(code: int) -> None:
    with pytest.raises(CannotTell, match=f"'sh', exited with {code}: no such unit"):
        hooks(Hook.ENGINE_RUNNING, "sh", "-c", f"echo no such unit; exit {code}").engine_running()


def test_a_command_that_is_not_there_or_takes_too_long_is_no_answer(tmp_path: Path) -> None:
    with pytest.raises(CannotTell, match="could not be run"):
        hooks(Hook.ENGINE_RUNNING, str(tmp_path / "nonesuch")).engine_running()
    with pytest.raises(CannotTell, match="did not end within 50ms"):
        hooks(
            Hook.ENGINE_RUNNING, "sleep", "600", timeout=timedelta(milliseconds=50)
        ).engine_running()
