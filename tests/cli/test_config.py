"""What 'config check' says of the long run."""

import json
import threading
from pathlib import Path
from typing import Any, Final

import pytest

from ckptsync.cli.main import run

ORDERS: Final = 'bucket = "s3://dr/orders"\npush_interval = "5m"'
SIZES: Final = ("--checkpoint-size", "100GiB", "--new-size", "2GiB")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def write(config: Path, sync: str) -> None:
    config.write_text(
        f"""
        [daemon]
        state_dir = "{config.parent}/state"
        [pipelines.orders]
        storage_path = "/srv/orders"
        [pipelines.orders.sync]
        {sync}
        """
    )


def check(config: Path, *options: str) -> int:
    return run(["-c", str(config), "config", "check", *options], threading.Event())


@pytest.fixture
def foretold(config: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """The lines on a pipeline, without notes and the verdict."""

    def told(sync: str, *options: str) -> list[str]:
        write(config, sync)
        assert check(config, *options) == 0
        *lines, verdict = capsys.readouterr().out.splitlines()
        assert verdict == f"{config} is valid; pipelines: orders"
        return [line for line in lines if not line.startswith("note: ")]

    return told


def test_the_long_run_its_price_and_a_leaner_one_are_told(foretold: Any) -> None:
    first, made_with, hint = foretold(ORDERS, *SIZES)

    assert first.startswith(
        "orders: one push every 5m, kept for 30d and at least 10: 8,640 checkpoints "
        "(+ 288 retired), 17.5 TiB, "
    )
    assert first.endswith(" a month at S3 list prices (us-east-1, 2025)")
    assert " M requests a month, about $4" in first
    assert made_with == "        assumed: 1 standby, 100 GiB a checkpoint, 2 GiB of it new"
    assert hint.startswith(
        "        cheaper would be: with retention_min_age = 7 and retention = { daily = 30 }, "
        "2,039 checkpoints "
    )


def test_without_a_push_the_size_is_a_guess_that_is_said_to_be_one(foretold: Any) -> None:
    first, made_with, _ = foretold(ORDERS)

    assert ", for each GiB of state of which 5% changes between two pushes" in first
    assert made_with.endswith(
        "assumed: 1 standby; --checkpoint-size and --new-size say how large it is"
    )


def test_what_retention_adds_is_said(foretold: Any) -> None:
    first, *_ = foretold(f"{ORDERS}\nretention = {{ daily = 7, monthly = 1 }}")

    assert "kept for 30d and at least 10, and the newest of 7 days, 1 month: " in first


def test_what_a_storage_class_costs_besides_is_said(foretold: Any) -> None:
    found = foretold(f'{ORDERS}\nretention_min_age = 1\nstorage_class = "STANDARD_IA"')

    assert found[-1].strip() == (
        "STANDARD_IA costs more than that: for what is read, and what is deleted within 30 days"
    )


@pytest.mark.parametrize(
    ("sync", "end"),
    [
        ('endpoint = "https://minio:9000"', "what that store charges is not known here"),
        (
            'storage_class = "EXPRESS_ONEZONE"',
            "what that store charges for EXPRESS_ONEZONE is not known here",
        ),
    ],
)
def test_a_price_that_is_not_known_is_said_to_be_so(foretold: Any, sync: str, end: str) -> None:
    first, *_ = foretold(f"{ORDERS}\n{sync}", *SIZES)

    assert first.endswith(f" requests a month, {end}")


def test_of_a_directory_only_the_room_is_told(foretold: Any) -> None:
    first, *_ = foretold('bucket = "file:///mnt/dr"\npush_interval = "5m"', *SIZES)

    assert first.endswith("8,640 checkpoints (+ 288 retired), 17.5 TiB")


def test_without_a_push_interval_only_what_is_left_is_told(foretold: Any) -> None:
    assert foretold('bucket = "s3://dr/orders"\nretention_min_count = 0') == [
        "orders: push_interval is not set, so what the bucket will hold cannot be foretold; "
        "kept for 30d and at least 1"
    ]


def test_json_has_every_number(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(config, ORDERS)

    assert check(config, "--json", *SIZES, "--standbys", "0") == 0
    (state,) = json.loads(capsys.readouterr().out)["steady_state"]

    assert state["pipeline"] == "orders"
    assert state["push_interval"] == 300
    assert state["retention"] == {
        "min_count": 10, "min_age": 2_592_000, "hourly": 0, "daily": 0, "weekly": 0, "monthly": 0,
    }  # fmt: skip
    assert state["at_least"] == 10
    assert state["basis"] == {
        "origin": "given", "bytes": 100 << 30, "new_bytes": 2 << 30, "pushes": 0, "standbys": 0,
    }  # fmt: skip
    long_run = state["forecast"]
    assert (long_run["checkpoints"], long_run["retired"]) == (8_640, 288)
    assert long_run["bytes"] == (100 + 2 * (8_640 + 288 - 1)) << 30
    assert long_run["requests_by"]["standbys"] == {"writes": 0, "reads": 0}
    assert long_run["requests"]["writes"] == sum(
        each["writes"] for each in long_run["requests_by"].values()
    )
    assert long_run["storage_dollars"] == round((100 + 2 * 8_927) * 0.023, 2)
    assert long_run["request_dollars"] > 0
    assert state["leaner"]["settings"] == {
        "retention_min_age": "7", "retention": "{ daily = 30 }",
    }  # fmt: skip
    assert set(state["leaner"]["forecast"]) == set(long_run)
    assert state["prices"]["title"] == "S3 list prices (us-east-1, 2025)"


def test_json_of_what_cannot_be_foretold_is_null(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(config, 'bucket = "file:///mnt/dr"')

    assert check(config, "--json") == 0
    (state,) = json.loads(capsys.readouterr().out)["steady_state"]

    assert (state["push_interval"], state["forecast"], state["leaner"]) == (None, None, None)
    assert (state["prices"], state["basis"]["origin"]) == (None, "assumed")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--new-size", "1GiB"), "--new-size goes with --checkpoint-size"),
        (("--checkpoint-size", "1GiB", "--new-size", "2GiB"), "--new-size is at most"),
        (("--checkpoint-size", "huge"), "'huge' is not a size"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(
    config: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    message: str,
) -> None:
    write(config, ORDERS)

    assert check(config, *options) == 2
    assert message in capsys.readouterr().err
