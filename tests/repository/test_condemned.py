"""Condemned lists: written, read back, and counted in head."""

import json
from collections.abc import Callable, Sequence
from typing import Final

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ckptsync.errors import IntegrityError
from ckptsync.hashing import Hash
from ckptsync.repository import condemned, keys
from ckptsync.repository.commit import doomed
from ckptsync.repository.condemned import LISTS_KEPT, MOST, decode, done, encode, with_list
from ckptsync.repository.head import CondemnedList, Sweep
from ckptsync.repository.repository import Repository
from ckptsync.stores.memory import MemoryStore
from tests.repository.samples import DESCRIPTOR, REPOSITORY

HASH: Final = Hash.BLAKE3


def named(data: bytes, generation: int) -> CondemnedList:
    return CondemnedList(
        generation=generation, key=keys.condemned(generation), digest=HASH.of(data).hex()
    )


def read(data: bytes, generation: int, *, repository_id: str = REPOSITORY) -> frozenset[str]:
    return decode(data, named(data, generation), HASH, "it", repository_id=repository_id)


MINTED: Final[Sequence[Callable[[], str]]] = (
    keys.chunk,
    keys.pack,
    keys.catalog,
    lambda: keys.condemned(3),
    lambda: keys.manifest(keys.checkpoint(timeline=1, seq=2)),
)


@given(st.lists(st.sampled_from(MINTED).map(lambda mint: mint()), max_size=20))
def test_what_is_written_is_read_back(doomed: list[str]) -> None:
    data = encode(REPOSITORY, 7, [*doomed, *doomed])

    assert read(data, 7) == frozenset(doomed)
    assert data == encode(REPOSITORY, 7, reversed(doomed)), "whatever the order"
    document = json.loads(zstandard.decompress(data))
    assert list(document)[:2] == ["format", "version"]
    assert document["keys"] == sorted(set(doomed))


@pytest.mark.parametrize(
    "key",
    [
        "head.json",
        "ckptsync.json",
        "nodes/host-a.json",
        "RECOVER.md",
        "",
        "chunks",
        "chunks/",
        "/chunks/aa/x",
        "chunks/../head.json",
        "chunks/./x",
        "packs//x",
        "chunks\\x",
        "chunks/\x00",
        "Chunks/aa/x",
        f"chunks/{'x' * 1024}",
    ],
)
def test_a_list_names_nothing_that_no_sweep_may_delete(key: str) -> None:
    fine = encode(REPOSITORY, 1, [keys.chunk()])
    document = json.loads(zstandard.decompress(fine))
    document["keys"].append(key)
    hostile = zstandard.compress(json.dumps(document).encode())

    assert read(fine, 1)
    with pytest.raises(IntegrityError, match="is not the key of anything that a sweep deletes"):
        read(hostile, 1)
    with pytest.raises(ValueError, match="is not the key of anything that a sweep deletes"):
        encode(REPOSITORY, 1, [keys.chunk(), key])
    assert not condemned.is_sweepable(key)


def test_a_stray_object_of_any_name_below_the_prefixes_may_be_swept() -> None:
    strays = {"chunks/left by somebody", "manifests/x.json", "condemned/x"}

    assert read(encode(REPOSITORY, 1, strays), 1) == strays


def test_there_is_an_end_to_generations() -> None:
    last = (1 << 63) - 1
    assert read(encode(REPOSITORY, last, []), last) == frozenset()

    with pytest.raises(IntegrityError, match=f"counts {last} generations") as caught:
        encode(REPOSITORY, last + 1, [])

    assert caught.value.hint is not None
    assert "accept-rollback" in caught.value.hint


def test_a_list_that_is_not_the_one_head_names_is_refused() -> None:
    data = encode(REPOSITORY, 7, [keys.chunk()])

    with pytest.raises(IntegrityError, match="of generation 7, not 8"):
        read(data, 8)
    with pytest.raises(IntegrityError, match=f"belongs to repository {REPOSITORY}"):
        read(data, 7, repository_id="another")
    with pytest.raises(IntegrityError, match="its digest is not the one that head names"):
        decode(data, named(b"other", 7), HASH, "it", repository_id=REPOSITORY)


def test_a_repository_reads_its_own_lists_only() -> None:
    store = MemoryStore()
    repository = Repository(store=store, descriptor=DESCRIPTOR)
    key = keys.chunk()
    for owner, fine in ((REPOSITORY, True), ("another", False)):
        data = encode(owner, 1, [key])
        of = named(data, 1)
        store.put(of.key, data)
        if fine:
            assert repository.condemned(of) == {key}
        else:
            with pytest.raises(IntegrityError, match=f"memory:///{of.key} belongs to"):
                repository.condemned(of)


def test_the_longest_list_we_write_is_one_that_we_read(monkeypatch: pytest.MonkeyPatch) -> None:
    longest = [f"chunks/{number:0>1000}" for number in range(MOST)]
    data = encode(REPOSITORY, 1, longest)

    assert len(read(data, 1)) == MOST
    with pytest.raises(ValueError, match=f"{MOST + 1} keys"):
        encode(REPOSITORY, 1, [*longest, keys.chunk()])
    monkeypatch.setattr(condemned, "STORED_LIMIT", 50)
    with pytest.raises(IntegrityError, match="a condemned list of 1 keys"):
        encode(REPOSITORY, 1, [keys.chunk()])


# In head


def a_list(generation: int) -> CondemnedList:
    return named(b"it", generation)


def test_a_list_is_added_and_the_generation_is_raised() -> None:
    sweep = with_list(Sweep(), a_list(1))
    assert (sweep.generation, len(sweep.lists)) == (1, 1)

    # A repair lifts the generation beyond all that were counted.
    far = a_list(1_763_600_000_000)
    sweep = with_list(sweep, far)
    assert (sweep.generation, sweep.lists[1]) == (far.generation, far)


def test_the_newest_lists_stay() -> None:
    sweep = Sweep()
    every: list[CondemnedList] = []
    for generation in range(1, LISTS_KEPT + 4):
        every.append(a_list(generation))
        sweep = with_list(sweep, every[-1])

    assert sweep.lists == tuple(every[-LISTS_KEPT:])
    assert doomed({"chunks/x": 2}, sweep, {each.generation: frozenset() for each in sweep.lists})


@pytest.mark.parametrize("generation", [0, 6, 7])
def test_a_generation_that_was_is_not_used_again(generation: int) -> None:
    """Whoever is about to commit would not look at the list."""
    with pytest.raises(ValueError, match="does not follow 7"):
        with_list(Sweep(generation=7), a_list(generation))


def test_what_a_newer_version_says_of_sweeps_survives() -> None:
    one = CondemnedList.model_validate({**a_list(1).model_dump(), "new": 1})
    old = Sweep.model_validate({"generation": 1, "lists": (one,), "newer": "x"})

    new = done(with_list(old, a_list(2)), 1)

    assert new.model_extra == {"newer": "x"}
    assert new.lists[0].model_extra == {"new": 1}


def test_one_list_is_marked_as_done() -> None:
    sweep = Sweep(generation=3, lists=(a_list(1), a_list(2), a_list(3)))

    new = done(sweep, 2)

    assert [each.done for each in new.lists] == [False, True, False]
    assert new.generation == 3
    assert done(sweep, 9) == sweep
