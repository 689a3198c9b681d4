"""Every spelling of one place gives one Location; what cannot be meant is refused."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptsync.config.location import Location, parse_location
from ckptsync.config.providers import Scheme, parse_provider

parts = st.text(string.ascii_letters + string.digits + "-_=é", min_size=1, max_size=8)
locations = st.builds(
    lambda scheme, bucket, prefix: Location(scheme=scheme, bucket=bucket, prefix="/".join(prefix)),
    st.sampled_from([Scheme.S3, Scheme.GS, Scheme.AZ]),
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
    st.lists(parts, max_size=4),
)
slashes = st.integers(min_value=1, max_value=3).map(lambda count: "/" * count)


@pytest.mark.parametrize(
    ("text", "provider", "canonical"),
    [
        ("s3://bucket/prefix", None, "s3://bucket/prefix"),
        ("S3://bucket", None, "s3://bucket"),
        ("bucket/prefix/", None, "s3://bucket/prefix"),
        ("bucket//a///b", "Minio", "s3://bucket/a/b"),
        ("bucket/a:b", "aws", "s3://bucket/a:b"),
        ("bucket", "GCS", "gs://bucket"),
        ("bucket", "google cloud storage", "gs://bucket"),
        ("container/x", "AzureBlob", "az://container/x"),
        ("s3://bucket", "GCS", "s3://bucket"),
        ("az://container/p", None, "az://container/p"),
        ("file:///mnt//dr/", None, "file:///mnt/dr"),
    ],
)
def test_a_location_has_one_canonical_spelling(
    text: str, provider: str | None, canonical: str
) -> None:
    assert str(parse_location(text, provider=provider)) == canonical


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is empty: write s3://"),
        ("/mnt/dr", "for a directory write file:///PATH"),
        ("file://mnt/dr", "with three slashes"),
        ("file:///", "names no directory"),
        ("s3://", "names no bucket"),
        ("s3:///prefix", "names no bucket"),
        ("s3:bucket", "is not a location"),
        ("s3://bucket/../other", "'.' or '..'"),
        ("bucket/./x", "'.' or '..'"),
        ("s3://bucket/x?versionId=1", "a query"),
        ("s3://bucket/x#y", "a fragment"),
        ("s3://me:hush@bucket/x", "user name or password"),
        ("me:hush@bucket/x", "is not a location"),
        ("memory:", "gone with the process"),
        ("s3a://bucket/x", "write s3://BUCKET/PREFIX"),
        ("https://bucket.s3.amazonaws.com/x", "the server as 'endpoint'"),
        ("ftp://host/x", "is not a location"),
        ("s3://b\u00fccket", "names no bucket"),
        ("s3://bucket/a\\b", "backslash"),
        ("s3://bucket/a\nb", "cannot be printed"),
        (" s3://bucket", "begins or ends with a space"),
        ("s3://bucket/" + "x" * 801, "more than 800 bytes"),
    ],
)
def test_what_names_no_place_is_refused_with_what_to_write(text: str, complaint: str) -> None:
    with pytest.raises(
        ValueError, match=complaint.replace(".", r"\.").replace("?", r"\?")
    ) as raised:
        parse_location(text)
    assert "hush" not in str(raised.value)


def test_an_unknown_provider_is_refused_with_a_suggestion_and_the_list() -> None:
    with pytest.raises(ValueError, match=r"did you mean 'Minio'\? \(known: AWS, .*Azure"):
        parse_provider("mino")


@given(locations)
def test_the_canonical_spelling_is_read_back(location: Location) -> None:
    assert parse_location(str(location)) == location


@given(locations, st.data())
def test_more_slashes_change_nothing(location: Location, data: st.DataObject) -> None:
    scheme, _, rest = str(location).partition("://")
    stretched = "".join(data.draw(slashes) if c == "/" else c for c in rest)
    end = data.draw(st.sampled_from(["", "/", "//"]))

    assert parse_location(f"{scheme}://{stretched}{end}") == location


@given(locations, locations)
def test_overlap_is_symmetric_and_holds_for_what_lies_within(one: Location, two: Location) -> None:
    inside = parse_location(f"{one}/within")

    assert one.overlaps(two) == two.overlaps(one)
    assert one.overlaps(one)
    assert one.overlaps(inside)


def test_a_neighbour_whose_name_begins_alike_does_not_overlap() -> None:
    assert not parse_location("s3://bucket/a").overlaps(parse_location("s3://bucket/ab"))
    assert not parse_location("s3://bucket/a").overlaps(parse_location("gs://bucket/a"))


def test_what_may_hold_a_password_is_not_taken_for_a_bucket_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="may hold a password") as caught:
        parse_location(":s3,access_key_id=AK,secret_access_key=TOPSECRET:bucket/prefix")

    assert "TOPSECRET" not in str(caught.value)
