"""The example loads, also with every setting in it uncommented, and knows every setting."""

import re
from pathlib import Path

from ckptsync.config.example import example
from ckptsync.config.load import parse
from ckptsync.config.model import (
    Activation,
    Daemon,
    Directory,
    Hooks,
    Pipeline,
    Repository,
    Retention,
    Sync,
)
from ckptsync.config.notes import notes

HERE = Path("example.toml")
TOP = Path(__file__).parents[2] / "config.example.toml"

_SETTING = re.compile(r"^# (?=[a-z_]+ = |\[)", re.MULTILINE)


def test_the_example_loads_and_only_what_it_leaves_open_is_noted() -> None:
    found = notes(parse(example(), HERE), {})

    assert all(" is not set: " in note for note in found), found


def test_what_is_commented_out_is_valid_as_well() -> None:
    config = parse(_SETTING.sub("", example()), HERE)

    assert set(config.pipelines) == {"orders", "trainer"}


def test_what_is_commented_out_shows_the_default_where_there_is_one() -> None:
    orders = parse(_SETTING.sub("", example()), HERE).pipelines["orders"]

    assert orders.activation == Activation()
    assert orders.repository == Repository()
    assert orders.hooks.timeout == Hooks().timeout
    for name, field in Sync.model_fields.items():
        if not field.is_required() and field.default is not None:
            assert getattr(orders.sync, name) == field.default, name


def test_every_setting_is_shown() -> None:
    fields = {
        name
        for section in (Daemon, Pipeline, Sync, Activation, Hooks, Repository, Directory, Retention)
        for name in section.model_fields
    }
    # Either of two ways to say it is enough.
    fields -= {"access_key_file", "secret_key"}

    assert {name for name in fields if name not in example()} == set()


def test_the_file_at_the_top_is_the_one_that_is_printed() -> None:
    assert TOP.read_text() == example()
