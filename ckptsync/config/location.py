"""The spellings of a bucket, and the one that we compare and remember."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ckptsync.config.providers import Scheme, parse_provider


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A bucket and a prefix in it; `str()` is the canonical spelling."""

    scheme: Scheme
    bucket: str
    """The container for Azure; empty for a directory."""
    prefix: str
    """Without slashes at either end; for a directory its absolute path."""

    def __str__(self) -> str:
        if self.scheme is Scheme.FILE:
            return f"file://{self.prefix}"
        return f"{self.scheme}://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")

    @property
    def path(self) -> Path:
        """Where a `file://` location lies on this host."""
        return Path(self.prefix)

    def overlaps(self, other: "Location") -> bool:
        """Whether one is the other, or lies within it."""
        mine, theirs = f"{self}/", f"{other}/"
        return mine.startswith(theirs) or theirs.startswith(mine)


_MEANT: Final = {
    "s3a": "s3://BUCKET/PREFIX",
    "s3n": "s3://BUCKET/PREFIX",
    "minio": "s3://BUCKET/PREFIX, with an endpoint",
    "gcs": "gs://BUCKET/PREFIX",
    "azure": "az://CONTAINER/PREFIX",
    "azblob": "az://CONTAINER/PREFIX",
    "abfs": "az://CONTAINER/PREFIX",
    "abfss": "az://CONTAINER/PREFIX",
    "wasb": "az://CONTAINER/PREFIX",
    "wasbs": "az://CONTAINER/PREFIX",
    "http": "s3://BUCKET/PREFIX, and the server as 'endpoint'",
    "https": "s3://BUCKET/PREFIX, and the server as 'endpoint'",
    "memory": "file:///PATH: what lies in memory is gone with the process",
}
_FORMS: Final = "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or file:///PATH"
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_MAX_PREFIX: Final = 800  # bytes; S3 and GCS allow keys of 1,024, Azure of 1,024 characters


def parse_location(text: str, *, provider: str | None = None) -> Location:
    """Read a bucket, with or without its scheme; without one `provider` says which it is.

    Raises ValueError. The message never repeats what could be a password in the text.
    """
    if not text:
        raise ValueError(f"is empty: write {_FORMS}")
    if any(not character.isprintable() or character == "\\" for character in text):
        raise ValueError("holds a backslash or a character that cannot be printed")
    if text != text.strip():
        raise ValueError("begins or ends with a space")
    if text.startswith(":"):
        raise ValueError(f"is not a location, and may hold a password: write {_FORMS}")
    head, colon, rest = text.partition(":")
    if colon and "/" not in head:
        return _parse_rest(_scheme(head, rest), rest.removeprefix("//"))
    if text.startswith("/"):
        raise ValueError("names no bucket: for a directory write file:///PATH")
    return _parse_rest(parse_provider(provider) if provider else Scheme.S3, text)


def _scheme(name: str, rest: str) -> Scheme:
    if name.casefold() in _MEANT:
        raise ValueError(f"is of a kind that is not supported: write {_MEANT[name.casefold()]}")
    if not rest.startswith("//") or name.casefold() not in set(Scheme):
        raise ValueError(f"is not a location: write {_FORMS}")
    return Scheme(name.casefold())


def _parse_rest(scheme: Scheme, rest: str) -> Location:
    if "?" in rest or "#" in rest:
        raise ValueError("has a query or a fragment: options are settings of their own")
    authority = rest.partition("/")[0]
    if "@" in authority:
        raise ValueError("holds a user name or password: write them as access_key and secret_key")
    if scheme is Scheme.FILE and authority:
        raise ValueError("must be absolute: write file:///PATH, with three slashes")
    parts = [part for part in rest.split("/") if part]
    if "." in parts or ".." in parts:
        raise ValueError("has a '.' or '..' part: write the location without it")
    if scheme is Scheme.FILE:
        if not parts:
            raise ValueError("names no directory: write file:///PATH")
        return Location(scheme=scheme, bucket="", prefix="/" + "/".join(parts))
    if not authority or not parts:
        raise ValueError(f"names no bucket: write {_FORMS}")
    bucket, *prefix = parts
    if not _BUCKET.fullmatch(bucket):
        raise ValueError("names no bucket: that has up to 255 letters, digits, '.', '_' and '-'")
    if len("/".join(prefix).encode()) > _MAX_PREFIX:
        raise ValueError(f"has a prefix of more than {_MAX_PREFIX} bytes")
    return Location(scheme=scheme, bucket=bucket, prefix="/".join(prefix))
