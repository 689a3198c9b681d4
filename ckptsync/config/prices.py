"""What object stores charge by their price lists: storage and requests, in US dollars."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from ckptsync.config.model import Sync
from ckptsync.config.providers import Scheme

_GIB: Final = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Traffic is not counted, nor is what a class charges besides."""

    title: str
    """Whose list, of which region and year."""
    gib_month: float
    """The first step of the list; no later one is dearer."""
    thousand_writes: float
    """PUT and LIST. DELETE is free."""
    thousand_reads: float
    """GET and HEAD."""
    besides: str | None = None
    """What else such a store charges for."""

    def storage(self, size: int) -> float:
        """A month of so many bytes."""
        return size / _GIB * self.gib_month

    def requests(self, *, writes: int, reads: int) -> float:
        return (writes * self.thousand_writes + reads * self.thousand_reads) / 1_000


_S3_TITLE: Final = "S3 list prices (us-east-1, 2025)"
_S3: Final = {
    "STANDARD": Prices(
        title=_S3_TITLE, gib_month=0.023, thousand_writes=0.005, thousand_reads=0.0004
    ),
    "STANDARD_IA": Prices(
        title=_S3_TITLE,
        gib_month=0.0125,
        thousand_writes=0.01,
        thousand_reads=0.001,
        besides="what is read, and what is deleted within 30 days",
    ),
}
_GCS: Final = {
    "STANDARD": Prices(
        title="Google Cloud Storage list prices (us-central1, 2025)",
        gib_month=0.020,
        thousand_writes=0.005,
        thousand_reads=0.0004,
    ),
}


def prices(sync: Sync) -> Prices | None:
    """Those of the bucket's store and storage class; None where they are not known here."""
    return _lists(sync).get(sync.storage_class or "STANDARD")


def _lists(sync: Sync) -> dict[str, Prices]:
    match sync.bucket.scheme:
        case Scheme.GS:
            return _GCS
        case Scheme.S3 if sync.endpoint is not None:
            host = urlsplit(sync.endpoint).hostname or ""
            if host == "storage.googleapis.com":
                return _GCS
            return _S3 if host.endswith(".amazonaws.com") else {}
        case Scheme.S3:
            in_china = (sync.region or "").startswith("cn-")  # has a list of its own, in yuan
            return {} if in_china else _S3
        case _:
            return {}
