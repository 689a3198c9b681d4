"""The example file that 'ckptsync config example' prints."""

from importlib import resources


def example() -> str:
    return (resources.files("ckptsync.config") / "example.toml").read_text(encoding="utf-8")
