"""Columns that line up, however many rows there are."""

from ckptsync.cli.tables import facts, table


def test_columns_are_as_wide_as_their_widest_cell_and_rows_end_with_their_text() -> None:
    assert table(("ID", "AGE"), [("a", "1m ago"), ("longer", "-")]) == [
        "ID      AGE",
        "a       1m ago",
        "longer  -",
    ]


def test_headings_stand_alone_where_there_are_no_rows() -> None:
    assert table(("ID", "AGE"), []) == ["ID  AGE"]


def test_a_cell_is_measured_as_it_is_printed() -> None:
    assert table(("A", "B"), [("\x1b\n", "1"), ("検索", "2"), ("e\u0301", "3")]) == [
        "A         B",
        r"\x1b\x0a  1",
        "検索      2",
        "e\u0301         3",
    ]


def test_facts_have_their_values_below_each_other() -> None:
    assert facts("title", [("a", "1"), ("longer", "")]) == ["title", "  a       1", "  longer"]


def test_a_month_of_checkpoints_has_a_line_each() -> None:
    cells = ("0001-00000001-0123456789ab", "f3a0b7c2-0000-7000-8000-0123456789ab", *["12345"] * 7)

    lines = table(["X"] * 9, [cells] * 8_640)

    assert len(lines) == 8_641
