"""S3 and what speaks its language: the only module that knows boto3."""

import base64
import io
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from ckptsync.errors import (
    AccessDenied,
    ChecksumRejected,
    ConfigError,
    IntegrityError,
    NotFound,
    PreconditionFailed,
    StoreError,
    Unavailable,
)
from ckptsync.stores.base import Body, Expect, Fetched, ObjectInfo, Version
from ckptsync.stores.checks import key_fault, require_at_most, require_key, require_reaching
from ckptsync.stores.s3_faults import Answer

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

_DELETE_BATCH: Final = 1000  # DeleteObjects takes no more
_PIECE: Final = 1 << 20
_DATE_LASTS: Final = 60.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Options:
    """Where a bucket is and how to reach it. Without keys the SDK's own chain finds them."""

    bucket: str
    prefix: str = ""
    """`dr/orders`; the keys of the store lie below it."""
    region: str | None = None
    endpoint: str | None = None
    """`https://host:port`; None for Amazon's own."""
    path_style: bool | None = None
    """None: yes with an endpoint, for few services besides Amazon's resolve bucket names."""
    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)
    server_side_encryption: str | None = None
    """`AES256` or `aws:kms`; None leaves it to the bucket."""
    kms_key_id: str | None = None
    storage_class: str | None = None
    max_connections: int = 16
    connect_timeout: timedelta = timedelta(seconds=10)
    read_timeout: timedelta = timedelta(seconds=60)
    page_size: int = 1000
    """Keys a LIST request; S3 sends no more than 1,000."""


