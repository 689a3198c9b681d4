"""The paths that a manifest may name."""

import tracemalloc
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptsync.errors import IntegrityError
from ckptsync.repository.paths import MAX_PATH, check, check_tree

parts = st.text(
    st.characters(exclude_characters="/\\\0", exclude_categories=["Cs"]), min_size=1, max_size=20
).filter(lambda part: part not in (".", ".."))
safe_paths = st.lists(parts, min_size=1, max_size=6).map("/".join)


@given(safe_paths)
def test_a_safe_path_is_given_back_and_stays_inside(path: str) -> None:
    assert check(path, "it") == path
    assert not PurePosixPath(path).is_absolute()
    assert ".." not in PurePosixPath(path).parts


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/etc/passwd",
        "//a",
        "a//b",
        "a/",
        ".",
        "..",
        "./a",
        "a/.",
        "a/./b",
        "../a",
        "a/..",
        "a/../b",
        "a/../../b",
        "a\0b",
        "a\\b",
        "..\\a",
        "C:\\a",
        "a" * (MAX_PATH + 1),
        "é" * (MAX_PATH // 2 + 1),
        "\ud800",
        None,
        7,
        b"a",
        ["a"],
    ],
)
def test_an_unsafe_path_is_refused(path: object) -> None:
    with pytest.raises(IntegrityError):
        check(path, "the manifest")


def test_the_longest_path_is_allowed() -> None:
    assert check("a" * MAX_PATH, "it")


@given(safe_paths, safe_paths, st.sampled_from(["..", ".", ""]))
def test_no_unsafe_part_is_ever_overlooked(before: str, after: str, part: str) -> None:
    for path in (f"{part}/{after}", f"{before}/{part}/{after}", f"{before}/{part}"):
        with pytest.raises(IntegrityError):
            check(path, "the manifest")


@given(st.sets(safe_paths, max_size=15), st.sets(safe_paths, max_size=5))
def test_a_tree_is_refused_exactly_if_a_path_is_two_things(
    files: set[str], directories: set[str]
) -> None:
    inner = {
        str(parent)
        for path in files | directories
        for parent in PurePosixPath(path).parents
        if str(parent) != "."
    }
    collides = bool(files & (inner | directories))

    try:
        check_tree(sorted(files), sorted(directories), "it")
    except IntegrityError:
        assert collides
    else:
        assert not collides


@pytest.mark.parametrize("paths", [["b", "a"], ["a", "a"], ["a", "B"]])
def test_paths_out_of_order_or_named_twice_are_refused(paths: list[str]) -> None:
    with pytest.raises(IntegrityError, match="out of order or there twice"):
        check_tree(paths, [], "it")
    with pytest.raises(IntegrityError, match="out of order or there twice"):
        check_tree([], paths, "it")


def test_deep_paths_take_no_more_memory_than_they_are_long() -> None:
    """Each implies two thousand directories, and all of them different."""
    files = [f"{number:04}" + "/a" * 2000 for number in range(200)]

    tracemalloc.start()
    check_tree(files, (), "it")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert most < 4 * sum(map(len, files))


@pytest.mark.parametrize(
    ("files", "directories", "sound"),
    [
        (("a", "a!", "a!/b"), (), False),
        (("a", "a!b", "a/b"), (), False),
        (("a", "ab", "abc", "b/a"), (), True),
        (("a/b",), ("a",), True),
        (("a/b/c",), ("a", "a/b"), True),
        (("a",), ("a",), False),
        (("a",), ("a/b",), False),
        (("a", "a!"), ("a!/x", "b"), False),
        (("a!", "b"), ("a", "a/b"), True),
    ],
)
def test_no_file_is_also_a_directory(
    files: tuple[str, ...], directories: tuple[str, ...], sound: bool
) -> None:
    if sound:
        check_tree(files, directories, "it")
    else:
        with pytest.raises(IntegrityError, match="is a file and a directory"):
            check_tree(files, directories, "it")
