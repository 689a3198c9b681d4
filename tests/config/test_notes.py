"""What a valid file does not do is said."""

from pathlib import Path

import pytest

from ckptsync.config.load import load
from ckptsync.config.notes import notes

ORDINARY = """
[pipelines.orders]
storage_path = "/srv/orders"
[pipelines.orders.hooks]
on_activate = ["true"]
on_fenced = ["true"]
on_release = ["true"]
[pipelines.orders.sync]
bucket = "s3://dr/orders"
push_interval = "5m"
"""


def noted(tmp_path: Path, text: str, *, mode: int = 0o600) -> list[str]:
    path = tmp_path / "config.toml"
    path.write_text(text)
    path.chmod(mode)
    return notes(load(path), {})


def test_a_file_that_leaves_nothing_open_has_no_notes(tmp_path: Path) -> None:
    assert noted(tmp_path, ORDINARY, mode=0o644) == []


@pytest.mark.parametrize(
    ("line", "note"),
    [
        (
            "retention_min_count = 0",
            "retention_min_count acts as 1: the newest checkpoint is never",
        ),
        (
            "retention_min_age = 0\nretention_min_count = 1",
            "retention_min_age is 0: only the newest checkpoint is kept",
        ),
        (
            "retention = { daily = 7 }",
            "retention.daily = 7 adds nothing: everything younger than retention_min_age = 30d "
            "is kept anyway; lower that to keep less",
        ),
        (
            'retention_min_age = "36h"\nretention = { hourly = 36 }',
            "retention.hourly = 36 adds nothing: everything younger than retention_min_age = 1d12h",
        ),
        (
            "retention_min_age = 31\nretention = { monthly = 1 }",
            "retention.monthly = 1 adds nothing",
        ),
        ('fencing = "off"', "fencing is off: two primaries would not be told apart"),
        ('endpoint = "http://minio:9000"', "endpoint is not encrypted"),
        (
            'access_key = "A"\nsecret_key_file = "credential:dr"',
            "secret_key_file is a credential of systemd",
        ),
    ],
)
def test_what_has_no_effect_or_lowers_a_guard_is_said(tmp_path: Path, line: str, note: str) -> None:
    (found,) = noted(tmp_path, ORDINARY + line)

    assert found.startswith(f"pipelines.orders.sync.{note}")


@pytest.mark.parametrize(
    "line",
    [
        "pull_interval = 10",
        "standby = true",
        'start_from_checkpoint = "latest"',
        "fail_if_no_checkpoint = true",
        "warm_keep = 3",
        "retention_min_count = 1",
        "retention_min_age = 0",
        "retention_min_age = 0\nretention_min_count = 1\nretention = { daily = 7 }",
        'retention_min_age = "36h"\nretention = { hourly = 37 }',
        "retention = { daily = 31, weekly = 5, monthly = 1 }",
    ],
)
def test_what_the_daemon_acts_on_is_not_noted(tmp_path: Path, line: str) -> None:
    assert noted(tmp_path, ORDINARY + line) == []


def test_each_period_that_adds_nothing_is_noted_and_no_other(tmp_path: Path) -> None:
    first, second = noted(
        tmp_path, ORDINARY + "retention = { hourly = 24, daily = 31, weekly = 4 }"
    )

    assert "retention.hourly = 24 adds nothing" in first
    assert "retention.weekly = 4 adds nothing" in second


@pytest.mark.parametrize(
    ("key", "note"),
    [
        ("on_activate", "an activation leaves the engine for somebody else to start"),
        ("on_fenced", "only the bucket is protected; the engine here goes on running"),
        ("on_release", "before a switchover the engine has to be stopped by hand"),
    ],
)
def test_a_hook_that_is_not_set_is_noted_with_what_follows(
    tmp_path: Path, key: str, note: str
) -> None:
    (found,) = noted(tmp_path, ORDINARY.replace(f'{key} = ["true"]', ""))

    assert found.startswith(f"pipelines.orders.hooks.{key} is not set: ")
    assert found.endswith(note)


def test_a_primary_that_pushes_only_on_request_is_noted(tmp_path: Path) -> None:
    text = ORDINARY.replace('push_interval = "5m"', "")

    assert noted(tmp_path, text) == [
        "pipelines.orders.sync.push_interval is not set: nothing is pushed but on request"
    ]
    assert noted(tmp_path, text + "standby = true") == []


def test_a_guard_that_is_off_is_noted(tmp_path: Path) -> None:
    (found,) = noted(tmp_path, ORDINARY + '[pipelines.orders.activation]\nguard = "off"')

    assert found.startswith("pipelines.orders.activation.guard is off")


def test_a_directory_is_no_second_site_by_itself(tmp_path: Path) -> None:
    (found,) = noted(tmp_path, ORDINARY.replace("s3://dr/orders", "file:///mnt/dr"))

    assert "/mnt/dr protects from the loss of this host only if it lies on another" in found


def test_a_secret_that_others_can_read_is_noted(tmp_path: Path) -> None:
    inline = ORDINARY + 'access_key = "A"\nsecret_key = "hush"'
    secret = tmp_path / "secret"
    secret.write_text("hush")
    secret.chmod(0o644)
    filed = ORDINARY + f'access_key = "A"\nsecret_key_file = "{secret}"'

    assert (
        "config.toml holds a secret and can be read by other"
        in noted(tmp_path, inline, mode=0o644)[0]
    )
    assert noted(tmp_path, inline, mode=0o600) == []
    assert "/secret can be read by other users: chmod 600" in noted(tmp_path, filed)[0]


def test_a_layout_without_a_hook_and_a_shared_storage_path_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        """
        [defaults]
        storage_path = "/srv/x"
        directory = { quiet = "5s" }
        hooks = { on_activate = ["true"], on_fenced = ["true"], on_release = ["true"] }
        sync = { push_interval = 300 }
        [pipelines.a]
        layout = "directory"
        sync = { bucket = "s3://dr/a" }
        [pipelines.b]
        sync = { bucket = "s3://dr/b" }
        """
    )

    a, b, shared = notes(load(path), {})

    assert a.startswith("pipelines.a.hooks.engine_running is not set")
    assert b.startswith("pipelines.b.directory has no effect")
    assert shared.startswith("pipelines.b.storage_path is that of pipeline 'a', too")
