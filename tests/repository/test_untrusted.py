"""Bytes that anybody may have written."""

import io
import json
from contextlib import suppress
from typing import Final

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ckptsync.errors import IntegrityError, UnsupportedFormat
from ckptsync.repository.untrusted import (
    MAX_DEPTH,
    MAX_WINDOW,
    Members,
    Record,
    check_depth,
    inflate,
    parse,
)

WHAT: Final = "s3://dr/orders/head.json"


class Sample(Record):
    format: str
    version: int
    number: int


GOOD: Final = b'{"format":"sample","version":1,"number":7}'

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def test_a_document_is_read() -> None:
    assert parse(Sample, GOOD, WHAT).number == 7


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        GOOD[:-1],
        GOOD + b"x",
        GOOD.replace(b"7", b'"7"'),
        GOOD.replace(b"7", b"7.5"),
        GOOD.replace(b"7", b"NaN"),
        GOOD.replace(b'"number":7', b'"numbers":7'),
        b"\xff" + GOOD,
        GOOD.decode().encode("utf-16"),
        b'"' + b'\\"' * 10,
    ],
)
def test_a_document_that_is_not_as_it_should_be_is_damaged(data: bytes) -> None:
    with pytest.raises(IntegrityError, match=f"{WHAT} is damaged"):
        parse(Sample, data, WHAT)


def test_a_newer_version_is_told_before_its_unknown_shape() -> None:
    with pytest.raises(UnsupportedFormat, match="format version 2") as caught:
        parse(Sample, b'{"format":"sample","version": 2,"number":{"as":"text"}}', WHAT)

    assert caught.value.hint is not None
    assert "upgrade" in caught.value.hint


@given(st.integers(min_value=1, max_value=60), st.sampled_from(["[", '{"x":']))
def test_nesting_is_allowed_up_to_the_limit_and_no_further(depth: int, opening: str) -> None:
    text = opening * depth + "0" + {"[": "]"}.get(opening, "}") * depth

    if depth <= MAX_DEPTH:
        check_depth(text, WHAT)
    else:
        with pytest.raises(IntegrityError, match="nested deeper"):
            check_depth(text, WHAT)


@given(st.text())
def test_brackets_within_strings_do_not_nest(text: str) -> None:
    check_depth(json.dumps("[{" * 50 + text), WHAT)


@pytest.mark.timeout(60)  # quadratic, the least of them would take hours
@pytest.mark.parametrize("piece", ['\\"', '"', "\\", '"\\'])
def test_hostile_text_is_judged_without_going_back_over_it(piece: str) -> None:
    check_depth('"' + piece * (1 << 20), WHAT)

    with pytest.raises(IntegrityError, match="nested deeper"):
        check_depth("[" * (MAX_DEPTH + 1) + '"' + piece * (1 << 20), WHAT)


# Inflation


@given(st.binary(max_size=5000), st.integers(min_value=0, max_value=6000))
def test_what_inflates_to_the_limit_is_read_and_what_goes_beyond_is_not(
    data: bytes, limit: int
) -> None:
    stored = zstandard.compress(data)

    if len(data) <= limit:
        assert inflate(stored, limit=limit, what=WHAT) == data
    else:
        with pytest.raises(IntegrityError, match="inflates to more"):
            inflate(stored, limit=limit, what=WHAT)


def test_a_bomb_is_given_up_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = zstandard.compress(bytes(1 << 30))
    assert len(bomb) < 100_000
    written = 0

    class Counting(io.BytesIO):
        def write(self, data: object) -> int:
            nonlocal written
            assert isinstance(data, memoryview)
            written += len(data)
            return super().write(data)

    monkeypatch.setattr(io, "BytesIO", Counting)

    with pytest.raises(IntegrityError, match="inflates to more"):
        inflate(bomb, limit=1 << 20, what=WHAT)

    assert written <= 1 << 20


def test_a_stream_that_wants_a_huge_window_is_refused() -> None:
    """Else a few bytes would have us allocate gigabytes."""
    parameters = zstandard.ZstdCompressionParameters(window_log=31, compression_level=1)
    engine = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    stored = engine.compress(b"small") + engine.flush()
    assert zstandard.get_frame_parameters(stored).window_size > MAX_WINDOW

    with pytest.raises(IntegrityError, match="is damaged"):
        inflate(stored, limit=1 << 20, what=WHAT)


@pytest.mark.parametrize(
    "stored",
    [
        b"not zstd at all",
        b"\0" + zstandard.compress(b"a" * 1000),
        zstandard.compress(b"a" * 1000) + b"trailing",
    ],
)
def test_what_is_not_zstd_is_damaged(stored: bytes) -> None:
    with pytest.raises(IntegrityError, match="is damaged"):
        inflate(stored, limit=1 << 20, what=WHAT)


@given(st.binary(max_size=300), st.data())
def test_what_was_cut_short_gives_at_most_its_beginning(data: bytes, draw: st.DataObject) -> None:
    stored = zstandard.compress(data)
    cut = stored[: draw.draw(st.integers(min_value=0, max_value=len(stored) - 1))]

    assert data.startswith(inflate(cut, limit=1 << 20, what=WHAT))


@given(st.binary(min_size=1, max_size=300))
def test_several_frames_are_one_text(data: bytes) -> None:
    stored = zstandard.compress(data) + zstandard.compress(b"") + zstandard.compress(data)

    assert inflate(stored, limit=1 << 20, what=WHAT) == data * 2


@given(st.binary(max_size=300), st.data())
def test_a_flipped_bit_is_never_a_crash(data: bytes, draw: st.DataObject) -> None:
    """Whatever inflates from it, its digest is not the right one: that is checked elsewhere."""
    stored = bytearray(zstandard.compress(data))
    at = draw.draw(st.integers(min_value=0, max_value=8 * len(stored) - 1))
    stored[at // 8] ^= 1 << at % 8

    with suppress(IntegrityError):
        inflate(bytes(stored), limit=1 << 20, what=WHAT)


# Members


def all_of(text: str, arrays: frozenset[str] = frozenset()) -> dict[str, object]:
    members = Members(text.encode(), WHAT, limit=1 << 20)
    found = {
        name: list(members.elements(limit=1 << 20)) if name in arrays else members.value()
        for name in members
    }
    members.end()
    return found


@given(st.dictionaries(st.text(), json_values), st.sampled_from([None, 1]))
def test_the_members_of_an_object_are_read_one_by_one(
    document: dict[str, object], indent: int | None
) -> None:
    arrays = frozenset(name for name, value in document.items() if isinstance(value, list))

    assert all_of(json.dumps(document, indent=indent), arrays) == document


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{",
        '{"a"',
        '{"a":',
        '{"a":1',
        '{"a":1,',
        '{"a":1,}',
        '{"a":1}x',
        '{"a":1}{"b":2}',
        '{"a":1,"a":2}',
        "{1:2}",
        '{"list":[1,]}',
        '{"list":[1',
        '{"list":[1 2]}',
        '{"list":{}}',
        '{"list":',
        '{"a":' + "[" * 100_000,
    ],
)
def test_members_of_damaged_text_are_refused(text: str) -> None:
    with pytest.raises(IntegrityError, match=f"{WHAT} is damaged: at byte"):
        all_of(text, frozenset({"list"}))
