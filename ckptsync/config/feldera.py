"""Feldera's pipeline configuration, turned into ours."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ckptsync.config.load import PIPELINE_NAME, parse
from ckptsync.config.providers import Scheme
from ckptsync.config.toml import table
from ckptsync.errors import ConfigError
from ckptsync.units import parse_duration

_LARGEST: Final = 64 << 20  # characters; a whole record holds the compiled program
_REFERENCE: Final = "${secret:"  # what Feldera looks up in Kubernetes when it starts

_SAME: Final = (
    "region",
    "provider",
    "read_bucket",
    "access_key",
    "start_from_checkpoint",
    "fail_if_no_checkpoint",
    "standby",
    "pull_interval",
    "push_interval",
    "retention_min_count",
    "retention_min_age",
    "transfers",
)
_FLAGS: Final = {
    "--s3-server-side-encryption": "server_side_encryption",
    "--s3-sse-kms-key-id": "kms_key_id",
    "--s3-storage-class": "storage_class",
}
_STEERS_RCLONE: Final = (
    "checkers",
    "ignore_checksum",
    "multi_thread_streams",
    "multi_thread_cutoff",
    "upload_concurrency",
    "optimize_download_resources",
)
_NOT_OURS: Final = "is the engine's own"
_READ: Final = {"storage", "storage_config", "fault_tolerance"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    toml: str
    """A section that `load` accepts; it never holds a secret."""
    ignored: tuple[tuple[str, str], ...]
    """The keys that have no counterpart, and why."""
    warnings: tuple[str, ...]


@dataclass(slots=True)
class _Findings:
    ignored: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def read_feldera(text: str, origin: str) -> Mapping[str, Any]:
    """Parse the JSON; `origin` is for messages. Raises ConfigError."""
    if len(text) > _LARGEST:
        raise ConfigError(
            f"{origin} is larger than any Feldera configuration: {len(text)} characters"
        )
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ConfigError(f"{origin} is not valid JSON: {error.msg} at {where}") from error
    except (RecursionError, ValueError) as error:
        raise ConfigError(f"{origin} is not valid JSON: too deep, or a number too long") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{origin} is not a Feldera configuration: it is no JSON object")
    return document


def import_feldera(
    document: Mapping[str, Any],
    *,
    name: str | None = None,
    storage_path: Path | None = None,
    bucket: str | None = None,
) -> Imported:
    """Translate a runtime configuration, a body that holds one, or a pipeline's whole record.

    The arguments win over what the document says. Raises ConfigError if it lacks what ours
    needs and no argument gives it, or if a value is not one that we accept.
    """
    findings = _Findings()
    runtime = document
    if "runtime_config" in document:
        runtime = _object(document, "runtime_config", "")
        _ignore(
            findings, document, "", {"runtime_config", "name"}, "is not configuration of storage"
        )
    name = _name(name, document)
    _ignore(findings, runtime, "", _READ | ({"name"} if runtime is document else set()), _NOT_OURS)
    sync = _sync_block(findings, runtime)
    root = storage_path or _storage_path(findings, runtime)
    settings = _translate(findings, sync, name)
    if bucket is not None:
        settings["bucket"] = bucket
    if "bucket" not in settings:
        raise ConfigError(
            "the configuration has no sync.bucket under storage.backend.config",
            hint="say where the checkpoints go with --bucket s3://BUCKET/PREFIX",
        )
    findings.warnings += _cadence(runtime, settings.get("push_interval"))
    text = table(("pipelines", name), {"storage_path": str(root)}) + "\n"
    text += table(("pipelines", name, "sync"), settings)
    checked = parse(text, Path(f"the translation of {name!r}")).pipelines[name].sync
    if checked.bucket.scheme is Scheme.GS and checked.secret_key_file is not None:
        findings.warnings.append(
            f"bucket is read as {checked.bucket}, whose interface takes no access_key: "
            "write s3:// in front of it to go on with Google's S3 interface"
        )
    return Imported(toml=text, ignored=tuple(findings.ignored), warnings=tuple(findings.warnings))


def _name(name: str | None, document: Mapping[str, Any]) -> str:
    found = name if name is not None else document.get("name")
    if isinstance(found, str) and PIPELINE_NAME.fullmatch(found):
        return found
    reason = "names no pipeline" if found is None else f"{found!r} is no name of a pipeline here"
    raise ConfigError(
        f"the configuration: {reason}",
        hint="give it one of up to 100 letters, digits, '_' and '-' with --name",
    )


def _storage_path(findings: _Findings, runtime: Mapping[str, Any]) -> str:
    config = _object(runtime, "storage_config", "")
    _ignore(findings, config, "storage_config.", {"path"}, _NOT_OURS)
    path = config.get("path")
    if isinstance(path, str):
        return path
    raise ConfigError(
        "the configuration has no storage_config.path, which says where the checkpoints lie",
        hint="name the engine's storage directory with --storage-path DIR",
    )


def _sync_block(findings: _Findings, runtime: Mapping[str, Any]) -> Mapping[str, Any]:
    block, at = runtime, ""
    for key in ("storage", "backend", "config", "sync"):
        block, at = _object(block, key, at), f"{at}{key}."
        if key == "sync":
            break
        kept = {"storage": {"backend"}, "backend": {"name", "config"}, "config": {"sync"}}[key]
        _ignore(findings, block, at, kept, _NOT_OURS)
        if key == "backend" and block.get("config") and block.get("name") != "file":
            findings.warnings.append(
                f"storage.backend.name is {block.get('name')!r}: Feldera keeps a sync block only "
                'for "file"'
            )
    return block


def _translate(findings: _Findings, sync: Mapping[str, Any], name: str) -> dict[str, Any]:
    settings = {key: sync[key] for key in ("bucket", *_SAME) if sync.get(key) is not None}
    for key, value in settings.items():
        if isinstance(value, dict | list):
            raise ConfigError(f"the configuration: sync.{key} should be a text or a number")
    endpoint = sync.get("endpoint")
    if isinstance(endpoint, str) and endpoint and "://" not in endpoint:
        findings.warnings.append(
            "sync.endpoint has no scheme: it is taken as https://, as rclone does"
        )
        endpoint = f"https://{endpoint}"
    if endpoint:
        settings["endpoint"] = endpoint
    if sync.get("secret_key") is not None:
        settings["secret_key_file"] = _file_for(findings, name, "secret")
    if str(settings.get("access_key", "")).startswith(_REFERENCE):
        del settings["access_key"]
        settings["access_key_file"] = _file_for(findings, name, "access")
    settings |= _flags(findings, sync.get("flags") or [])
    rclone = {key: value for key, value in sync.items() if key in _STEERS_RCLONE}
    _ignore(findings, rclone, "sync.", set(), "steers rclone, which is not used here")
    known = {"bucket", "endpoint", "secret_key", "flags", *_SAME, *_STEERS_RCLONE}
    _ignore(findings, sync, "sync.", known, "is no field of Feldera's sync block that we know")
    return settings


def _file_for(findings: _Findings, name: str, kind: str) -> str:
    path = f"/etc/ckptsync/{name}.{kind}"
    findings.warnings.append(f"put the {kind} key into {path}, on one line, with mode 600")
    return path


def _flags(findings: _Findings, flags: Any) -> dict[str, str]:
    """The flags of rclone that have a counterpart, written as `--flag value` or `--flag=value`."""
    if not isinstance(flags, list):
        raise ConfigError("the configuration: sync.flags should be a list")
    settings = {}
    words = iter(map(str, flags))
    for word in words:
        flag, joined, value = word.partition("=")
        if flag in _FLAGS:
            settings[_FLAGS[flag]] = value if joined else next(words, "")
        elif flag.startswith("-"):
            findings.ignored.append((f"sync.flags {flag}", "is for rclone"))
    return settings


def _cadence(runtime: Mapping[str, Any], push_interval: Any) -> Iterator[str]:
    """What the engine's own checkpoint interval means for pushing."""
    tolerance = runtime.get("fault_tolerance")
    if not isinstance(tolerance, dict) or tolerance.get("model", "exactly_once") in (None, "none"):
        yield "fault_tolerance is off: the engine takes no checkpoints by itself"
        return
    seconds = _checkpoint_interval(tolerance)
    if seconds is None:
        yield "checkpoint_interval_secs is null: the engine takes checkpoints only when told"
    elif isinstance(push_interval, int) and push_interval <= seconds:
        yield (
            f"push_interval ({push_interval} s) is not longer than the engine's checkpoint "
            f"interval ({seconds:g} s): some pushes will find nothing new"
        )


def _checkpoint_interval(tolerance: Mapping[str, Any]) -> float | None:
    """In seconds; newer clients write `checkpoint_interval` with a unit."""
    if isinstance(tolerance.get("checkpoint_interval"), str):
        try:
            return parse_duration(tolerance["checkpoint_interval"]).total_seconds()
        except ValueError as error:
            raise ConfigError(f"fault_tolerance.checkpoint_interval: {error}") from None
    seconds = tolerance.get("checkpoint_interval_secs", 60)
    if seconds is None or (isinstance(seconds, int) and not isinstance(seconds, bool)):
        return seconds
    raise ConfigError("fault_tolerance.checkpoint_interval_secs should be a number or null")


def _object(parent: Mapping[str, Any], key: str, at: str) -> Mapping[str, Any]:
    value = parent.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"the configuration: {at}{key} should be an object")
    return value


def _ignore(
    findings: _Findings, block: Mapping[str, Any], at: str, kept: set[str], why: str
) -> None:
    findings.ignored += [(f"{at}{key}", why) for key in block if key not in kept]
