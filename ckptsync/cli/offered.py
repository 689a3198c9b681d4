"""What this installation offers to a configuration: layouts, kinds of store, readable secrets."""

from pathlib import Path
from typing import Final

from ckptsync.config.checks import Checks, accept
from ckptsync.config.credentials import secret_fault
from ckptsync.config.location import Location
from ckptsync.config.providers import Scheme
from ckptsync.errors import ConfigError
from ckptsync.sources.layouts import Options, layout

_OWN_INTERFACES: Final = {
    Scheme.GS: 'for Google\'s, its S3 interface (s3://, endpoint = "https://storage.googleapis.com"'
    " and an HMAC key) is untried here; 'ckptsync doctor' tells whether it fences",
    Scheme.AZ: "put an S3 gateway in front of it, or use another store",
}


def checks(*, secrets: bool) -> Checks:
    """With `secrets` their files are read, too."""
    return Checks(
        layout=_layout_fault,
        location=location_fault,
        secret_file=secret_fault if secrets else accept,
    )


def location_fault(location: Location) -> str | None:
    if location.scheme not in _OWN_INTERFACES:
        return None
    return (
        "is not reached: this version knows S3, what is compatible with it, and directories; "
        f"{_OWN_INTERFACES[location.scheme]}"
    )


def _layout_fault(name: str) -> str | None:
    try:
        layout(name, Options(root=Path("/")))
    except ConfigError as error:
        return f"{error}; {error.hint}" if error.hint else str(error)
    return None
