"""What Feldera's users have written becomes a file that loads, and nothing is dropped unsaid."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptsync.config.feldera import Imported, import_feldera, read_feldera
from ckptsync.config.load import parse
from ckptsync.config.model import Pipeline
from ckptsync.config.toml import table
from ckptsync.errors import ConfigError

HERE = Path("config.toml")


def runtime(**sync: Any) -> dict[str, Any]:
    return {
        "storage_config": {"path": "/data/state", "cache": "page_cache"},
        "storage": {
            "backend": {"name": "file", "config": {"sync": {"bucket": "b/checkpoints"} | sync}}
        },
        "fault_tolerance": {"model": "exactly_once", "checkpoint_interval_secs": 60},
    }


def imported(document: dict[str, Any], name: str | None = "orders") -> tuple[Imported, Pipeline]:
    result = import_feldera(document, name=name)
    (pipeline,) = parse(result.toml, HERE).pipelines.values()
    return result, pipeline


def test_a_full_sync_block_is_translated_and_its_secret_is_not_written_out() -> None:
    result, pipeline = imported(
        runtime(
            region="us-east-1",
            provider="AWS",
            access_key="AKIAIOSFODNN7EXAMPLE",
            secret_key="wJalrXUtnFEMI/K7MDENG",
            push_interval=300,
            retention_min_count=10,
            retention_min_age=30,
            read_bucket="seed/checkpoints",
            start_from_checkpoint="latest",
            fail_if_no_checkpoint=False,
            standby=True,
            pull_interval=10,
            endpoint=None,
        )
    )

    assert str(pipeline.storage_path) == "/data/state"
    assert str(pipeline.sync.bucket) == "s3://b/checkpoints"
    assert str(pipeline.sync.read_bucket) == "s3://seed/checkpoints"
    assert pipeline.sync.standby
    assert pipeline.sync.secret_key_file == "/etc/ckptsync/orders.secret"
    assert "wJalr" not in repr(result)
    assert result.warnings == (
        "put the secret key into /etc/ckptsync/orders.secret, on one line, with mode 600",
    )
    assert result.ignored == (("storage_config.cache", "is the engine's own"),)


def test_a_whole_record_gives_the_name_and_says_what_it_ignores() -> None:
    record = {
        "id": "67e55044-10b1-426f-9247-bb680e5fe0c8",
        "name": "example1",
        "runtime_config": runtime() | {"workers": 16},
        "program_code": "CREATE TABLE table1 ( col1 INT );",
    }

    result, _ = imported(record, name=None)

    assert "[pipelines.example1]" in result.toml
    assert [key for key, _ in result.ignored] == [
        "id",
        "program_code",
        "workers",
        "storage_config.cache",
    ]


def test_arguments_stand_in_for_what_a_document_without_sync_lacks() -> None:
    record = {"name": "example1", "runtime_config": {"storage": {"backend": {"name": "default"}}}}

    result = import_feldera(record, storage_path=Path("/data"), bucket="s3://dr/example1")

    assert parse(result.toml, HERE).pipelines["example1"].sync.bucket.bucket == "dr"


@pytest.mark.parametrize(
    ("document", "missing", "hint"),
    [
        ({"storage_config": {"path": "/d"}}, "has no sync.bucket", "--bucket"),
        ({"storage": runtime()["storage"]}, "has no storage_config.path", "--storage-path"),
    ],
)
def test_what_is_lacking_is_named_with_the_option_that_gives_it(
    document: dict[str, Any], missing: str, hint: str
) -> None:
    with pytest.raises(ConfigError, match=missing) as raised:
        import_feldera(document, name="orders")
    assert hint in (raised.value.hint or "")


@pytest.mark.parametrize("name", [None, "no good", "../x"])
def test_a_document_without_a_usable_name_wants_one(name: str | None) -> None:
    with pytest.raises(ConfigError) as raised:
        import_feldera(runtime(), name=name)
    assert "--name" in (raised.value.hint or "")


def test_what_steers_rclone_is_ignored_and_said_to_be() -> None:
    result, pipeline = imported(
        runtime(
            checkers=8,
            upload_concurrency=4,
            transfers=7,
            surprise=1,
            flags=[
                "--s3-server-side-encryption",
                "aws:kms",
                "--s3-storage-class=X",
                "--fast-list",
                "--s3-sts=hush",
            ],
        )
    )

    assert pipeline.sync.transfers == 7
    assert pipeline.sync.server_side_encryption == "aws:kms"
    assert pipeline.sync.storage_class == "X"
    assert "hush" not in repr(result)
    assert [key for key, _ in result.ignored if key.startswith("sync.")] == [
        "sync.flags --fast-list",
        "sync.flags --s3-sts",
        "sync.checkers",
        "sync.upload_concurrency",
        "sync.surprise",
    ]


@pytest.mark.parametrize(
    ("tolerance", "warning"),
    [
        ({"checkpoint_interval_secs": 300}, "push_interval (60 s) is not longer than the engine's"),
        ({"checkpoint_interval": "5m"}, "checkpoint interval (300 s): some pushes will find"),
        ({}, "checkpoint interval (60 s)"),
        ({"checkpoint_interval_secs": None}, "takes checkpoints only when told"),
        ({"model": ["none"], "checkpoint_interval_secs": None}, "only when told"),
        ({"model": "none"}, "fault_tolerance is off"),
        (None, "fault_tolerance is off"),
    ],
)
def test_pushing_as_often_as_the_engine_checkpoints_is_warned_of(
    tolerance: dict[str, Any] | None, warning: str
) -> None:
    result, _ = imported(runtime(push_interval=60) | {"fault_tolerance": tolerance})

    (found,) = result.warnings
    assert warning in found


def test_an_endpoint_without_a_scheme_is_read_as_rclone_reads_it() -> None:
    result, pipeline = imported(runtime(endpoint="minio.example:9000"))

    assert pipeline.sync.endpoint == "https://minio.example:9000"
    assert "taken as https://" in result.warnings[0]


def test_a_reference_to_a_secret_of_kubernetes_becomes_a_file() -> None:
    _, pipeline = imported(
        runtime(access_key="${secret:kubernetes:s3/id}", secret_key="${secret:kubernetes:s3/key}")
    )

    assert pipeline.sync.access_key_file == "/etc/ckptsync/orders.access"
    assert pipeline.sync.access_key is None


def test_googles_own_interface_takes_no_keys_of_s3() -> None:
    result, pipeline = imported(runtime(provider="GCS", access_key="A", secret_key="hush"))

    assert str(pipeline.sync.bucket) == "gs://b/checkpoints"
    assert "write s3:// in front of it" in result.warnings[1]


@pytest.mark.parametrize(
    ("sync", "complaint"),
    [
        ({"push_interval": 0}, "must be longer than zero"),
        ({"bucket": ""}, "is empty"),
        ({"read_bucket": "b/checkpoints/"}, "must point to different locations"),
        ({"secret_key": "hush"}, "has no access_key"),
        ({"region": ["x"]}, r"sync\.region should be a text or a number"),
        ({"flags": "--x"}, r"sync\.flags should be a list"),
    ],
)
def test_a_value_that_we_do_not_accept_is_an_error(sync: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as raised:
        import_feldera(runtime(**sync), name="orders")
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"a": ', "is not valid JSON: Expecting value at line 1, column 7"),
        ("[" * 100_000, "is not valid JSON: too deep"),
        ("[]", "it is no JSON object"),
        ("9" * 5000, "or a number too long"),
    ],
)
def test_what_is_no_json_object_is_refused_with_the_position(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        read_feldera(text, "orders.json")


def test_a_document_is_read() -> None:
    assert read_feldera(json.dumps(runtime()), "x") == runtime()


@given(
    st.dictionaries(
        st.text(), st.one_of(st.text(), st.booleans(), st.integers(-(2**63), 2**63 - 1))
    )
)
def test_every_text_is_quoted_so_that_toml_reads_it_back(settings: dict[str, Any]) -> None:
    assert tomllib.loads(table(("a", "b.c"), settings)) == {"a": {"b.c": settings}}
