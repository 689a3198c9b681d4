"""The keys of a store, from the file or from where it says they lie."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from ckptsync.config.model import Sync
from ckptsync.errors import ConfigError, PermissionRefused

_LONGEST: Final = 4096  # bytes
_CREDENTIAL: Final = "credential:"
_DIRECTORY: Final = "CREDENTIALS_DIRECTORY"  # systemd sets it for a unit with LoadCredential=


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    access_key: SecretStr
    secret_key: SecretStr


def credentials(sync: Sync, environment: Mapping[str, str] = os.environ) -> Credentials | None:
    """Both keys; None where the environment or an instance role is to give them.

    Raises ConfigError, and PermissionRefused for a file that this user may not read.
    """
    access = sync.access_key or _from_file("access_key_file", sync.access_key_file, environment)
    secret = sync.secret_key or _from_file("secret_key_file", sync.secret_key_file, environment)
    if access is None or secret is None:
        return None
    return Credentials(access_key=access, secret_key=secret)


def secret_path(name: str, environment: Mapping[str, str]) -> Path:
    """Where a secret lies that is written as a path or as `credential:NAME`."""
    if not name.startswith(_CREDENTIAL):
        return Path(name)
    directory = environment.get(_DIRECTORY)
    if not directory:
        raise ConfigError(
            f"{name!r} is a credential of systemd, but systemd gave this process none",
            hint="add LoadCredential= to the unit, or name a file instead",
        )
    return Path(directory, name.removeprefix(_CREDENTIAL))


def secret_fault(name: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """Why a secret cannot be read; None if it can, or only a unit of systemd could tell."""
    if name.startswith(_CREDENTIAL) and not environment.get(_DIRECTORY):
        return None
    try:
        _read(name, environment)
    except (ConfigError, PermissionRefused) as error:
        return str(error)
    return None


def _from_file(setting: str, name: str | None, environment: Mapping[str, str]) -> SecretStr | None:
    if name is None:
        return None
    try:
        return _read(name, environment)
    except (ConfigError, PermissionRefused) as error:
        raise type(error)(f"{setting}: {error}", hint=error.hint) from error


def _read(name: str, environment: Mapping[str, str]) -> SecretStr:
    path = secret_path(name, environment)
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST + 1).decode().strip()
    except FileNotFoundError as error:
        raise ConfigError(f"{path}, which should hold a secret, does not exist") from error
    except PermissionError as error:
        raise PermissionRefused(f"{path} may not be read by this user") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{path} should hold a secret, but is not text") from None
    if not text or len(text) > _LONGEST or len(text.split()) > 1:
        raise ConfigError(f"{path} should hold a secret and nothing else, on one line")
    return SecretStr(text)
