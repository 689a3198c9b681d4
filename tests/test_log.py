"""One line an event; never a secret in it."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from ckptsync.log import configure


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def lines(captured: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    out, err = captured.readouterr()
    assert out == "", "standard output belongs to the command"
    return [json.loads(line) for line in err.splitlines()]


def test_an_event_is_one_line_of_json_where_stderr_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(json=None)

    with structlog.contextvars.bound_contextvars(pipeline="orders"):
        structlog.get_logger().info("checkpoint.committed", checkpoint="0001", bytes=12)

    (line,) = lines(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "checkpoint.committed",
        "level": "info",
        "pipeline": "orders",
        "checkpoint": "0001",
        "bytes": 12,
    }


def test_what_is_below_the_level_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure(json=True, level="warning")

    structlog.get_logger().info("a")
    structlog.get_logger().warning("b")

    assert [line["event"] for line in lines(capsys)] == ["b"]


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="'loud' is not a level: write debug"):
        configure(json=True, level="loud")


@pytest.mark.parametrize("as_json", [True, False])
def test_secrets_are_hidden_wherever_they_stand(
    capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    configure(json=as_json)

    structlog.get_logger().error(
        "store.failed",
        exc_info=RuntimeError("cannot reach https://me:hush@host/x"),
        secret_key="hush",
        access_key=["hush"],
        headers={"Authorization": "hush", "nested": {"session_token": "hush"}},
        url="https://me:hush@host/x",
    )

    err = capsys.readouterr().err
    assert "store.failed" in err
    assert "RuntimeError: cannot reach https://***@host/x" in err
    assert "hush" not in err


def test_what_a_bucket_says_cannot_steer_a_terminal_nor_begin_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(json=False)
    hostile = "o\x1b]0;PWNED\x07\nerror: forged"

    with structlog.contextvars.bound_contextvars(pipeline=hostile):
        structlog.get_logger().warning(
            hostile, one="a\x1b[2Kb", keys=[hostile], nested={hostile: hostile}
        )
    err = capsys.readouterr().err

    assert len(err.splitlines()) == 1
    assert all(character.isprintable() for character in err.rstrip("\n"))
    assert r" o\x1b]0;PWNED\x07\x0aerror: forged " in err
    assert r" one=a\x1b[2Kb " in err


def test_a_stack_keeps_its_lines_and_loses_its_escapes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(json=False)

    structlog.get_logger().error("x.y", exc_info=RuntimeError("o\x1b]0;PWNED\x07"), stack="a\nb")
    err = capsys.readouterr().err

    assert "\na\nb\n" in err
    assert err.splitlines()[-1] == r"RuntimeError: o\x1b]0;PWNED\x07"


def test_a_terminal_gets_colours_unless_it_asked_for_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    configure(json=None)
    structlog.get_logger().info("x.y")
    coloured = capsys.readouterr().err

    monkeypatch.setenv("NO_COLOR", "1")
    configure(json=None)
    structlog.get_logger().info("x.y")
    plain = capsys.readouterr().err

    assert "\x1b[" in coloured
    assert "\x1b[" not in plain
    assert "x.y" in plain
