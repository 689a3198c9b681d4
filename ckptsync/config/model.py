"""The sections of the configuration file: what may be written, and what holds if it is not."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from ckptsync.config import checks
from ckptsync.config.fields import (
    AbsolutePath,
    Age,
    Argv,
    Duration,
    Endpoint,
    HashName,
    PositiveDuration,
    SecondsOrMore,
    SecretFile,
    Size,
)
from ckptsync.config.location import Location, parse_location
from ckptsync.config.providers import parse_provider
from ckptsync.errors import ConfigError
from ckptsync.hashing import Hash
from ckptsync.units import format_size, parse_duration, parse_size

_MIN_CHUNK: Final = parse_size("4MiB")
_MAX_PACKED: Final = parse_size("16MiB")
_MAX_CHUNK: Final = parse_size("512MiB")
MOST_PERIODS: Final = 10_000
_ENGINE_OWNED: Final = Path("coordinator", "ckptsync")
"""Below a storage root: the one place that Feldera leaves alone."""

SECTION: Final = "section"
"""The type of an error that concerns a whole section, not the field that found it."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _default_state_dir() -> Path:
    of_the_service = Path("/var/lib/ckptsync")
    if os.geteuid() == 0 or _is_ours(of_the_service):
        return of_the_service
    stated = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (stated if stated.is_absolute() else Path.home() / ".local/state") / "ckptsync"


def _is_ours(directory: Path) -> bool:
    try:
        return directory.stat().st_uid == os.geteuid()
    except OSError:
        return False


class Daemon(_Section):
    node: str = Field(
        default_factory=socket.gethostname,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$",
        validate_default=True,
    )
    state_dir: AbsolutePath = Field(default_factory=_default_state_dir)


class Directory(_Section):
    """How the layout `directory` knows a complete checkpoint; by its own rules if not told."""

    marker: str | None = Field(default=None, pattern=r"^[^/\x00]{1,255}$")
    quiet: Duration = parse_duration("30s")


class Hooks(_Section):
    """Commands of the operator's; the name of each says when it is run."""

    engine_running: Argv | None = None
    """Exits 0 if the engine runs, 1 or 3 if it does not; anything else says neither."""
    pre_push: Argv | None = None
    pre_activate: Argv | None = None
    on_activate: Argv | None = None
    on_fenced: Argv | None = None
    on_release: Argv | None = None
    on_role_change: Argv | None = None
    timeout: PositiveDuration = parse_duration("2m")


class Activation(_Section):
    guard: Literal["refuse", "off"] = "refuse"
    """`off`: do not mind a primary that seems alive."""
    on_pull_failure: Literal["fail", "local"] = "fail"
    max_staleness: Duration = parse_duration("15m")
    start_unverified: bool = True


