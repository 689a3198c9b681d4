"""What a file may hold, and that every mistake in it is reported at once."""

import os
import socket
from datetime import timedelta
from pathlib import Path

import pytest

from ckptsync.config.checks import Checks
from ckptsync.config.load import load, parse
from ckptsync.config.model import Config
from ckptsync.errors import ConfigError
from ckptsync.hashing import Hash
from tests.unprivileged import refused

HERE = Path("config.toml")

MINIMAL = """
[pipelines.orders]
storage_path = "/srv/orders"
[pipelines.orders.sync]
bucket = "s3://dr/orders"
"""


def sync(lines: str) -> Config:
    return parse(MINIMAL + lines, HERE)


def complaints(text: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        parse(text, HERE)
    first, *lines = str(raised.value).split("\n")
    assert (
        first == f"config.toml has {f'{len(lines)} problems' if len(lines) > 1 else 'a problem'}:"
    )
    return [line.removeprefix("  ") for line in lines]


def test_a_minimal_file_has_the_defaults_that_operators_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", "/home/me/state")

    config = parse(MINIMAL, HERE)

    pipeline = config.pipelines["orders"]
    assert config.daemon.node == socket.gethostname()
    assert config.daemon.state_dir == Path("/home/me/state/ckptsync")
    assert pipeline.layout == "feldera"
    assert pipeline.repository.chunk_size == 32 << 20
    assert pipeline.repository.hash is Hash.BLAKE3
    assert pipeline.sync.pull_interval == timedelta(seconds=10)
    assert pipeline.sync.push_interval is None
    assert pipeline.sync.fence_check_interval == timedelta(seconds=5)
    assert pipeline.sync.warm_keep == 2
    assert pipeline.sync.retention_min_count == 10
    assert pipeline.sync.retention_min_age == timedelta(days=30)
    assert pipeline.sync.transfers == 20
    assert pipeline.sync.memory == 96 << 20
    assert pipeline.hooks.timeout == timedelta(minutes=2)
    assert pipeline.activation.guard == "refuse"
    assert pipeline.activation.on_pull_failure == "fail"
    assert pipeline.activation.max_staleness == timedelta(minutes=15)
    assert pipeline.activation.start_unverified


@pytest.mark.parametrize(
    ("root", "stated", "expected"),
    [
        (True, "/ignored", "/var/lib/ckptsync"),
        (False, "", "/home/me/.local/state/ckptsync"),
        (False, "relative", "/home/me/.local/state/ckptsync"),
    ],
)
def test_the_state_directory_depends_on_the_user(
    monkeypatch: pytest.MonkeyPatch, root: bool, stated: str, expected: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1000)
    monkeypatch.setenv("XDG_STATE_HOME", stated)
    monkeypatch.setenv("HOME", "/home/me")

    assert parse(MINIMAL, HERE).daemon.state_dir == Path(expected)


def test_a_bare_number_is_seconds_for_intervals_and_days_for_ages() -> None:
    bare = sync("push_interval = 300\nretention_min_age = 5\n").pipelines["orders"].sync
    text = sync('push_interval = "5m"\nretention_min_age = "120h"\n').pipelines["orders"].sync

    assert bare == text
    assert bare.push_interval == timedelta(minutes=5)
    assert bare.retention_min_age == timedelta(days=5)


def test_a_pipeline_inherits_the_defaults_and_overrides_them() -> None:
    config = parse(
        """
        [defaults]
        layout = "directory"
        [defaults.hooks]
        engine_running = ["true"]
        on_fenced = ["stop", "it"]
        [defaults.sync]
        region = "eu-central-1"
        transfers = 4
        [pipelines.a]
        storage_path = "/srv/a"
        sync = { bucket = "s3://dr/a", transfers = 8 }
        [pipelines.b]
        storage_path = "/srv/b"
        hooks = { engine_running = ["pgrep", "b"] }
        sync = { bucket = "s3://dr/b" }
        """,
        HERE,
    )

    a, b = config.pipelines["a"], config.pipelines["b"]
    assert (a.layout, a.sync.region, a.sync.transfers) == ("directory", "eu-central-1", 8)
    assert (b.layout, b.sync.region, b.sync.transfers) == ("directory", "eu-central-1", 4)
    assert a.hooks.engine_running == ("true",)
    assert b.hooks.engine_running == ("pgrep", "b")
    assert a.hooks.on_fenced == b.hooks.on_fenced == ("stop", "it")


def test_a_configuration_cannot_be_changed() -> None:
    config = parse(MINIMAL, HERE)

    with pytest.raises(ValueError, match="frozen"):
        config.pipelines["orders"].sync.__setattr__("transfers", 3)


def test_five_mistakes_in_five_places_are_reported_at_once() -> None:
    assert complaints(
        """
        daemn = 1
        [daemon]
        state_dir = "state"
        [pipelines.a]
        storage_path = "/srv/a"
        layuot = "feldera"
        [pipelines.a.sync]
        bucket = "s3://dr/../a"
        [pipelines.b]
        storage_path = "/srv/b"
        [pipelines.b.sync]
        bucket = "s3://dr/b"
        pull_interval = 0
        """
    ) == [
        "daemn: is not a setting; did you mean 'daemon'?",
        "daemon.state_dir = 'state': must be an absolute path",
        "pipelines.a.sync.bucket = 's3://dr/../a': has a '.' or '..' part: "
        "write the location without it",
        "pipelines.a.layuot: is not a setting; did you mean 'layout'?",
        "pipelines.b.sync.pull_interval = 0: must be longer than zero",
    ]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("push_interval = 0", "push_interval = 0: must be longer than zero"),
        ('push_interval = "5x"', "push_interval = '5x': is not a duration: write it as 500ms"),
        (
            'push_interval = "300"',
            "push_interval = '300': is a number in quotes: seconds go without them, "
            'or write "300s"',
        ),
        (
            'retention_min_age = "30"',
            "retention_min_age = '30': is a number in quotes: days go without them, "
            'or write "30d"',
        ),
        ("push_interval = true", "push_interval = true: must be a number of seconds, or text"),
        ("push_interval = -1", "push_interval = -1: must not be negative"),
        ("push_interval = nan", "push_interval = nan: is no length of time"),
        ("retention_min_age = -1", "retention_min_age = -1: must not be negative"),
        ("retention_min_count = 1.0", "retention_min_count = 1.0: must be a whole number"),
        ("retention_min_count = -1", "retention_min_count = -1: must be at least 0"),
        ("retention = 7", "retention = 7: must be a table"),
        ("retention = { dayly = 7 }", "retention.dayly: is not a setting; did you mean 'daily'?"),
        ("retention = { weekly = -1 }", "retention.weekly = -1: must be at least 0"),
        ("retention = { monthly = true }", "retention.monthly = true: must be a whole number"),
        ("retention = { hourly = 10001 }", "retention.hourly = 10001: must be at most 10000"),
        ("transfers = 0", "transfers = 0: must be at least 1"),
        ("transfers = 256", "transfers = 256: must be at most 255"),
        ('transfers = "4"', "transfers = '4': must be a whole number"),
        ("standby = 1", "standby = 1: must be true or false"),
        ("region = 5", "region = 5: must be text in quotes"),
        ('fencing = "of"', "fencing = 'of': must be 'on' or 'off'"),
        ('memory = "64m"', "memory = '64m': is not a size: write it as 64MiB"),
        ('provider = "AWSS"', "provider = 'AWSS': is not a known provider; did you mean 'AWS'?"),
        ('endpoint = "minio:9000"', "endpoint = 'minio:9000': must be a URL that begins with"),
        ('endpoint = "http://h:99999"', "endpoint = 'http://h:99999': must be a URL such as"),
        ('endpoint = "http://h/?x=1"', "endpoint = 'http://h/?***': must be a URL without"),
        ('read_bucket = "dr//orders/"', "read_bucket = 'dr//orders/': must point to different"),
        ("fence_check_interval = 0.9", "fence_check_interval = 0.9: must be at least 1s"),
        ("warm_keep = 0", "warm_keep = 0: must be at least 1"),
        ("warm_keep = 17", "warm_keep = 17: must be at most 16"),
        ('kms_key_id = "k"', "kms_key_id = 'k': needs server_side_encryption"),
        ('storage_class = "GLACIER"', "storage_class = 'GLACIER': cannot be read at once"),
        ('start_from_checkpoint = "a/b"', "start_from_checkpoint = 'a/b': has a character"),
        ("checkers = 4", "checkers: is a setting of rclone: nothing is listed or compared"),
        ('flags = ["--x"]', "flags: is a setting of rclone: flags of rclone do not apply"),
        ('access_key_file = "x"', "access_key_file: must be an absolute path, or"),
    ],
)
def test_a_wrong_value_of_sync_is_explained(line: str, complaint: str) -> None:
    (found,) = complaints(MINIMAL + line)

    assert found.startswith(f"pipelines.orders.sync.{complaint}")


