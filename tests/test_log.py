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