class S3Store:
    """Objects below a prefix of a bucket.

    The SDK never tries again, so a condition is tested once per call and waiting is left to
    Retrying. A body is guarded by a CRC32C that the service verifies, not by a signed SHA-256,
    which costs more than ten times as much: over plain HTTP the network between must be trusted.
    """

    def __init__(self, options: S3Options) -> None:
        _check(options)
        prefix = options.prefix.strip("/")
        self.name = f"s3://{options.bucket}/{prefix}".rstrip("/")
        self._bucket = options.bucket
        self._below = f"{prefix}/" if prefix else ""
        self._page_size = options.page_size
        self._secrets = [options.secret_key] if options.secret_key else []
        self._stored_as = _stored_as(options)
        self._client = _connect(options)
        self._dated: tuple[datetime, float] | None = None
        self._client.meta.events.register("after-call.s3", self._note_date)

    def stat(self, key: str) -> ObjectInfo:
        at = self._at("stat", key)
        with self._translating("stat", key):
            try:
                reply = self._client.head_object(**at)
            except self._client.exceptions.ClientError as error:
                if _answer(error).status >= 500:
                    raise
                # A HEAD has no body to say what is wrong, whether it is the key that is missing
                # or the bucket: a GET has.
                found = self._client.get_object(**at)
                found["Body"].close()
                return _info(key, found["ContentLength"], found["LastModified"])
            return _info(key, reply["ContentLength"], reply["LastModified"])

    def walk(self, prefix: str) -> Iterator[ObjectInfo]:
        page: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._below + prefix}
        while True:
            with self._translating("list", prefix):
                reply = self._client.list_objects_v2(**page, MaxKeys=self._page_size)
                found = [
                    _info(
                        entry["Key"].removeprefix(self._below), entry["Size"], entry["LastModified"]
                    )
                    for entry in reply.get("Contents", ())
                ]
                if reply["IsTruncated"]:
                    page["ContinuationToken"] = reply["NextContinuationToken"]
            # Consoles show a folder by an empty object whose key ends with a slash.
            yield from (info for info in found if info.key and not info.key.endswith("/"))
            if not reply["IsTruncated"]:
                return

    def get(self, key: str, *, limit: int, unless: Version | None = None) -> Fetched:
        condition: dict[str, Any] = {} if unless is None else {"IfNoneMatch": unless}
        at = self._at("read", key)
        with self._translating("read", key):
            reply = self._client.get_object(**at, **condition)
            with closing(reply["Body"]) as body:
                require_at_most(self.name, key, reply["ContentLength"], limit=limit)
                data = body.read()
            return Fetched(
                data=data,
                version=Version(reply["ETag"]),
                replica=reply.get("ReplicationStatus") == "REPLICA",
            )

    def read_into(self, key: str, start: int, into: memoryview) -> None:
        if not into:  # an empty range cannot be asked for
            require_reaching(self.name, key, self.stat(key).size, end=start)
            return
        end = start + len(into)
        at = self._at("read", key)
        with self._translating("read", key):
            try:
                reply = self._client.get_object(**at, Range=f"bytes={start}-{end - 1}")
            except self._client.exceptions.ClientError as error:
                if _answer(error).status != 416:
                    raise
                raise IntegrityError(f"{self.name}: '{key}' ends before byte {start}") from error
            with closing(reply["Body"]) as body:
                if not reply.get("ContentRange", "").startswith(f"bytes {start}-"):
                    raise StoreError(self.name, "read", key, "it sent another range than asked for")
                require_reaching(self.name, key, start + reply["ContentLength"], end=end)
                _receive(body, into)

    def put(self, key: str, body: Body, *, expect: Version | Expect = Expect.ANYTHING) -> Version:
        if expect is Expect.ANYTHING:
            return self._put("write", key, body)
        if expect is Expect.ABSENT:
            return self._put("create", key, body, IfNoneMatch="*")
        try:
            return self._put("replace", key, body, IfMatch=expect)
        except NotFound as error:
            # S3 says 404 where other stores say 412.
            raise PreconditionFailed(self.name, "replace", key, "it was deleted") from error

    def put_corrupted(self, key: str) -> bool | None:
        try:
            self._put("write", key, b"rotten", ChecksumCRC32C=_crc32c(b"sound"))
        except ChecksumRejected:
            return True
        return False

    def delete(self, keys: Iterable[str]) -> None:
        rest = iter(keys)
        while batch := list(islice(rest, _DELETE_BATCH)):
            self._delete(batch)

    def now(self) -> datetime:
        """From the Date of the last reply, if that is less than a minute old; else of a new one."""
        if self._dated is not None:
            date, received = self._dated
            since = monotonic() - received
            if since < _DATE_LASTS:
                return date + timedelta(seconds=since)
        at = self._at("ask the time by reading", "now")
        with self._translating("ask the time by reading", "now"):
            try:
                reply: Any = self._client.get_object(**at)
                reply["Body"].close()
            except self._client.exceptions.NoSuchKey as error:  # nothing need be there
                reply = error.response
            date = reply["ResponseMetadata"]["HTTPHeaders"]["date"]
            return parsedate_to_datetime(date).astimezone(UTC)

    def close(self) -> None:
        self._client.close()

    def _note_date(self, *, http_response: Any, **_: Any) -> None:
        with suppress(KeyError, TypeError, ValueError):  # a reply without one tells no time
            date = parsedate_to_datetime(http_response.headers["date"]).astimezone(UTC)
            self._dated = date, monotonic()

    def _put(self, action: str, key: str, body: Body, **how: Any) -> Version:
        request = {
            **self._at(action, key),
            "Body": _Reading(body),
            "ChecksumCRC32C": _crc32c(body),
            **self._stored_as,
            **how,
        }
        with self._translating(action, key):
            reply = self._client.put_object(**request)
            return Version(reply["ETag"])

    def _delete(self, keys: list[str]) -> None:
        named: Any = [{"Key": self._at("delete", key)["Key"]} for key in keys]
        with self._translating("delete", keys[0]):
            reply = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": named})
        # The answer is 200 whatever became of the keys.
        gone = {entry["Key"] for entry in reply.get("Deleted", [])}
        failed = {entry["Key"]: entry for entry in reply.get("Errors", [])}
        for key in keys:
            if self._below + key in gone:
                continue
            error = failed.get(self._below + key, {"Message": "the answer leaves it out"})
            answer = Answer(
                status=200, code=error.get("Code", ""), message=error.get("Message", "")
            )
            if answer.kind is not NotFound:
                raise self._fault("delete", key, answer)

    def _at(self, action: str, key: str) -> dict[str, Any]:
        require_key(self.name, action, key)
        return {"Bucket": self._bucket, "Key": self._below + key}

    @contextmanager
    def _translating(self, action: str, key: str) -> Iterator[None]:
        """Let no error of the SDK out."""
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ClientError as error:
            raise self._fault(action, key, _answer(error)) from error
        except (
            BotoCoreError,
            ResponseParserError,
            HTTPError,
            OSError,
            KeyError,
            ValueError,
        ) as error:
            kind, reason, hint = _judge(error)
            raise kind(self.name, action, key, self._scrubbed(reason), hint=hint) from error

    def _fault(self, action: str, key: str, answer: Answer) -> StoreError:
        return answer.kind(self.name, action, key, self._scrubbed(answer.reason), hint=answer.hint)

    def _scrubbed(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


class _Reading:
    """A body as a file, uncopied: the SDK knows no memoryview.

    It goes out piece by piece, each with the socket's whole time-out to itself.
    """

    def __init__(self, data: Body) -> None:
        self._data = memoryview(data)
        self._at = 0

    def __len__(self) -> int:
        return self._data.nbytes

    def read(self, size: int = -1) -> memoryview:
        end = self._at + size if size >= 0 else len(self)
        piece = self._data[self._at : end]
        self._at += piece.nbytes
        return piece

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self)}[whence]
        return self._at

    def tell(self) -> int:
        return self._at