@pytest.mark.parametrize(
    "field",
    [
        "checkers = 1",
        "ignore_checksum = true",
        "multi_thread_streams = 1",
        'multi_thread_cutoff = "100M"',
        "upload_concurrency = 1",
        "optimize_download_resources = true",
        "flags = []",
    ],
)
def test_a_field_that_steers_rclone_is_refused_with_what_to_use_instead(field: str) -> None:
    (found,) = complaints(MINIMAL + field)

    assert "is a setting of rclone: " in found


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        ('work_path = "/srv/orders/x"', "work_path = '/srv/orders/x': must lie outside"),
        ('work_path = "/srv"', "work_path = '/srv': must lie outside"),
        ("directory = 5", "directory = 5: must be a table"),
        ("hooks = { engine_running = [] }", "hooks.engine_running: must name a command"),
        ('hooks = { engine_running = ["a", 3] }', "hooks.engine_running.1 = 3: must be text"),
        ('hooks = { on_fenced = ["a", ""] }', "hooks.on_fenced.1 = '': must not be empty"),
        ('hooks = { on_fenced = ["\\u0000"] }', "hooks.on_fenced.0 = '\\x00': has a character"),
        ('hooks = { on_fenced = "stop" }', "hooks.on_fenced = 'stop': must be a list of texts"),
        ('hooks = { on_fence = ["stop"] }', "hooks.on_fence: is not a setting; did you mean"),
        ("hooks = { timeout = 0 }", "hooks.timeout = 0: must be longer than zero"),
        ('activation = { guard = "on" }', "activation.guard = 'on': must be 'refuse' or 'off'"),
        ('activation = { on_pull_failure = "x" }', "activation.on_pull_failure = 'x': must be"),
        ("activation = { max_staleness = -1 }", "activation.max_staleness = -1: must not be neg"),
        ("activation = { start_unverified = 1 }", "activation.start_unverified = 1: must be true"),
        ('repository = { chunk_size = "3MiB" }', "repository.chunk_size = '3MiB': must be a power"),
        ('repository = { chunk_size = "1GiB" }', "repository.chunk_size = '1GiB': must be a power"),
        ('repository = { pack_below = "64MiB" }', "repository.pack_below = '64MiB': must not be"),
        ('repository = { hash = "md5" }', "repository.hash = 'md5': must be one of 'blake3'"),
        ('repository = { chunk_size = "512MiB" }', "sync: has memory = 96 MiB, which does not"),
        ('layout = "../x"', "layout = '../x': has a character"),
    ],
)
def test_a_wrong_value_of_a_pipeline_is_explained(section: str, complaint: str) -> None:
    (found,) = complaints(
        f"""
        [pipelines.orders]
        storage_path = "/srv/orders"
        sync = {{ bucket = "s3://dr/orders" }}
        {section}
        """
    )

    assert found.startswith(f"pipelines.orders.{complaint}")


