"""Keys are found where the file says, and no message shows one."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptsync.config.credentials import credentials, secret_fault
from ckptsync.config.load import parse
from ckptsync.config.model import Config, Sync
from ckptsync.errors import ConfigError
from tests.unprivileged import refused

HERE = Path("config.toml")
SECRET = "hush-hush-hush"


def text(lines: str) -> str:
    return f"""
[pipelines.orders]
storage_path = "/srv/orders"
[pipelines.orders.sync]
bucket = "s3://dr/orders"
{lines}
"""


def sync(lines: str) -> Sync:
    return parse(text(lines), HERE).pipelines["orders"].sync


def test_keys_in_the_file_are_used_and_not_printed() -> None:
    config: Config = parse(text(f'access_key = "AKIA"\nsecret_key = "{SECRET}"'), HERE)

    found = credentials(config.pipelines["orders"].sync, {})

    assert found is not None
    assert found.access_key.get_secret_value() == "AKIA"
    assert found.secret_key.get_secret_value() == SECRET
    assert SECRET not in f"{config} {config!r} {found} {found!r}"


def test_keys_are_read_from_files_without_the_newline_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "access").write_text("AKIA\n")
    (tmp_path / "secret").write_text(f"{SECRET}\r\n")
    written = sync(f'access_key_file = "{tmp_path}/access"\nsecret_key_file = "credential:secret"')

    found = credentials(written, {"CREDENTIALS_DIRECTORY": str(tmp_path)})

    assert found is not None
    assert found.access_key.get_secret_value() == "AKIA"
    assert found.secret_key.get_secret_value() == SECRET


def test_without_keys_the_environment_is_left_to_give_them() -> None:
    assert credentials(sync(""), {}) is None


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"a\nb\n", b"\xff\xfe", b"x" * 5000])
def test_a_file_that_holds_no_secret_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret").write_bytes(content)
    written = sync(f'access_key = "AKIA"\nsecret_key_file = "{tmp_path}/secret"')

    with pytest.raises(ConfigError, match="should hold a secret"):
        credentials(written, {})


def test_a_secret_that_is_not_there_is_named(tmp_path: Path) -> None:
    written = sync(f'access_key = "AKIA"\nsecret_key_file = "{tmp_path}/secret"')

    with pytest.raises(ConfigError, match=r"^secret_key_file: .*/secret, which .* does not exist"):
        credentials(written, {})


def test_a_secret_of_another_user_is_a_matter_of_permission(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "secret").chmod(0)

    found = refused(
        "from ckptsync.config.credentials import credentials\n"
        "from ckptsync.config.model import Sync\n"
        "sync = Sync(bucket='x', access_key='A', secret_key_file=sys.argv[1])",
        "credentials(sync, {})",
        tmp_path / "secret",
    )

    assert found == (
        f"PermissionRefused: secret_key_file: {tmp_path}/secret may not be read by this user"
    )


def test_a_credential_of_systemd_needs_systemd() -> None:
    written = sync('access_key = "AKIA"\nsecret_key_file = "credential:dr"')

    with pytest.raises(ConfigError, match="systemd gave this process none") as raised:
        credentials(written, {})
    assert "LoadCredential=" in (raised.value.hint or "")


def test_a_secret_is_looked_at_without_being_used(tmp_path: Path) -> None:
    (tmp_path / "dr").write_text(SECRET)
    unit = {"CREDENTIALS_DIRECTORY": str(tmp_path)}

    assert secret_fault(f"{tmp_path}/dr", {}) is None
    assert secret_fault("credential:dr", unit) is None
    assert secret_fault("credential:dr", {}) is None, "only a unit could tell"
    assert "/rd, which should hold a secret" in (secret_fault("credential:rd", unit) or "")
    assert "does not exist" in (secret_fault(f"{tmp_path}/none", {}) or "")


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (f'secret_key = "{SECRET}"', "has no access_key or access_key_file"),
        ('access_key = ""\nsecret_key = ""', "secret_key: must not be empty"),
        ('access_key = "AKIA"', "has no secret_key or secret_key_file"),
        ('secret_key_file = "/etc/s"', "has no access_key or access_key_file"),
        (
            f'access_key = "AKIA"\nsecret_key = "{SECRET}"\nsecret_key_file = "/etc/s"',
            "has both secret_key and secret_key_file",
        ),
    ],
)
def test_keys_come_together_or_not_at_all(lines: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as raised:
        sync(lines)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    "lines",
    [
        f"secret_key = ['{SECRET}']",
        f"sceret_key = '{SECRET}'",
        f"secret_key_file = '{SECRET}'",
        f"endpoint = 'https://me:{SECRET}@host'",
        f"read_bucket = 's3://me:{SECRET}@bucket/x'",
        f"read_bucket = 'me:{SECRET}@bucket/x'",
        f"read_bucket = 's3://bucket/x?X-Amz-Signature={SECRET}'",
        f"access_key = {{ value = '{SECRET}' }}",
        f"region = {{ value = '{SECRET}' }}",
        f"secret_key = '{SECRET}",
    ],
)
def test_no_mistake_makes_a_message_show_a_secret(lines: str) -> None:
    with pytest.raises(ConfigError) as raised:
        sync(lines)
    assert SECRET not in str(raised.value)


scalars = st.one_of(st.integers(), st.booleans(), st.just(f'"{SECRET}"'), st.just(f'["{SECRET}"]'))


@given(
    st.dictionaries(
        st.sampled_from(["secret_key", "access_key", "secretkey", "secret_key_file", "password"]),
        scalars,
        min_size=1,
    )
)
def test_a_secret_is_never_shown_whatever_else_is_wrong(settings: dict[str, object]) -> None:
    lines = "\n".join(
        f"{key} = {str(value).lower() if isinstance(value, bool) else value}"
        for key, value in settings.items()
    )

    with pytest.raises(ConfigError) as raised:
        sync(lines + "\ntransfers = 0")
    assert SECRET not in str(raised.value)
