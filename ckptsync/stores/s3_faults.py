"""What an S3 service means by its error codes, without the SDK."""

from dataclasses import dataclass
from typing import Final

from ckptsync.errors import (
    AccessDenied,
    BucketNotFound,
    ChecksumRejected,
    Contention,
    NotFound,
    NotModified,
    PreconditionFailed,
    StoreError,
    Unavailable,
)

_BY_CODE: Final[dict[str, type[StoreError]]] = {
    "NoSuchKey": NotFound,
    "NoSuchBucket": BucketNotFound,
    "PreconditionFailed": PreconditionFailed,
    "ConditionalRequestConflict": Contention,
    "OperationAborted": Contention,
    "BadDigest": ChecksumRejected,
    "InvalidDigest": ChecksumRejected,
    "XAmzContentChecksumMismatch": ChecksumRejected,
    "XAmzContentSHA256Mismatch": ChecksumRejected,
    "AccessDenied": AccessDenied,
    "AllAccessDisabled": AccessDenied,
    "AuthorizationHeaderMalformed": AccessDenied,
    "ExpiredToken": AccessDenied,
    "InvalidAccessKeyId": AccessDenied,
    "InvalidToken": AccessDenied,
    "RequestTimeTooSkewed": AccessDenied,
    "SignatureDoesNotMatch": AccessDenied,
    "TokenRefreshRequired": AccessDenied,
    "InternalError": Unavailable,
    "RequestTimeout": Unavailable,  # with status 400: the body came too slowly
    "ServiceUnavailable": Unavailable,
    "SlowDown": Unavailable,
    "Throttling": Unavailable,
    "ThrottlingException": Unavailable,
    "XMinioServerNotInitialized": Unavailable,
}

_BY_STATUS: Final[dict[int, type[StoreError]]] = {
    304: NotModified,
    401: AccessDenied,
    403: AccessDenied,
    408: Unavailable,
    409: Contention,
    412: PreconditionFailed,
    429: Unavailable,
    500: Unavailable,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}
"""For answers without a body, or whose code is not above. No 404: it leaves open what is absent.
No 501 and no 507: neither passes by itself."""

_HINTS: Final[dict[str, str]] = {
    "AuthorizationHeaderMalformed": "set region to the bucket's own",
    "ExpiredToken": "renew the credentials",
    "IllegalLocationConstraintException": "set region to the bucket's own",
    "NoSuchBucket": "create the bucket, or mend its name in the configuration",
    "NotImplemented": "run 'ckptsync doctor': this service may lack conditional writes",
    "PermanentRedirect": "set region and endpoint to the bucket's own",
    "RequestTimeTooSkewed": "set this host's clock",
    "SignatureDoesNotMatch": "check the secret key",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer other than success. `code` is empty where there was no body to hold one."""

    status: int
    code: str
    message: str

    @property
    def reason(self) -> str:
        said = ": ".join(part for part in (self.code, self.message) if part)
        return said or f"the answer was HTTP {self.status}"

    @property
    def kind(self) -> type[StoreError]:
        """The plain StoreError where trying again would not help and nothing else fits."""
        return _BY_CODE.get(self.code) or _BY_STATUS.get(self.status, StoreError)

    @property
    def hint(self) -> str | None:
        return _HINTS.get(self.code)