def test_the_engines_reserved_directory_may_be_the_work_path() -> None:
    text = MINIMAL.replace(
        '"/srv/orders"', '"/srv/orders"\nwork_path = "/srv/orders/coordinator/ckptsync"'
    )

    assert parse(text, HERE).pipelines["orders"].work_path is not None


def test_a_mistake_in_the_defaults_is_reported_once_and_there() -> None:
    pipelines = MINIMAL + MINIMAL.replace("orders", "clicks")

    assert complaints("[defaults.sync]\ntransfers = 0\n" + pipelines) == [
        "defaults.sync.transfers = 0: must be at least 1"
    ]


@pytest.mark.parametrize("other", ["s3://dr/orders", "dr//orders/", "s3://dr", "s3://dr/orders/x"])
def test_two_pipelines_may_not_share_a_repository(other: str) -> None:
    (found,) = complaints(
        MINIMAL + MINIMAL.replace("orders", "clicks").replace("s3://dr/clicks", other)
    )

    assert found.startswith("pipelines.clicks.sync.bucket = ")
    assert "overlaps that of pipeline 'orders' (s3://dr/orders)" in found


def test_one_bucket_name_on_two_servers_is_two_places() -> None:
    here = MINIMAL + 'endpoint = "http://one:9000/"\n'
    there = MINIMAL.replace("pipelines.orders", "pipelines.x") + 'endpoint = "http://two:9000"\n'

    assert len(parse(here + there, HERE).pipelines) == 2
    assert "overlaps" in complaints(here + there.replace("two", "one"))[0]


