"""Keeps: names that protect, while they do."""

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptsync.errors import Refused
from ckptsync.repository import keeps
from ckptsync.repository.head import Head, Keep, decode, encode
from ckptsync.repository.keeps import MOST, NAME_PATTERN, kept, named, told, unkept
from tests.repository.samples import NOW, a_head, an_entry, an_id

HOUR = timedelta(hours=1)
ENTRIES = tuple(an_entry(seq) for seq in range(1, 4))


def a_keep(seq: int, until: datetime | None = None) -> Keep:
    return Keep(checkpoint=an_id(seq), by="ann", until=until)


def keeping(**names: Keep) -> Head:
    return a_head(*ENTRIES).model_copy(update={"keeps": names})


names = st.sampled_from(["a", "b", "c", "d"])
some_keeps = st.builds(
    a_keep,
    st.integers(min_value=1, max_value=4),
    st.none() | st.sampled_from([NOW - HOUR, NOW, NOW + HOUR]),
)
heads = st.dictionaries(names, some_keeps).map(lambda found: keeping(**found))


@pytest.mark.parametrize("name", ["a", "0", "pre-upgrade", "v1.2_final", "x" * 64, an_id(1)])
def test_what_may_be_a_name(name: str) -> None:
    assert NAME_PATTERN.fullmatch(name)


@pytest.mark.parametrize("name", ["", ".", "-a", "_a", "a b", "a/b", "ä", "a\n", "x" * 65])
def test_what_may_not(name: str) -> None:
    assert not NAME_PATTERN.fullmatch(name)


@pytest.mark.parametrize(
    ("until", "keeps_it"),
    [
        (None, True),
        (NOW + timedelta(microseconds=1), True),
        (NOW, False),
        (NOW - HOUR, False),
        ((NOW + HOUR).astimezone(timezone(-10 * HOUR)), True),
        ((NOW - HOUR).astimezone(timezone(10 * HOUR)), False),
    ],
)
def test_a_keep_protects_until_its_time(until: datetime | None, keeps_it: bool) -> None:
    assert (an_id(1) in named(keeping(x=a_keep(1, until)), NOW)) is keeps_it


def test_a_checkpoint_may_have_several_names() -> None:
    head = keeping(z=a_keep(1), b=a_keep(2), a=a_keep(1), old=a_keep(1, NOW))

    assert named(head, NOW) == {an_id(1): ("a", "z"), an_id(2): ("b",)}


@pytest.mark.parametrize(
    ("held", "text"),
    [
        ({"a": a_keep(1)}, "kept as 'a'"),
        ({"a": a_keep(1, NOW + HOUR)}, f"kept as 'a' until {NOW + HOUR:%Y-%m-%d %H:%M:%S} UTC"),
        (
            {"a": a_keep(1, NOW + HOUR), "b": a_keep(1, NOW + 48 * HOUR)},
            f"kept as 'b' until {NOW + 48 * HOUR:%Y-%m-%d %H:%M:%S} UTC, and by 1 more name",
        ),
        (
            {"a": a_keep(1, NOW + HOUR), "b": a_keep(1), "c": a_keep(1)},
            "kept as 'b', and by 2 more names",
        ),
    ],
)
def test_the_keep_that_lasts_longest_is_told(held: dict[str, Keep], text: str) -> None:
    assert told(keeping(**held), NOW) == {an_id(1): text}


@given(heads)
def test_what_is_named_is_what_is_told(head: Head) -> None:
    assert told(head, NOW).keys() == named(head, NOW).keys()


def test_a_name_that_was_given_keeps() -> None:
    head = kept(keeping(), "x", a_keep(1), now=NOW)

    assert named(head, NOW) == {an_id(1): ("x",)}
    assert decode(encode(head), "head.json") == head


def test_a_name_for_another_checkpoint_is_refused() -> None:
    head = keeping(x=a_keep(1))

    with pytest.raises(Refused, match=f"'x' already keeps checkpoint {an_id(1)}") as caught:
        kept(head, "x", a_keep(2), now=NOW)

    assert caught.value.hint is not None
    assert "ckptsync unkeep x" in caught.value.hint


def test_the_same_name_for_the_same_checkpoint_replaces_the_time() -> None:
    head = kept(keeping(x=a_keep(1, NOW + HOUR)), "x", a_keep(1, NOW + 2 * HOUR), now=NOW)

    assert head.keeps == {"x": a_keep(1, NOW + 2 * HOUR)}


def test_an_expired_name_is_free() -> None:
    head = kept(keeping(x=a_keep(1, NOW)), "x", a_keep(2), now=NOW)

    assert head.keeps == {"x": a_keep(2)}


def full(*, until: datetime | None = None) -> Head:
    return keeping(**{f"n{number}": a_keep(1, until) for number in range(MOST)})


def test_there_is_an_end_to_names() -> None:
    with pytest.raises(Refused, match=f"no more than {MOST}") as caught:
        kept(full(), "x", a_keep(1), now=NOW)

    assert caught.value.hint is not None
    assert "ckptsync unkeep" in caught.value.hint


def test_one_that_is_there_can_be_changed_when_there_are_most() -> None:
    head = kept(full(), "n0", a_keep(1, NOW + HOUR), now=NOW)

    assert head.keeps["n0"].until == NOW + HOUR
    assert len(head.keeps) == MOST


def test_expired_ones_stay_where_there_is_room_for_the_clock_may_have_run_ahead() -> None:
    expired = {f"n{number}": a_keep(1, NOW) for number in range(MOST - 1)}

    assert kept(keeping(**expired), "x", a_keep(1), now=NOW).keeps == {**expired, "x": a_keep(1)}


def test_one_of_the_most_names_that_has_expired_can_be_given_again() -> None:
    after = kept(full(until=NOW), "n0", a_keep(2), now=NOW)

    assert after.keeps == {**full(until=NOW).keeps, "n0": a_keep(2)}


def test_expired_ones_take_no_place() -> None:
    assert kept(full(until=NOW), "x", a_keep(1), now=NOW).keeps == {"x": a_keep(1)}


@given(heads, names, some_keeps)
def test_a_keep_leaves_the_others_as_they_are(head: Head, name: str, keep: Keep) -> None:
    others = {each: keep for each, keep in head.keeps.items() if each != name}

    try:
        after = kept(head, name, keep, now=NOW)
    except Refused:
        assert _by_name(head)[name].checkpoint != keep.checkpoint
        return

    assert after.keeps == {**others, name: keep}


@given(heads, names)
def test_unkeep_takes_one_name_away(head: Head, name: str) -> None:
    after = unkept(head, name)

    assert after.keeps == {each: keep for each, keep in head.keeps.items() if each != name}
    assert (after is head) is (name not in head.keeps)


@given(heads)
def test_tidying_takes_away_only_the_keeps_of_what_is_gone(head: Head) -> None:
    there = {entry.id for entry in ENTRIES}

    tidy = keeps.tidied(head, there=there.__contains__)

    assert tidy == {name: keep for name, keep in head.keeps.items() if keep.checkpoint != an_id(4)}


def _by_name(head: Head) -> dict[str, Keep]:
    """The keeps that have not expired, told apart without the code under test."""
    return {name: keep for name, keep in head.keeps.items() if keep.until in (None, NOW + HOUR)}
