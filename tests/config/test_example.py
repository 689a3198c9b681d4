"""The example loads, also with every setting in it uncommented, and knows every setting."""

import re
from pathlib import Path

from ckptsync.config.example import example
from ckptsync.config.load import parse
from ckptsync.config.model import Daemon, Directory, Pipeline, Repository, Sync
from ckptsync.config.notes import notes

HERE = Path("example.toml")
TOP = Path(__file__).parents[2] / "config.example.toml"

_SETTING = re.compile(r"^# (?=[a-z_]+ = |\[)", re.MULTILINE)


def test_the_example_loads_without_a_note() -> None:
    assert notes(parse(example(), HERE), {}) == []


def test_what_is_commented_out_is_valid_as_well() -> None:
    config = parse(_SETTING.sub("", example()), HERE)

    assert set(config.pipelines) == {"orders", "trainer"}


def test_every_setting_is_shown() -> None:
    fields = {
        name
        for section in (Daemon, Pipeline, Sync, Repository, Directory)
        for name in section.model_fields
    }
    # Either of two ways to say it is enough.
    fields -= {"access_key_file", "secret_key"}

    assert {name for name in fields if name not in example()} == set()


def test_the_file_at_the_top_is_the_one_that_is_printed() -> None:
    assert TOP.read_text() == example()
