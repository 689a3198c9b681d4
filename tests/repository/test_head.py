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
    LIMIT,
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
        "pages": (Page(key=f"catalog/{0:032x}.json.zst", digest=f"{0:064x}", seq=(1, 1), count=1),),
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
        update={
            "revision": read.revision + 1,
            "next_seq": 4,
            "checkpoints": (*read.checkpoints, an_entry(3)),
        }
    )

    found = json.loads(encode(rewritten))
    assert found.pop("next_seq") == document.pop("next_seq") + 1
    assert found["checkpoints"].pop() == json.loads(an_entry(3).model_dump_json())
    assert found.pop("revision") == document.pop("revision") + 1
    assert found == document


@pytest.mark.parametrize("number", [2**53 + 1, 2**63 - 1])
def test_integers_beyond_2_to_the_53_are_kept_exactly(number: int) -> None:
    document = json.loads(encode(FULL))
    document["revision"] = document["epoch"] = number
    document["later"] = later = number * 10**30 + 1

    found = json.loads(encode(decode(json.dumps(document).encode(), WHAT)))

    assert found["revision"] == found["epoch"] == number
    assert found["later"] == later


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
        ("next_seq", 2**32),
        ("revision", 2**63),
        ("revision", True),
        ("epoch", 2**63),
        ("timeline", 0),
        ("timeline", 2**16),
        ("version", True),
        ("sweep", {"generation": 2**63, "lists": []}),
        ("sweep", {"generation": -1, "lists": []}),
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
        ("seq", 0),
        ("seq", 2**32),
        ("seq", True),
        ("timeline", 2**16),
        ("epoch", 2**63),
        ("bytes", -1),
        ("bytes", 2**63),
        ("new_bytes", 2**63),
        ("manifest", {"digest": "0" * 64, "size": 2**63}),
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


def edited(**fields: object) -> bytes:
    return json.dumps({**json.loads(encode(FULL)), **fields}).encode()


def pages(*seqs: tuple[int, int], count: int = 1) -> list[dict[str, object]]:
    return [
        {"key": f"catalog/{n:032x}.json.zst", "digest": f"{n:064x}", "seq": seq, "count": count}
        for n, seq in enumerate(seqs)
    ]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"next_seq": 2}, "next_seq is not beyond"),
        ({"next_seq": 3, "pages": pages((3, 3))}, "next_seq is not beyond"),
        ({"timelines": []}, "active timeline"),
        ({"timeline": 7}, "active timeline"),
        ({"timelines": [json.loads(encode(FULL))["timelines"][0]] * 2}, "active timeline"),
        ({"pages": pages((2, 2), (1, 1))}, "in order of seq"),
        ({"pages": pages((1, 2), (2, 2))}, "in order of seq"),
        ({"pages": pages((2, 1))}, "in order of seq"),
        ({"pages": [*pages((1, 1)), {**pages((2, 2))[0], "seq": (2, 2)}]}, "named twice"),
    ],
)
def test_a_head_that_contradicts_itself_is_damaged(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(IntegrityError, match=f"{WHAT} is damaged: .*{reason}"):
        decode(edited(**fields), WHAT)


@pytest.mark.parametrize(("count", "fine"), [(1, True), (1024, True), (1025, False), (0, False)])
def test_a_page_holds_one_entry_at_least_and_1024_at_most(count: int, fine: bool) -> None:
    data = edited(pages=pages((1, 1), count=count))

    if fine:
        assert decode(data, WHAT).pages[0].count == count
    else:
        with pytest.raises(IntegrityError, match=r"pages\.0\.count"):
            decode(data, WHAT)


def test_a_head_that_nobody_could_read_is_not_written() -> None:
    long = an_entry(1).model_copy(update={"engine_id": "x" * LIMIT})

    with pytest.raises(IntegrityError, match=r"head\.json of repository .* would take 8\d+ bytes"):
        encode(a_head(long))


@pytest.mark.parametrize(
    "fields", [{"next_seq": 1}, {"timeline": 9}, {"timeline": 2**16}, {"revision": 2**63}]
)
def test_a_head_that_every_reader_would_refuse_is_not_written(fields: dict[str, object]) -> None:
    with pytest.raises(IntegrityError, match=r"the head\.json to be written"):
        encode(FULL.model_copy(update=fields))


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