def _connect(options: S3Options) -> "S3Client":
    """Load the SDK, which takes a quarter of a second, and make a client of it."""
    from boto3.session import Session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    path_style = bool(options.endpoint) if options.path_style is None else options.path_style
    try:
        return Session(
            aws_access_key_id=options.access_key,
            aws_secret_access_key=options.secret_key,
            region_name=options.region,
        ).client(
            "s3",
            endpoint_url=options.endpoint,
            config=Config(
                connect_timeout=options.connect_timeout.total_seconds(),
                read_timeout=options.read_timeout.total_seconds(),
                max_pool_connections=options.max_connections,
                tcp_keepalive=True,
                retries={"mode": "standard", "total_max_attempts": 1},
                request_checksum_calculation="when_required",  # we send our own
                response_checksum_validation="when_required",  # content digests are checked
                user_agent_extra=f"ckptsync/{version('ckptsync')}",
                s3={
                    "addressing_style": "path" if path_style else "auto",
                    "payload_signing_enabled": False,
                },
            ),
        )
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(f"cannot use s3://{options.bucket}: {error}") from error


def _check(options: S3Options) -> None:
    prefix = options.prefix.strip("/")
    if prefix and (fault := key_fault(prefix)):
        raise ConfigError(f"cannot use the prefix '{prefix}' of s3://{options.bucket}: {fault}")
    if options.endpoint is None:
        return
    endpoint = urlsplit(options.endpoint)
    if "@" in endpoint.netloc:
        raise ConfigError("the endpoint must not hold credentials: use access_key and secret_key")
    if endpoint.scheme not in {"http", "https"} or not endpoint.hostname:
        raise ConfigError(f"the endpoint '{options.endpoint}' is not http://host or https://host")


def _stored_as(options: S3Options) -> dict[str, str]:
    settings = {
        "ServerSideEncryption": options.server_side_encryption,
        "SSEKMSKeyId": options.kms_key_id,
        "StorageClass": options.storage_class,
    }
    return {name: value for name, value in settings.items() if value is not None}


def _crc32c(body: Body) -> str:
    from awscrt.checksums import crc32c

    return base64.b64encode(crc32c(body).to_bytes(4, "big")).decode()


def _info(key: str, size: int, modified: datetime) -> ObjectInfo:
    return ObjectInfo(key=key, size=size, modified=modified.astimezone(UTC))


def _receive(body: "StreamingBody", into: memoryview) -> None:
    done = 0
    while done < len(into):
        piece: Any = into[done : done + _PIECE]
        count = body.readinto(piece)
        if not count:
            raise ConnectionError(f"the connection ended after {done} of {len(into)} bytes")
        done += count


def _answer(error: "ClientError") -> Answer:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    said = error.response.get("Error", {})
    code = said.get("Code", "")
    # Where the answer had no body, botocore makes a code of its status.
    return Answer(
        status=status, code="" if code.isdigit() else code, message=said.get("Message", "")
    )


def _judge(error: Exception) -> tuple[type[StoreError], str, str | None]:
    """What an error means that is not the service's answer, its reason, and a hint."""
    from botocore import exceptions as sdk
    from botocore.parsers import ResponseParserError

    match error:
        case KeyError():
            return StoreError, f"the answer lacks {error}", "check the endpoint"
        case ResponseParserError() | ValueError():
            return StoreError, f"the answer makes no sense: {error}", "check the endpoint"
        case sdk.NoCredentialsError() | sdk.PartialCredentialsError():
            return AccessDenied, str(error), "set access_key and secret_key, or AWS_PROFILE"
        case (
            sdk.CredentialRetrievalError()
            | sdk.NoAuthTokenError()
            | sdk.SSOError()
            | sdk.TokenRetrievalError()
        ):
            return AccessDenied, str(error), "renew the credentials"
        case sdk.SSLError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return StoreError, str(error), "set AWS_CA_BUNDLE to the authority's certificate"
        case (
            sdk.HTTPClientError()
            | sdk.ConnectionError()
            | sdk.IncompleteReadError()
            | sdk.UnseekableStreamError()
        ):
            return Unavailable, str(error), None
        case sdk.BotoCoreError():
            return StoreError, str(error), None
    return Unavailable, str(error), None
