"""What makes a checkpoint exist, and what keeps it from being committed: tables."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptsync.errors import LineageRegression
from ckptsync.model import Engine
from ckptsync.repository import keys
from ckptsync.repository.commit import (
    Attempt,
    MustReplan,
    doomed,
    entry_of,
    require_progress,
    require_still_there,
    with_checkpoint,
)
from ckptsync.repository.epochs import Line
from ckptsync.repository.files import Files
from ckptsync.repository.head import Entry, Head, ManifestRef, Sweep
from tests.repository.samples import NOW, a_head, a_manifest, an_entry, an_id

KEY = "chunks/aa/it"
WHERE = "s3://dr/orders"


@pytest.mark.parametrize(
    ("uploaded_at", "sweep_now", "lists", "expected"),
    [
        # uploaded before generation, head's generation, lists that could be read, doomed
        (3, 3, {}, False),
        (0, 0, {}, False),
        (3, 4, {4: set()}, False),
        (3, 4, {4: {"another"}}, False),
        (3, 4, {4: {KEY}}, True),
        (3, 5, {4: {KEY}, 5: set()}, True),
        (3, 5, {4: set(), 5: {KEY}}, True),
        (3, 5, {4: set(), 5: set()}, False),
        (3, 4, {4: None}, True),  # the list cannot be read
        (3, 5, {4: set(), 5: None}, True),
        (3, 4, {}, True),  # older than the lists that head keeps
        (3, 70, dict.fromkeys(range(7, 71), frozenset()), True),
        (6, 70, dict.fromkeys(range(7, 71), frozenset()), False),
        (3, 3, {3: {KEY}}, False),  # condemned before it was uploaded: another object
        (4, 3, {}, True),  # above head's generation: head went back
        (4, 3, {3: set()}, True),
    ],
)
def test_an_own_upload_is_doomed_if_any_newer_list_may_name_it(
    uploaded_at: int, sweep_now: int, lists: Mapping[int, set[str] | None], expected: bool
) -> None:
    read = {at: None if found is None else frozenset(found) for at, found in lists.items()}

    found = doomed({KEY: uploaded_at}, Sweep(generation=sweep_now), read)

    assert found == ({KEY} if expected else frozenset())


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 8)),
    st.integers(0, 8),
    st.dictionaries(
        st.integers(1, 8), st.none() | st.frozensets(st.sampled_from("abcdef")), max_size=8
    ),
)
def test_an_upload_is_spared_only_if_every_newer_list_was_read_and_spares_it(
    own: dict[str, int], generation: int, lists: dict[int, frozenset[str] | None]
) -> None:
    found = doomed(own, Sweep(generation=generation), lists)

    for key in own.keys() - found:
        assert own[key] <= generation
        for newer in range(own[key] + 1, generation + 1):
            names = lists[newer]
            assert names is not None
            assert key not in names
    assert found <= own.keys()


# The next head


def an_attempt(head: Head, *, parent: Entry | None = None, forks: str | None = None) -> Attempt:
    timeline = 2 if forks else head.timeline
    manifest = a_manifest(Files(), seq=head.next_seq)
    header = manifest.header.model_copy(
        update={"timeline": timeline, "checkpoint": an_id(head.next_seq, timeline=timeline)}
    )
    return Attempt(
        manifest=replace(manifest, header=header),
        reference=ManifestRef(digest="0" * 64, size=9),
        line=Line(parent=parent.id if parent else None, forks=forks),
        parent=parent,
        own={},
    )


def test_a_commit_adds_its_entry_and_moves_latest_and_nothing_else() -> None:
    head = a_head(an_entry(1), an_entry(2))
    attempt = an_attempt(head, parent=head.checkpoints[-1])

    new = with_checkpoint(head, attempt, NOW)

    entry = new.checkpoints[-1]
    assert entry == entry_of(attempt, NOW)
    assert (entry.seq, entry.at) == (3, NOW)
    assert new.checkpoints[:-1] == head.checkpoints
    assert (new.latest, new.next_seq) == (entry.id, 4)
    changed = {"checkpoints", "latest", "next_seq"}
    assert new.model_dump(exclude=changed) == head.model_dump(exclude=changed)


def test_a_fork_records_where_it_began_and_why() -> None:
    head = a_head(an_entry(1), an_entry(2))
    attempt = an_attempt(head, parent=head.checkpoints[0], forks="pull: went back")

    new = with_checkpoint(head, attempt, NOW)

    assert new.timeline == 2
    assert new.timelines[:-1] == head.timelines
    timeline = new.timelines[-1]
    assert timeline.parent is not None
    assert (timeline.id, timeline.epoch, timeline.reason) == (2, 1, "pull: went back")
    assert (timeline.parent.timeline, timeline.parent.checkpoint) == (1, an_id(1))


def test_a_fork_whose_parent_is_gone_says_so() -> None:
    attempt = an_attempt(a_head(), forks="push: --new-timeline")

    parent = with_checkpoint(a_head(), attempt, NOW).timelines[-1].parent

    assert parent is not None
    assert (parent.timeline, parent.checkpoint) == (1, None)


# Still there?


def test_what_is_still_there_may_be_committed() -> None:
    parent = an_entry(1)
    head = a_head(parent)
    attempt = an_attempt(head, parent=parent)

    require_still_there(head, attempt, parent=parent, condemned=frozenset())
    retired = parent.model_copy(update={"state": "retired"})
    require_still_there(head, attempt, parent=retired, condemned=frozenset())
    require_still_there(a_head(), an_attempt(a_head()), parent=None, condemned=frozenset())


def test_what_may_be_going_away_is_planned_again() -> None:
    parent = an_entry(1)
    head = a_head(parent)
    attempt = an_attempt(head, parent=parent)
    damaged = parent.model_copy(update={"state": "bad", "damaged": ("chunks/x",)})

    with pytest.raises(MustReplan, match="no longer there"):
        require_still_there(head, attempt, parent=None, condemned=frozenset())
    with pytest.raises(MustReplan, match="damaged"):
        require_still_there(head, attempt, parent=damaged, condemned=frozenset())
    with pytest.raises(MustReplan, match="another checkpoint was committed"):
        require_still_there(
            a_head(parent, an_entry(2)), attempt, parent=parent, condemned=frozenset()
        )
    with pytest.raises(MustReplan, match="sweep") as caught:
        require_still_there(head, attempt, parent=parent, condemned=frozenset({KEY}))
    assert caught.value.condemned == {KEY}


# Lineage


def an_engine(step: int, lineage: str | None = None) -> Engine:
    return Engine(layout="feldera", id="next", step=step, lineage=lineage)


@pytest.mark.parametrize(
    ("engine", "parent", "allowed"),
    [
        (an_engine(0), None, True),
        (an_engine(0, "life-2"), None, True),
        (an_engine(7), (7, None), True),
        (an_engine(8), (7, None), True),
        (an_engine(6), (7, None), False),
        (an_engine(2**64 - 1), (2**64 - 2, None), True),
        (an_engine(2**64 - 2), (2**64 - 1, None), False),
        (an_engine(8, "life-1"), (7, "life-1"), True),
        (an_engine(6, "life-1"), (7, "life-1"), False),
        (an_engine(8, "life-2"), (7, "life-1"), False),
        (an_engine(8, None), (7, "life-1"), True),  # cannot tell, so the step decides
        (an_engine(8, "life-2"), (7, None), True),
        (an_engine(6, "life-2"), (7, None), False),
    ],
)
def test_a_checkpoint_follows_another_of_its_life_whose_step_is_not_greater(
    engine: Engine, parent: tuple[int, str | None] | None, allowed: bool
) -> None:
    entry = None
    if parent is not None:
        entry = an_entry(1, step=parent[0]).model_copy(update={"lineage": parent[1]})
    if allowed:
        require_progress(engine, entry, WHERE)
        return

    with pytest.raises(LineageRegression, match=WHERE) as caught:
        require_progress(engine, entry, WHERE)

    assert caught.value.exit_code == 13
    assert caught.value.hint is not None


# Names


def test_names_are_never_used_twice_and_say_what_they_are() -> None:
    minted = [keys.checkpoint(timeline=3, seq=0x1401) for _ in range(100)]

    assert len(set(minted)) == 100
    assert all(each.startswith("0003-00001401-") for each in minted)
    assert {keys.seq(each) for each in minted} == {0x1401}
    for make in (keys.chunk, keys.pack):
        made = {make() for _ in range(100)}
        assert len(made) == 100
        assert all(keys.DATA_PATTERN.fullmatch(each) for each in made)


@pytest.mark.parametrize(
    "key",
    [
        "head.json",
        "chunks/aa/bb" + "0" * 30,
        "chunks/00/" + "0" * 31,
        "chunks/00/" + "0" * 33,
        "chunks/../" + "0" * 32,
        "chunks/00/" + "0" * 32 + ".tar.zst",
        "packs/00/" + "0" * 32,
        "packs/00/" + "0" * 32 + ".tar.zst/x",
        "CHUNKS/00/" + "0" * 32,
        "chunks/0A/0A" + "0" * 30,
        "chunks/00/" + "0" * 32 + "\n",
    ],
)
def test_no_other_key_is_taken_for_data(key: str) -> None:
    assert keys.DATA_PATTERN.fullmatch(key) is None
