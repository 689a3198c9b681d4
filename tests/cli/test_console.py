"""What people see of warnings."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import structlog

import ckptsync
from ckptsync.cli.console import SENTENCES, Sentences
from ckptsync.log import configure

_PACKAGE: Final = Path(ckptsync.__file__).parent
_LOUD: Final = {"warning", "error", "critical", "exception"}


def _logged() -> Iterator[tuple[str, set[str]]]:
    """Every event that the program can warn of, and the fields that it comes with."""
    for path in _PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in _LOUD
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "log"
            ):
                name = ast.literal_eval(node.args[0])
                yield name, {keyword.arg or "" for keyword in node.keywords}


def test_every_warning_has_a_sentence_that_its_fields_fill() -> None:
    logged = list(_logged())

    assert {name for name, _ in logged} == set(SENTENCES)
    for name, fields in logged:
        assert set(re.findall(r"{(\w+)}", SENTENCES[name])) <= fields, name


@pytest.fixture
def _restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("_restored")
def test_people_get_a_sentence_and_programs_the_fields(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def warn() -> str:
        structlog.get_logger().warning("fencing.off", store="s3://b/\x1b[2Kp")
        return capsys.readouterr().err

    configure(json=False, told=Sentences)
    told = warn()
    configure(json=True, told=Sentences)

    assert told.startswith(r"warning: s3://b/\x1b[2Kp ignores conditions")
    assert len(told.splitlines()) == 1
    assert '"event": "fencing.off"' in warn()


@pytest.mark.usefixtures("_restored")
def test_what_has_no_sentence_is_logged_as_ever(capsys: pytest.CaptureFixture[str]) -> None:
    configure(json=False, told=Sentences)

    structlog.get_logger().info("checkpoint.committed", bytes=12)

    assert re.search(r"info .*checkpoint\.committed .*bytes=12", capsys.readouterr().err)


@pytest.mark.parametrize(("hint", "told"), [("say --yes", "much; try: say --yes"), (None, "much")])
def test_what_to_do_follows_where_it_is_known(hint: str | None, told: str) -> None:
    event = {"event": "push.not_pruned", "error": "that is much", "hint": hint}

    said = Sentences(lambda *_: "never")(None, "warning", event)

    assert (
        said == f"warning: the push is done, but the bucket was not pruned after it: that is {told}"
    )


def test_a_store_that_is_tried_again_is_told_of_once_a_minute_and_cause() -> None:
    now = 0.0
    told = Sentences(lambda *_: "never", clock=lambda: now)

    def retrying(reason: str) -> str | None:
        event: dict[str, Any] = {"event": "store.retrying", "store": "s3://b", "reason": reason}
        try:
            return str(told(None, "warning", event))
        except structlog.DropEvent:
            return None

    assert retrying("timed out") == "warning: s3://b: timed out; trying again"
    assert retrying("timed out") is None
    assert retrying("refused") == "warning: s3://b: refused; trying again"
    now = 59.0
    assert retrying("timed out") is None
    now = 60.0
    assert retrying("timed out") is not None
    assert retrying("timed out") is None
