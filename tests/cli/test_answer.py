"""How answers and failures are printed."""

import json

import pytest

from ckptsync.cli.answer import Answer, show, show_failure
from ckptsync.errors import CkptsyncError, ConfigError, IntegrityError, NothingToDo
from ckptsync.failure import Failure

_ANSWER = Answer(document={"a": 1}, lines=lambda: ["one", "two"], asides=["by the way"])


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
        document={"a": 1},
        lines=lambda: ["report"],
        verdict=Failure.of(IntegrityError("rotten", hint="mend it")),
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
            "problems": [],
        },
    }


def test_a_failure_is_told_to_people_and_to_programs(capsys: pytest.CaptureFixture[str]) -> None:
    failure = Failure.of(NothingToDo("nothing"))

    assert show_failure(failure, as_json=True) == 4
    out, err = capsys.readouterr()
    assert json.loads(out) == {"error": failure.document()}
    assert err == "error: nothing\n"


def test_where_nothing_is_to_be_said_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    verdict = Failure.of(NothingToDo("nothing"))

    assert show(Answer(document={}, lines=list, verdict=verdict), as_json=False) == 4
    assert capsys.readouterr() == ("", "error: nothing\n")


def test_text_is_not_made_where_json_is_wanted() -> None:
    def never() -> list[str]:
        raise CkptsyncError("made anyway")

    assert show(Answer(document={}, lines=never), as_json=True) == 0


def test_what_is_quoted_cannot_begin_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    forged = "a\n\rerror: \x1b[2Kforged"
    failure = Failure.of(IntegrityError(f"'{forged}'", hint=f"'{forged}'"))
    answer = Answer(
        document={}, lines=lambda: [f"'{forged}'"], asides=[f"note: '{forged}'"], verdict=failure
    )
    quoted = r"'a\x0a\x0derror: \x1b[2Kforged'"

    show(answer, as_json=False)

    out, err = capsys.readouterr()
    assert out == f"{quoted}\n"
    assert err.splitlines() == [f"note: {quoted}", f"error: {quoted}", f"try: {quoted}"]


def test_the_problems_of_a_configuration_have_a_line_each(
    capsys: pytest.CaptureFixture[str],
) -> None:
    failure = Failure.of(ConfigError("2 problems:\n  a\x1b\n  b", problems=["a\x1b", "b"]))

    show_failure(failure, as_json=True)

    out, err = capsys.readouterr()
    assert err == "error: 2 problems:\n  a\\x1b\n  b\n"
    assert json.loads(out)["error"]["problems"] == ["a\x1b", "b"]


def test_a_document_says_what_was_said_unescaped(capsys: pytest.CaptureFixture[str]) -> None:
    show_failure(Failure.of(IntegrityError("a\nb")), as_json=True)

    assert json.loads(capsys.readouterr().out)["error"]["message"] == "a\nb"
