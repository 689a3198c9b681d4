"""Text from anywhere, as a terminal may see it."""

from hypothesis import given
from hypothesis import strategies as st

from ckptsync.escaping import escaped, escaped_lines


@given(st.text())
def test_escaped_text_is_one_line_and_keeps_what_can_be_printed(text: str) -> None:
    shown = escaped(text)

    assert shown.isprintable()
    assert escaped(shown) == shown
    if text.isprintable():
        assert shown == text


@given(st.text())
def test_lines_stay_where_they_are(text: str) -> None:
    assert escaped_lines(text).split("\n") == [escaped(line) for line in text.split("\n")]


def test_what_reorders_or_hides_text_is_escaped() -> None:
    assert escaped("a\u202eb\x7f\x9b\tc\udcff") == r"a\x202eb\x7f\x9b\x09c\xdcff"
