"""How answers and failures are printed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptsync.cli.answer import Answer, Failure, plain, show, show_failure
from ckptsync.errors import CkptsyncError, IntegrityError, NothingToDo

_ANSWER = Answer(document={"a": 1}, text=lambda: "one\ntwo", asides=["by the way"])


def test_text_goes_to_stdout_and_what_is_said_aside_to_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert show(_ANSWER, as_json=False) == 0
    assert capsys.readouterr() == ("one\ntwo\n", "by the way\n")


def test_json_is_one_document_and_nothing_aside(capsys: pytest.CaptureFixture[str]) -> None:
    assert show(_ANSWER, as_json=True) == 0
    out, err = capsys.readouterr()
    assert (json.loads(out), err) == ({"a": 1}, "")


def test_a_verdict_is_the_exit_code_and_the_error_of_the_document(
    capsys: pytest.CaptureFixture[str],
) -> None:
    damaged = Answer(
        document={"a": 1}, text=lambda: "report", verdict=IntegrityError("rotten", hint="mend it")
    )

    assert show(damaged, as_json=False) == 12
    assert capsys.readouterr() == ("report\n", "error: rotten\ntry: mend it\n")
    assert show(damaged, as_json=True) == 12
    assert json.loads(capsys.readouterr().out) == {
        "a": 1,
        "error": {
            "kind": "IntegrityError",
            "message": "rotten",
            "hint": "mend it",
            "exit_code": 12,
        },
    }


def test_a_failure_is_told_to_people_and_to_programs(capsys: pytest.CaptureFixture[str]) -> None:
    failure = Failure.of(NothingToDo("nothing"))

    assert show_failure(failure, as_json=True) == 4
    out, err = capsys.readouterr()
    assert json.loads(out) == {"error": failure.document()}
    assert err == "error: nothing\n"


def test_text_is_not_made_where_json_is_wanted() -> None:
    def never() -> str:
        raise CkptsyncError("made anyway")

    assert show(Answer(document={}, text=never), as_json=True) == 0


@given(st.text())
def test_plain_text_can_be_printed_and_keeps_what_could(text: str) -> None:
    shown = plain(text)

    assert all(character.isprintable() or character == "\n" for character in shown)
    assert plain(shown) == shown
    if all(character.isprintable() for character in text):
        assert shown == text
