"""head.json: what a rewrite keeps, and what a reader does not believe."""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptsync.errors import IntegrityError, UnsupportedFormat
from ckptsync.repository.head import (
    CondemnedList,
    Fork,
    Head,
    Keep,
    Page,
    Sweep,
    Timeline,
    decode,
    encode,
)
from tests.repository.samples import NOW, a_head, an_entry, an_id

WHAT: Final = "s3://dr/orders/head.json"

FULL: Final = a_head(an_entry(1), an_entry(2)).model_copy(
    update={
        "timelines": (
            Timeline(id=1, epoch=1, reason="create", at=NOW),
            Timeline(
                id=2, parent=Fork(timeline=1, checkpoint=an_id(1)), epoch=2, reason="fork", at=NOW
            ),
        ),
        "pages": (Page(key=f"catalog/{0:032x}.json.zst", digest=f"{0:064x}", seq=(1, 2), count=2),),
        "keeps": {"before-upgrade": Keep(checkpoint=an_id(1), by="ann", until=NOW)},
        "policy": {"min_count": 10, "min_age": "30d"},
        "sweep": Sweep(
            generation=3,
            lists=(
                CondemnedList(generation=3, key="condemned/3-x", digest=f"{0:064x}", done=True),
            ),
        ),
    }
)


def objects_in(value: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object of a document, the document first."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, dict | list):
            yield from objects_in(inner)


def test_what_is_written_is_read_back() -> None:
    assert decode(encode(FULL), WHAT) == FULL


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(min_value=-(2**200), max_value=2**200)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_fields_of_a_later_version_survive_a_rewrite_at_every_level(value: object) -> None:
    document = json.loads(encode(FULL))
    names = document["keeps"]  # a map of the operator's own names, which has no fields
    places = [place for place in objects_in(document) if place is not names]
    assert len(places) >= 12
    for place in places:
        place["zz_later"] = value

    read = decode(json.dumps(document).encode(), WHAT)
    rewritten = read.model_copy(
        update={"revision": read.revision + 1, "checkpoints": (*read.checkpoints, an_entry(3))}
    )

    found = json.loads(encode(rewritten))
    assert found["checkpoints"].pop() == json.loads(an_entry(3).model_dump_json())
    assert found.pop("revision") == document.pop("revision") + 1
    assert found == document


@pytest.mark.parametrize("number", [2**53 + 1, 2**64 - 1, 2**64 + 1, 10**30 + 1])
def test_integers_beyond_2_to_the_53_are_kept_exactly(number: int) -> None:
    document = json.loads(encode(FULL))
    document["revision"] = document["epoch"] = number
    document["later"] = number

    found = json.loads(encode(decode(json.dumps(document).encode(), WHAT)))

    assert found["revision"] == found["epoch"] == found["later"] == number


@pytest.mark.parametrize("step", [0, 2**53 + 1, 2**64 - 1])
def test_steps_are_text_and_exact(step: int) -> None:
    entry = an_entry(1, step=step)

    found = decode(encode(a_head(entry)), WHAT)

    assert found.checkpoints[0].step == str(step)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", "ckptsync/manifest"),
        ("revision", 0),
        ("revision", "1"),
        ("revision", 1.5),
        ("epoch", 0),
        ("next_seq", 0),
        ("latest", "latest"),
        ("latest", "../../x"),
        ("checkpoints", {}),
        ("timelines", None),
        ("writer", {}),
    ],
)
def test_what_makes_no_sense_is_damaged_and_the_place_is_named(field: str, value: object) -> None:
    document = json.loads(encode(FULL))
    document[field] = value

    with pytest.raises(IntegrityError, match=f"{WHAT} is damaged: {field}"):
        decode(json.dumps(document).encode(), WHAT)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "x"),
        ("step", 1),
        ("step", "1.5"),
        ("step", "9" * 21),
        ("at", "yesterday"),
        ("at", "2026-11-20T09:30:00"),
        ("state", "gone"),
        ("manifest", {"digest": "00", "size": 1}),
        ("manifest", {"digest": "0" * 64, "size": -1}),
    ],
)
def test_an_entry_that_makes_no_sense_is_damaged(field: str, value: object) -> None:
    """A time without a zone too: it could not be compared with any other."""
    document = json.loads(encode(FULL))
    document["checkpoints"][1][field] = value

    with pytest.raises(IntegrityError, match=rf"checkpoints\.1\.{field}"):
        decode(json.dumps(document).encode(), WHAT)


def test_a_newer_head_asks_for_an_upgrade() -> None:
    document = {**json.loads(encode(FULL)), "version": 2, "checkpoints": "elsewhere"}

    with pytest.raises(UnsupportedFormat, match="newer ckptsync"):
        decode(json.dumps(document).encode(), WHAT)


@given(st.data())
def test_no_change_of_a_byte_makes_a_reader_crash(draw: st.DataObject) -> None:
    data = bytearray(encode(FULL))
    at = draw.draw(st.integers(min_value=0, max_value=len(data) - 1))
    data[at] = draw.draw(st.integers(min_value=0, max_value=255))

    with suppress(IntegrityError, UnsupportedFormat):
        assert isinstance(decode(bytes(data), WHAT), Head)