class Repository(_Section):
    """Only read when the repository is created."""

    chunk_size: Size = parse_size("32MiB")
    pack_below: Size = parse_size("1MiB")
    hash: HashName = Hash.BLAKE3

    @field_validator("chunk_size")
    @classmethod
    def _power_of_two(cls, size: int) -> int:
        if not _MIN_CHUNK <= size <= _MAX_CHUNK or size & (size - 1):
            raise ValueError("must be a power of two from 4MiB to 512MiB")
        return size

    @field_validator("pack_below")
    @classmethod
    def _packable(cls, size: int, info: ValidationInfo) -> int:
        if size > min(info.data.get("chunk_size", _MAX_CHUNK) // 2, _MAX_PACKED):
            raise ValueError("must not be larger than half of chunk_size, nor than 16MiB")
        return size


class Retention(_Section):
    """So many hours, days, ISO weeks and months keep their newest checkpoint, all in UTC.

    It only adds to what retention_min_count and retention_min_age keep.
    """

    hourly: int = Field(default=0, ge=0, le=MOST_PERIODS)
    daily: int = Field(default=0, ge=0, le=MOST_PERIODS)
    weekly: int = Field(default=0, ge=0, le=MOST_PERIODS)
    monthly: int = Field(default=0, ge=0, le=MOST_PERIODS)


def _provider(name: str) -> str:
    parse_provider(name)
    return name


class Sync(_Section):
    """Names, meanings and defaults as in Feldera's block of this name, where it has them.

    A field may look at those above it, so that one mistake never hides another.
    """

    provider: Annotated[str, AfterValidator(_provider)] | None = None
    endpoint: Endpoint | None = None
    region: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    path_style: bool | None = None

    bucket: Location
    read_bucket: Location | None = None

    access_key: SecretStr | None = Field(default=None, min_length=1)
    access_key_file: SecretFile | None = None
    secret_key: SecretStr | None = Field(default=None, min_length=1)
    secret_key_file: SecretFile | None = Field(default=None, validate_default=True)

    start_from_checkpoint: str | None = Field(default=None, pattern=r"^[^/\x00-\x1f]{1,255}$")
    """`latest`, or the engine's own id of a checkpoint."""
    fail_if_no_checkpoint: bool = False
    standby: bool = False
    pull_interval: PositiveDuration = parse_duration("10s")
    push_interval: PositiveDuration | None = None
    fence_check_interval: SecondsOrMore = parse_duration("5s")
    warm_keep: int = Field(default=2, ge=1, le=16)
    """Complete checkpoints that a standby keeps."""
    retention_min_count: int = Field(default=10, ge=0, lt=2**32)
    """Below 1 it acts as 1: the newest checkpoint is never deleted."""
    retention_min_age: Age = parse_duration("30d")
    retention: Retention = Retention()

    transfers: int = Field(default=20, ge=1, le=255)
    memory: Size = parse_size("96MiB")
    """For buffers, all transfers of the pipeline together."""
    connect_timeout: PositiveDuration = parse_duration("10s")
    read_timeout: PositiveDuration = parse_duration("60s")

    server_side_encryption: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = None
    kms_key_id: str | None = Field(default=None, pattern=r"^[!-~]{1,2048}$")
    storage_class: str | None = Field(default=None, pattern=r"^[A-Z0-9_]{1,64}$")
    fencing: Literal["on", "off"] = "on"

    @field_validator("bucket", "read_bucket", mode="before")
    @classmethod
    def _parse(cls, value: Any, info: ValidationInfo) -> Location:
        if isinstance(value, str):
            return parse_location(value, provider=info.data.get("provider"))
        raise ValueError('must be text such as "s3://BUCKET/PREFIX"')

    @field_validator("bucket", "read_bucket")
    @classmethod
    def _can_be_reached(cls, value: Location | None, info: ValidationInfo) -> Location | None:
        if value is not None:
            checks.require(checks.of(info.context).location(value))
        return value

    @field_validator("read_bucket")
    @classmethod
    def _differs_from_bucket(cls, value: Location | None, info: ValidationInfo) -> Location | None:
        if value is not None and value == info.data.get("bucket"):
            raise ValueError(f"must point to different locations: bucket is {value}, too")
        return value

    @field_validator("access_key_file", "secret_key_file")
    @classmethod
    def _can_be_read(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None:
            checks.require(checks.of(info.context).secret_file(value))
        return value

    @field_validator("secret_key_file")
    @classmethod
    def _keys_come_together(cls, value: str | None, info: ValidationInfo) -> str | None:
        if not {"access_key", "access_key_file", "secret_key"} <= info.data.keys():
            return value  # one of them is wrong by itself, and said to be
        access = [info.data["access_key"], info.data["access_key_file"]]
        secret = [info.data["secret_key"], value]
        for name, given in (("access_key", access), ("secret_key", secret)):
            if None not in given:
                raise PydanticCustomError(SECTION, f"has both {name} and {name}_file: keep one")
        if any(access) != any(secret):
            lacking = "secret_key" if any(access) else "access_key"
            raise PydanticCustomError(
                SECTION,
                f"has no {lacking} or {lacking}_file: access_key and secret_key come together, "
                "or not at all where the environment or an instance role gives them",
            )
        return value

    @field_validator("kms_key_id")
    @classmethod
    def _belongs_to_kms(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value and not (info.data.get("server_side_encryption") or "").startswith("aws:kms"):
            raise ValueError('needs server_side_encryption = "aws:kms"')
        return value

    @field_validator("storage_class")
    @classmethod
    def _readable_at_once(cls, value: str | None) -> str | None:
        if value in {"GLACIER", "DEEP_ARCHIVE"}:
            raise ValueError("cannot be read at once, as recovery needs; try GLACIER_IR")
        return value


class Pipeline(_Section):
    storage_path: AbsolutePath
    layout: str = Field(default="feldera", pattern=r"^[a-z][a-z0-9_-]{0,63}$")
    work_path: AbsolutePath | None = None
    directory: Directory = Directory()
    hooks: Hooks = Hooks()
    activation: Activation = Activation()
    repository: Repository = Repository()
    sync: Sync

    @field_validator("layout")
    @classmethod
    def _is_there(cls, value: str, info: ValidationInfo) -> str:
        checks.require(checks.of(info.context).layout(value))
        return value

    @field_validator("work_path")
    @classmethod
    def _lies_beside_storage(cls, work: Path | None, info: ValidationInfo) -> Path | None:
        storage: Path | None = info.data.get("storage_path")
        if work is None or storage is None or work.is_relative_to(storage / _ENGINE_OWNED):
            return work
        if work.is_relative_to(storage) or storage.is_relative_to(work):
            raise ValueError(
                f"must lie outside storage_path ({storage}) and not hold it, on the same disk; "
                f"only {storage / _ENGINE_OWNED} may lie within"
            )
        return work

    @field_validator("sync")
    @classmethod
    def _memory_holds_a_chunk(cls, sync: Sync, info: ValidationInfo) -> Sync:
        repository: Repository | None = info.data.get("repository")
        if repository is not None and sync.memory < repository.chunk_size:
            raise ValueError(
                f"has memory = {format_size(sync.memory)}, which does not hold one chunk: "
                f"repository.chunk_size is {format_size(repository.chunk_size)}"
            )
        return sync


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A whole file, checked. Its defaults are already in each pipeline."""

    path: Path
    daemon: Daemon
    pipelines: Mapping[str, Pipeline]
    """At least one."""

    def choose(self, name: str | None) -> str:
        """The pipeline that was named, or the only one. Raises ConfigError."""
        known = ", ".join(sorted(self.pipelines))
        if name is None and len(self.pipelines) == 1:
            return next(iter(self.pipelines))
        if name is None:
            raise ConfigError(f"{self.path} has several pipelines: name one of {known}")
        if name not in self.pipelines:
            raise ConfigError(f"{self.path} has no pipeline {name!r}; it has {known}")
        return name