@pytest.mark.parametrize("text", ["", "[pipelines]\n", "[daemon]\n"])
def test_a_file_without_pipelines_is_refused(text: str) -> None:
    assert complaints(text) == ["pipelines: is required: at least one [pipelines.NAME]"]


def test_what_is_required_is_named() -> None:
    assert complaints("[pipelines.a]\n") == [
        "pipelines.a.storage_path: is required",
        "pipelines.a.sync: is required",
    ]


@pytest.mark.parametrize("name", ["a/b", "..", "a b", "-a", "x" * 101])
def test_a_pipeline_whose_name_is_no_file_name_is_refused(name: str) -> None:
    (found,) = complaints(MINIMAL.replace("pipelines.orders", f'pipelines."{name}"'))

    assert "must be named with up to 100 letters" in found


def test_sections_that_are_no_tables_are_all_reported() -> None:
    assert complaints("daemon = 1\ndefaults = 2\npipelines = 3\n") == [
        "daemon: must be a table",
        "defaults: must be a table",
        "pipelines: must be a table",
        "pipelines: is required: at least one [pipelines.NAME]",
    ]


def test_the_only_pipeline_need_not_be_named_and_a_wrong_name_is_refused() -> None:
    one = parse(MINIMAL, HERE)
    two = parse(MINIMAL + MINIMAL.replace("orders", "clicks"), HERE)

    assert one.choose(None) == "orders"
    assert two.choose("clicks") == "clicks"
    with pytest.raises(ConfigError, match="name one of clicks, orders"):
        two.choose(None)
    with pytest.raises(ConfigError, match="has no pipeline 'order'; it has clicks, orders"):
        two.choose("order")


def test_a_file_is_loaded_from_its_path(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(MINIMAL)

    assert load(path).path == path


def test_a_missing_file_comes_with_the_command_that_writes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist") as raised:
        load(tmp_path / "none.toml")
    assert "ckptsync config example" in (raised.value.hint or "")


def test_a_directory_and_a_binary_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")

    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path)
    with pytest.raises(ConfigError, match="is not UTF-8 text: byte 0 is wrong"):
        load(tmp_path / "binary")


def test_a_file_of_another_user_is_a_matter_of_permission(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(MINIMAL)
    path.chmod(0)

    found = refused("from ckptsync.config.load import load", "load(Path(sys.argv[1]))", path)

    assert found == f"PermissionRefused: {path} may not be read by this user"


def test_what_is_not_toml_is_refused_with_the_line() -> None:
    with pytest.raises(ConfigError, match=r"config.toml is not valid TOML: .*line 2"):
        parse("[daemon]\nnode = \n", HERE)


def test_what_the_program_knows_of_values_comes_with_all_other_mistakes() -> None:
    checks = Checks(
        layout=lambda name: f"{name!r} is not installed",
        location=lambda location: None if location.scheme == "s3" else "is not reached",
        secret_file=lambda name: f"{name} is not there",
    )
    text = """
    [defaults.sync]
    read_bucket = "gs://seed/all"
    [pipelines.orders]
    layout = "odd"
    [pipelines.orders.sync]
    bucket = "az://dr/orders"
    access_key_file = "/a"
    secret_key_file = "/s"
    """

    with pytest.raises(ConfigError) as raised:
        parse(text, HERE, checks)

    assert set(raised.value.problems) == {
        "pipelines.orders.storage_path: is required",
        "pipelines.orders.layout = 'odd': is not installed",
        "pipelines.orders.sync.bucket = 'az://dr/orders': is not reached",
        "defaults.sync.read_bucket = 'gs://seed/all': is not reached",
        "pipelines.orders.sync.access_key_file: /a is not there",
        "pipelines.orders.sync.secret_key_file: /s is not there",
    }
    assert all(f"\n  {each}" in str(raised.value) for each in raised.value.problems)
