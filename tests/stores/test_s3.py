"""What is particular to S3: its errors, its answers and its services."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ckptsync.errors import (
    AccessDenied,
    BucketNotFound,
    ChecksumRejected,
    CkptsyncError,
    ConfigError,
    Contention,
    IntegrityError,
    NotFound,
    NotModified,
    PreconditionFailed,
    StoreError,
    Unavailable,
)
from ckptsync.stores.base import Expect, Fetched, ObjectStore, Version
from ckptsync.stores.retry import Backoff, Retrying
from ckptsync.stores.s3 import S3Options, S3Store
from ckptsync.stores.s3_faults import Answer
from tests.servers import Reply, S3Server, free_ports, refusal, scripted

OLD = Version('"old"')


@contextmanager
def opened(options: S3Options) -> Iterator[S3Store]:
    with closing(S3Store(options)) as store:
        yield store


def get(store: ObjectStore) -> object:
    return store.get("key", limit=100)


def get_unless(store: ObjectStore) -> object:
    return store.get("key", limit=100, unless=OLD)


def read_into(store: ObjectStore) -> None:
    store.read_into("key", 0, memoryview(bytearray(10)))


def stat(store: ObjectStore) -> object:
    return store.stat("key")


def walk(store: ObjectStore) -> object:
    return list(store.walk(""))


def put(store: ObjectStore) -> object:
    return store.put("key", b"body")


def put_large(store: ObjectStore) -> object:
    return store.put("key", bytes(3 << 20))


def create(store: ObjectStore) -> object:
    return store.put("key", b"body", expect=Expect.ABSENT)


def exchange(store: ObjectStore) -> object:
    return store.put("key", b"body", expect=OLD)


def delete(store: ObjectStore) -> None:
    store.delete(["key"])


def now(store: ObjectStore) -> object:
    return store.now()


EVERY_CALL = [get, get_unless, read_into, stat, walk, put, put_large, create, exchange, delete, now]


@pytest.mark.parametrize(
    ("act", "reply", "kind"),
    [
        (get, refusal(404, "NoSuchKey"), NotFound),
        (get, refusal(404, "NoSuchBucket"), BucketNotFound),
        (get, refusal(403, "AccessDenied"), AccessDenied),
        (get, refusal(403, "InvalidAccessKeyId"), AccessDenied),
        (get, refusal(403, "RequestTimeTooSkewed"), AccessDenied),
        (get, refusal(400, "ExpiredToken"), AccessDenied),
        (get, refusal(400, "AuthorizationHeaderMalformed"), AccessDenied),
        (get, refusal(429, "TooManyRequests"), Unavailable),
        (get, refusal(503, "SlowDown"), Unavailable),
        (get, Reply(status=502, body=b"<html>bad gateway</html>"), Unavailable),
        (get, Reply(status=500), Unavailable),
        (get, Reply(status=200, body=b"short", announced=50), Unavailable),
        (get_unless, Reply(status=304), NotModified),
        (read_into, refusal(416, "InvalidRange"), IntegrityError),
        (read_into, refusal(404, "NoSuchKey"), NotFound),
        (walk, refusal(404, "NoSuchBucket"), BucketNotFound),
        (walk, Reply(status=403), AccessDenied),
        (walk, Reply(status=200, body=b"not even markup"), Unavailable),
        (put, refusal(400, "BadDigest"), ChecksumRejected),
        (put, refusal(400, "InvalidDigest"), ChecksumRejected),
        (put, refusal(400, "RequestTimeout"), Unavailable),
        (create, refusal(412, "PreconditionFailed"), PreconditionFailed),
        (create, Reply(status=412), PreconditionFailed),
        (create, refusal(409, "ConditionalRequestConflict"), Contention),
        (create, refusal(404, "NoSuchBucket"), BucketNotFound),
        (exchange, refusal(412, "PreconditionFailed"), PreconditionFailed),
        (exchange, refusal(409, "ConditionalRequestConflict"), Contention),
        (exchange, refusal(404, "NoSuchKey"), PreconditionFailed),
        (exchange, refusal(404, "NoSuchBucket"), BucketNotFound),
        (exchange, refusal(429, "SlowDown"), Unavailable),
        (delete, refusal(503, "ServiceUnavailable"), Unavailable),
        (now, Reply(status=403), AccessDenied),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_an_answer_is_translated_after_a_single_request(
    act: Callable[[ObjectStore], object], reply: Reply, kind: type[CkptsyncError]
) -> None:
    with (
        scripted(reply) as (server, asked),
        opened(server.options()) as store,
        pytest.raises(CkptsyncError) as caught,
    ):
        act(store)

    assert type(caught.value) is kind
    assert len(asked) == 1, "the SDK tried again"


@pytest.mark.parametrize(
    ("act", "reply"),
    [
        (get, Reply(status=404)),
        (get, refusal(501, "NotImplemented")),
        (get, refusal(507, "InsufficientStorage")),
        (get, refusal(400, "InvalidRequest")),
        (get, Reply(status=200, body=b"ok")),  # no ETag
        (put, Reply(status=200)),
        (put, Reply(status=404)),
        (walk, Reply(status=200, body=b"<html>log in first</html>")),
        (now, Reply(status=404)),
        (now, replace(refusal(404, "NoSuchKey"), headers={"Date": "yesterday"})),
        (now, refusal(404, "NoSuchKey")),  # no Date
    ],
)
def test_an_answer_that_makes_no_sense_is_neither_absence_nor_transient(
    act: Callable[[ObjectStore], object], reply: Reply
) -> None:
    with (
        scripted(reply) as (server, _),
        opened(server.options()) as store,
        pytest.raises(StoreError) as caught,
    ):
        act(store)

    assert type(caught.value) is StoreError


def test_stat_tells_an_absent_key_from_an_absent_bucket() -> None:
    bare = Reply(status=404)
    with (
        scripted(bare, refusal(404, "NoSuchKey")) as (server, _),
        opened(server.options()) as store,
        pytest.raises(NotFound),
    ):
        store.stat("key")
    with (
        scripted(bare, refusal(404, "NoSuchBucket")) as (server, _),
        opened(server.options()) as store,
        pytest.raises(BucketNotFound),
    ):
        store.stat("key")


def test_stat_finds_out_why_it_was_refused() -> None:
    with (
        scripted(Reply(status=403), refusal(403, "InvalidAccessKeyId")) as (server, _),
        opened(server.options()) as store,
        pytest.raises(AccessDenied, match="InvalidAccessKeyId"),
    ):
        store.stat("key")


def test_a_refused_delete_names_its_key() -> None:
    body = b"""<DeleteResult><Deleted><Key>p/a</Key></Deleted><Error><Key>p/b</Key>
        <Code>AccessDenied</Code><Message>locked</Message></Error></DeleteResult>"""
    with (
        scripted(Reply(body=body)) as (server, _),
        opened(server.options("p")) as store,
        pytest.raises(AccessDenied, match="cannot delete 'b': AccessDenied: locked"),
    ):
        store.delete(["a", "b"])


def test_a_delete_that_is_not_confirmed_is_an_error() -> None:
    body = b"<DeleteResult><Deleted><Key>a</Key></Deleted></DeleteResult>"
    with (
        scripted(Reply(body=body)) as (server, _),
        opened(server.options()) as store,
        pytest.raises(StoreError, match="'b'"),
    ):
        store.delete(["a", "b"])


def test_a_list_that_breaks_off_without_a_token_is_an_error() -> None:
    body = b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"
    with (
        scripted(Reply(body=body)) as (server, _),
        opened(server.options()) as store,
        pytest.raises(StoreError, match="NextContinuationToken"),
    ):
        list(store.walk(""))


def test_folder_markers_are_no_objects(moto: S3Server) -> None:
    with closing(moto.client()) as client, opened(moto.options("markers")) as store:
        for key in ("markers/", "markers/chunks/", "markers/chunks/a"):
            client.put_object(Bucket="bucket", Key=key, Body=b"")

        assert [info.key for info in store.walk("")] == ["chunks/a"]


def test_a_range_that_breaks_off_is_unavailable_and_not_damage() -> None:
    cut = Reply(status=206, body=b"01234", announced=10, headers={"Content-Range": "bytes 0-9/10"})
    with (
        scripted(cut) as (server, _),
        opened(server.options()) as store,
        pytest.raises(Unavailable),
    ):
        read_into(store)


def test_a_service_that_ignores_ranges_is_found_out() -> None:
    whole = Reply(status=200, body=b"0123456789")
    with (
        scripted(whole) as (server, _),
        opened(server.options()) as store,
        pytest.raises(StoreError, match="another range"),
    ):
        store.read_into("key", 5, memoryview(bytearray(5)))


@pytest.mark.parametrize("act", EVERY_CALL)
def test_a_server_that_hangs_is_unavailable(act: Callable[[ObjectStore], object]) -> None:
    with scripted(Reply(hang=True)) as (server, asked):
        impatient = replace(server.options(), read_timeout=timedelta(milliseconds=200))
        with opened(impatient) as store, pytest.raises(Unavailable):
            act(store)
    assert len(asked) == 1


@pytest.mark.parametrize("act", EVERY_CALL)
def test_a_dead_endpoint_is_unavailable(act: Callable[[ObjectStore], object]) -> None:
    (port,) = free_ports(1)
    with (
        opened(S3Server(endpoint=f"http://127.0.0.1:{port}").options()) as store,
        pytest.raises(Unavailable, match="Could not connect"),
    ):
        act(store)


def test_a_name_that_does_not_resolve_is_unavailable() -> None:
    with (
        opened(S3Server(endpoint="http://nowhere.invalid").options()) as store,
        pytest.raises(Unavailable),
    ):
        get(store)


@pytest.mark.parametrize("act", EVERY_CALL)
def test_wrong_keys_are_denied_and_not_shown(
    seaweedfs: S3Server, act: Callable[[ObjectStore], object]
) -> None:
    wrong = replace(seaweedfs.options(), secret_key="open-sesame")
    with opened(wrong) as store, pytest.raises(AccessDenied) as caught:
        act(store)
    assert "open-sesame" not in str(caught.value)


def test_an_unknown_access_key_is_denied(seaweedfs: S3Server) -> None:
    with (
        opened(replace(seaweedfs.options(), access_key="nobody")) as store,
        pytest.raises(AccessDenied, match="InvalidAccessKeyId"),
    ):
        get(store)


@pytest.mark.parametrize(
    ("kind", "act"),
    [
        (kind, act)
        for kind in ("moto", "seaweedfs")
        for act in EVERY_CALL
        if (kind, act) != ("seaweedfs", exchange)  # it tests the condition first, and says 412
    ],
)
def test_a_missing_bucket_is_not_an_empty_one(
    request: pytest.FixtureRequest, kind: str, act: Callable[[ObjectStore], object]
) -> None:
    server: S3Server = request.getfixturevalue(kind)
    with (
        opened(replace(server.options(), bucket="no-such-bucket")) as store,
        pytest.raises(BucketNotFound, match="NoSuchBucket"),
    ):
        act(store)


def test_a_corrupt_body_is_rejected(seaweedfs: S3Server) -> None:
    with opened(seaweedfs.options("corrupt")) as store:
        assert store.put_corrupted("key") is True
        with pytest.raises(NotFound):
            store.get("key", limit=100)


def test_a_server_that_does_not_check_bodies_is_found_out(moto: S3Server) -> None:
    with opened(moto.options("corrupt")) as store:
        assert store.put_corrupted("key") is False


def test_a_secret_in_an_answer_is_scrubbed() -> None:
    said = refusal(403, "AccessDenied", "test-secret does not open this")
    with (
        scripted(said) as (server, _),
        opened(server.options()) as store,
        pytest.raises(AccessDenied, match=r"\*\*\* does not open this"),
    ):
        get(store)


def test_options_do_not_show_their_secrets() -> None:
    options = S3Options(bucket="b", access_key="a", secret_key="hush")

    assert "hush" not in repr(options)


@pytest.mark.parametrize(
    "endpoint", ["localhost:9000", "ftp://host", "https://", "https://user:pass@host", "nonsense"]
)
def test_an_endpoint_that_cannot_be_one_is_a_configuration_error(endpoint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        S3Store(S3Options(bucket="b", endpoint=endpoint))
    assert "pass" not in str(caught.value).replace("path", "")


def test_a_prefix_that_no_key_could_have_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"a/\.\./b"):
        S3Store(S3Options(bucket="b", prefix="a/../b"))


@pytest.mark.parametrize("prefix", ["p/q", "/p/q", "p/q/"])
def test_slashes_around_a_prefix_do_not_matter(prefix: str) -> None:
    with opened(S3Options(bucket="b", prefix=prefix, region="us-east-1")) as store:
        assert store.name == "s3://b/p/q"


def test_without_credentials_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with (
        opened(S3Options(bucket="b", endpoint="http://127.0.0.1:1")) as store,
        pytest.raises(AccessDenied) as caught,
    ):
        get(store)
    assert caught.value.hint is not None


def test_how_objects_are_stored_is_told_to_the_service(moto: S3Server) -> None:
    options = replace(
        moto.options("settings"), server_side_encryption="AES256", storage_class="STANDARD_IA"
    )
    with opened(options) as store, closing(moto.client()) as client:
        store.put("a", b"x")

        head = client.head_object(Bucket="bucket", Key="settings/a")

    assert (head["ServerSideEncryption"], head["StorageClass"]) == ("AES256", "STANDARD_IA")


def test_two_prefixes_of_a_bucket_do_not_see_each_other(moto: S3Server) -> None:
    with opened(moto.options("a")) as one, opened(moto.options("ab")) as other:
        one.put("key", b"one")
        other.put("key", b"other")

        assert [info.key for info in one.walk("")] == ["key"]
        one.delete(["key"])
        assert other.get("key", limit=10).data == b"other"


def test_small_pages_find_every_key(moto: S3Server) -> None:
    with opened(replace(moto.options("pages"), page_size=3)) as store:
        keys = [f"{number:02}" for number in range(10)]
        for key in keys:
            store.put(key, b"")

        assert [info.key for info in store.walk("")] == keys


def test_the_clock_is_the_servers() -> None:
    date = {"Date": "Tue, 03 Mar 2037 04:05:06 GMT"}
    dated = replace(refusal(404, "NoSuchKey"), headers=date)
    with scripted(dated) as (server, _), opened(server.options()) as store:
        assert store.now() == datetime(2037, 3, 3, 4, 5, 6, tzinfo=UTC)


def test_asking_the_time_after_another_call_costs_no_request() -> None:
    date = {"Date": "Tue, 03 Mar 2037 04:05:06 GMT", "ETag": '"version"'}
    with (
        scripted(Reply(status=200, headers=date, body=b"data")) as (server, asked),
        opened(server.options()) as store,
    ):
        store.get("key", limit=10)

        assert datetime(2037, 3, 3, 4, 5, 6, tzinfo=UTC) <= store.now()
        assert len(asked) == 1


def test_a_hint_says_what_to_do() -> None:
    assert (
        Answer(status=403, code="RequestTimeTooSkewed", message="").hint == "set this host's clock"
    )
    assert Answer(status=403, code="AccessDenied", message="").hint is None


def test_an_answer_without_a_body_still_has_a_reason() -> None:
    assert Answer(status=403, code="", message="").reason == "the answer was HTTP 403"
    assert Answer(status=403, code="X", message="y").reason == "X: y"


@pytest.mark.parametrize(
    ("status", "replica"),
    [("REPLICA", True), ("COMPLETED", False), ("PENDING", False), (None, False)],
)
def test_an_object_that_the_service_replicated_here_is_told_from_one_that_was_written_here(
    status: str | None, replica: bool
) -> None:
    headers = {"ETag": '"e"'} | ({} if status is None else {"x-amz-replication-status": status})
    with (
        scripted(Reply(body=b"body", headers=headers)) as (server, _),
        opened(server.options()) as store,
    ):
        fetched = Retrying(store, Backoff(), lambda _: True).get("key", limit=10)

    assert fetched == Fetched(data=b"body", version=Version('"e"'), replica=replica)
