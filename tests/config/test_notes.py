"""What a valid file does not do is said."""

from pathlib import Path

import pytest

from ckptsync.config.load import load
from ckptsync.config.notes import notes

MINIMAL = """
[pipelines.orders]
storage_path = "/srv/orders"
[pipelines.orders.sync]
"""


def noted(tmp_path: Path, lines: str, *, mode: int = 0o600) -> list[str]:
    path = tmp_path / "config.toml"
    path.write_text(MINIMAL + lines)
    path.chmod(mode)
    return notes(load(path), {})


def test_an_ordinary_file_has_no_notes(tmp_path: Path) -> None:
    assert noted(tmp_path, 'bucket = "s3://dr/orders"', mode=0o644) == []


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("push_interval = 300", "push_interval has no effect yet: nothing is pushed but by"),
        ("pull_interval = 10", "pull_interval has no effect yet"),
        ("standby = true", "standby has no effect yet"),
        (
            'start_from_checkpoint = "latest"',
            "start_from_checkpoint is only read by 'ckptsync pull'",
        ),
        ("retention_min_count = 0", "no checkpoint is ever deleted"),
        ('fencing = "off"', "two primaries would not be told apart"),
        ('endpoint = "http://minio:9000"', "endpoint is not encrypted"),
        (
            'access_key = "A"\nsecret_key_file = "credential:dr"',
            "secret_key_file is a credential of systemd",
        ),
    ],
)
def test_what_has_no_effect_or_lowers_a_guard_is_said(tmp_path: Path, line: str, note: str) -> None:
    (found,) = noted(tmp_path, f'bucket = "s3://dr/orders"\n{line}')

    assert found.startswith("pipelines.orders.sync.")
    assert note in found


def test_a_setting_that_asks_for_nothing_is_not_noted(tmp_path: Path) -> None:
    assert noted(tmp_path, 'bucket = "s3://dr/orders"\nstandby = false') == []


def test_a_directory_is_no_second_site_by_itself(tmp_path: Path) -> None:
    (found,) = noted(tmp_path, 'bucket = "file:///mnt/dr"')

    assert "/mnt/dr protects from the loss of this host only if it lies on another" in found


def test_a_secret_that_others_can_read_is_noted(tmp_path: Path) -> None:
    inline = 'bucket = "s3://dr/orders"\naccess_key = "A"\nsecret_key = "hush"'
    secret = tmp_path / "secret"
    secret.write_text("hush")
    secret.chmod(0o644)
    filed = f'bucket = "s3://dr/orders"\naccess_key = "A"\nsecret_key_file = "{secret}"'

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
