"""What every store refuses alike, in the same words."""

from typing import Final

from ckptsync.errors import IntegrityError, StoreError

_KEY_BYTES: Final = 1024  # S3 takes no more


def key_fault(key: str) -> str | None:
    """Why no store takes this key, as the end of a sentence; None if every store does.

    A key is made of `/`-separated parts, none of them empty, `.` or `..`: at most 1,024 bytes of
    UTF-8 without control characters and backslashes.
    """
    if any(character < " " or character == "\x7f" for character in key):
        return "a key holds no control characters"
    if "\\" in key:
        return "a key holds no backslash"  # SeaweedFS makes it a slash
    if any(part in {"", ".", ".."} for part in key.split("/")):
        return "no part of a key is empty, '.' or '..'"
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "a key is valid UTF-8"
    return f"a key has at most {_KEY_BYTES} bytes" if size > _KEY_BYTES else None


def require_key(store: str, action: str, key: str) -> None:
    """Raise StoreError unless every store would take this key."""
    if fault := key_fault(key):
        raise StoreError(store, action, key, fault)


def require_at_most(store: str, key: str, size: int, *, limit: int) -> None:
    """Raise IntegrityError if an object to be read whole is longer than it can rightly be."""
    if size > limit:
        raise IntegrityError(f"{store}: '{key}' has {size} bytes, where at most {limit} are right")


def require_reaching(store: str, key: str, size: int, *, end: int) -> None:
    """Raise IntegrityError if an object ends before byte `end` of it."""
    if size < end:
        raise IntegrityError(f"{store}: '{key}' has {size} bytes, where {end} were expected")
