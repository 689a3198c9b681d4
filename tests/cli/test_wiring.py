"""What a configuration becomes."""

import sqlite3
import threading
from datetime import timedelta
from pathlib import Path

import pytest
import structlog

from ckptsync.cli import wiring
from ckptsync.config.load import parse
from ckptsync.config.model import Config
from ckptsync.errors import Cancelled, ConfigError, IntegrityError, PermissionRefused
from ckptsync.hashing import Hash
from ckptsync.hooks import Hook
from ckptsync.operations.pipeline import StandbySettings, Takeover


def _config(tmp_path: Path, pipeline: str = "", sync: str = "", bucket: str = "") -> Config:
    return parse(
        f"""
        [daemon]
        node = "host-a"
        state_dir = "{tmp_path}/state"
        [pipelines.orders]
        storage_path = "{tmp_path}/storage"
        {pipeline}
        [pipelines.orders.sync]
        bucket = "{bucket or f"file://{tmp_path}/bucket"}"
        {sync}
        """,
        tmp_path / "config.toml",
    )


def test_every_setting_arrives(tmp_path: Path) -> None:
    config = _config(
        tmp_path,
        'repository = { chunk_size = "8MiB", pack_below = "1KiB", hash = "sha256" }',
        'transfers = 3\nmemory = "64MiB"\nfencing = "off"\nread_bucket = "s3://seed/orders"',
    )
    with wiring.wire(config, "orders", stop := threading.Event()) as pipeline:
        assert (pipeline.node.name, pipeline.node.pipeline) == ("host-a", "orders")
        assert pipeline.store.name == f"file://{tmp_path}/bucket"
        assert pipeline.read_store is not None
        assert pipeline.read_store.name == "s3://seed/orders"
        assert pipeline.layout.name == "feldera"
        assert (pipeline.parallel, pipeline.memory) == (3, 64 << 20)
        assert not pipeline.fencing
        assert pipeline.creation.hash is Hash.SHA256
        assert (pipeline.creation.chunk_size, pipeline.creation.pack_below) == (8 << 20, 1 << 10)
        assert pipeline.stop is stop
        assert pipeline.now().tzinfo is not None


def test_how_a_pipeline_takes_over_arrives(tmp_path: Path) -> None:
    config = _config(
        tmp_path,
        """
        [pipelines.orders.activation]
        guard = "off"
        on_pull_failure = "local"
        max_staleness = "1h"
        start_unverified = false
        """,
        'standby = true\nstart_from_checkpoint = "latest"\nfail_if_no_checkpoint = true\n'
        "warm_keep = 5",
    )
    with wiring.wire(config, "orders", threading.Event()) as pipeline:
        assert pipeline.takeover == Takeover(
            guard=False,
            on_pull_failure="local",
            max_staleness=timedelta(hours=1),
            start_unverified=False,
        )
        assert pipeline.standby == StandbySettings(
            initially=True, start_from="latest", required=True, warm_keep=5
        )


def test_what_is_not_said_of_taking_over_is_cautious(tmp_path: Path) -> None:
    with wiring.wire(_config(tmp_path), "orders", threading.Event()) as pipeline:
        assert pipeline.takeover == Takeover()
        assert pipeline.standby == StandbySettings()


def test_every_hook_arrives_with_what_it_is_told(tmp_path: Path) -> None:
    lines = [f"{hook} = ['sh', '-c', 'echo {hook}']" for hook in Hook]
    config = _config(tmp_path, "\n".join(["[pipelines.orders.hooks]", 'timeout = "9s"', *lines]))
    with wiring.wire(config, "orders", threading.Event()) as pipeline:
        hooks = pipeline.hooks

    assert hooks.commands == {hook: ("sh", "-c", f"echo {hook}") for hook in Hook}
    assert hooks.timeout == timedelta(seconds=9)
    assert hooks.environment == {
        "CKPTSYNC_PIPELINE": "orders",
        "CKPTSYNC_NODE": "host-a",
        "CKPTSYNC_STORAGE_PATH": f"{tmp_path}/storage",
        "CKPTSYNC_CONFIG": f"{tmp_path}/config.toml",
    }


def test_without_hooks_there_are_none(tmp_path: Path) -> None:
    with wiring.wire(_config(tmp_path), "orders", threading.Event()) as pipeline:
        assert not any(pipeline.hooks.has(hook) for hook in Hook)


def test_a_layout_that_cannot_tell_asks_the_hook_until_it_is_stopped(tmp_path: Path) -> None:
    silent = _config(tmp_path, 'layout = "directory"')
    config = _config(
        tmp_path, 'layout = "directory"\nhooks = { engine_running = ["sh", "-c", "exit 3"] }'
    )
    stop = threading.Event()
    with wiring.wire(silent, "orders", stop) as pipeline:
        assert pipeline.layout.engine_running() is None
    with wiring.wire(config, "orders", stop) as pipeline:
        assert pipeline.layout.engine_running() is False
        stop.set()
        with pytest.raises(Cancelled):
            pipeline.layout.engine_running()


def test_work_lies_beside_the_storage_unless_it_is_said_where(tmp_path: Path) -> None:
    said = _config(tmp_path, f'work_path = "{tmp_path}/elsewhere"')
    for config, path in ((_config(tmp_path), ".ckptsync-orders"), (said, "elsewhere")):
        with wiring.wire(config, "orders", threading.Event()) as pipeline:
            assert pipeline.work_path == tmp_path / path


def test_everything_is_closed_at_the_end(tmp_path: Path) -> None:
    with wiring.wire(_config(tmp_path), "orders", threading.Event()) as pipeline:
        database = pipeline.state.database

    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        database.query("SELECT 1")


def test_pipelines_and_buckets_have_states_of_their_own(tmp_path: Path) -> None:
    for bucket in ("one", "two"):
        config = _config(tmp_path, bucket=f"file://{tmp_path}/{bucket}")
        with wiring.wire(config, "orders", threading.Event()):
            pass

    assert len(list((tmp_path / "state" / "orders").glob("*.sqlite"))) == 2


@pytest.mark.parametrize(
    ("location", "advice"), [("gs://b/p", "tells whether it fences"), ("az://c/p", "S3 gateway")]
)
def test_a_store_that_is_not_reached_is_refused_before_anything_is_made(
    tmp_path: Path, location: str, advice: str
) -> None:
    asked = _config(tmp_path, bucket=location)
    seeded = _config(tmp_path, sync=f'read_bucket = "{location}"')

    for config in (asked, seeded):
        with (
            pytest.raises(ConfigError, match=rf"{location} is not reached.*{advice}"),
            wiring.wire(config, "orders", threading.Event()),
        ):
            pytest.fail("it was wired")
    assert not (tmp_path / "state").exists()


def _damage(tmp_path: Path) -> Path:
    """Let the database be damaged behind its first page, which still can be opened."""
    with wiring.wire(_config(tmp_path), "orders", threading.Event()) as pipeline:
        pipeline.state.identity.begin("repository", "instance")
    (path,) = (tmp_path / "state" / "orders").glob("*.sqlite")
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xa5" * (len(data) - 4096))
    return path


def test_who_only_reads_goes_on_without_a_damaged_database(tmp_path: Path) -> None:
    path = _damage(tmp_path)

    with (
        structlog.testing.capture_logs() as logged,
        wiring.wire(_config(tmp_path), "orders", threading.Event(), reading=True) as pipeline,
    ):
        assert isinstance(pipeline.state.missing, IntegrityError)
        assert pipeline.state.identity.remembered().repository_id is None

    (warned,) = logged
    assert warned["event"] == "state.unavailable"
    assert str(path) in warned["error"]


def test_who_writes_does_not_go_on_without_a_damaged_database(tmp_path: Path) -> None:
    _damage(tmp_path)

    with (
        pytest.raises(IntegrityError),
        wiring.wire(_config(tmp_path), "orders", threading.Event()) as pipeline,
    ):
        pipeline.state.identity.remembered()


def test_a_secret_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    config = _config(
        tmp_path,
        sync=f'access_key = "a"\nsecret_key_file = "{tmp_path}"',
        bucket="s3://bucket/orders",
    )

    with (
        pytest.raises((ConfigError, PermissionRefused), match=str(tmp_path)),
        wiring.wire(config, "orders", threading.Event()),
    ):
        pytest.fail("it was wired")
