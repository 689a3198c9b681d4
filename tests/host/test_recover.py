"""A repository can be restored with the shell recipe that lies in it, and nothing of ours."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ckptsync.repository import keys
from ckptsync.stores.local import LocalStore
from tests.fakes import feldera_engine
from tests.pipelines import CHUNK, PACK_BELOW, Host, contents, noise, wanted

pytestmark = pytest.mark.host

Require = Callable[..., None]


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    bucket = tmp_path / "bucket"
    bucket.mkdir()
    return bucket


def recover(bucket: Path, *arguments: str) -> None:
    """Run the script that stands in the bucket's own instructions."""
    (script,) = re.findall(r"```bash\n(.*?)```", (bucket / keys.RECOVER).read_text(), re.DOTALL)
    subprocess.run(["bash", "-c", script, "restore.sh", str(bucket), *arguments], check=True)


def data_and_modes(top: Path) -> dict[str, tuple[bytes, int]]:
    """The recipe leaves times as they come."""
    return {path: (data, mode) for path, (data, mode, _) in contents(top).items()}


def test_the_recipe_restores_every_kind_of_file_byte_for_byte(
    tmp_path: Path, bucket: Path, require: Require
) -> None:
    require("bash", "jq", "zstd", "tar")
    host = Host(home=tmp_path / "host")
    checkpoint = host.checkpoint(
        "step 7",
        {
            "empty": b"",
            "a name with spaces/ and 'quotes'": noise(100),
            "größe/データ": noise(PACK_BELOW - 1),
            "twin": noise(100),
            "line\nbreak": b"odd, but allowed",
            "one chunk": noise(CHUNK),
            "a byte more": noise(CHUNK + 1),
            "compressible": b"again and again " * (CHUNK // 4),
        },
        directories=("void/within",),
    )
    (checkpoint / "twin").chmod(0o750)
    host.push(LocalStore(bucket))

    recover(bucket, str(tmp_path / "restored"))

    assert data_and_modes(tmp_path / "restored") == data_and_modes(host.root)


def test_the_recipe_restores_an_older_checkpoint_from_packs_that_a_newer_one_shares(
    tmp_path: Path, bucket: Path, require: Require
) -> None:
    require("bash", "jq", "zstd", "tar")
    host = Host(home=tmp_path / "host")
    store = LocalStore(bucket)
    kept = {f"{number}": noise(500, number) for number in range(50)}
    host.checkpoint("step-1", kept)
    first = host.push(store).entry
    host.checkpoint("step-2", {**kept, "moved/0": kept["0"], "1": noise(500, "new")})
    second = host.push(store).entry

    recover(bucket, str(tmp_path / "old"), first.id)
    recover(bucket, str(tmp_path / "new"))

    assert second.new_bytes < first.new_bytes
    assert data_and_modes(tmp_path / "old" / "step-1") == data_and_modes(host.root / "step-1")
    assert data_and_modes(tmp_path / "new" / "step-2") == data_and_modes(host.root / "step-2")


def test_a_feldera_engine_resumes_from_what_the_recipe_restored(
    tmp_path: Path, bucket: Path, require: Require
) -> None:
    require("bash", "jq", "zstd", "tar")
    host = Host(home=tmp_path / "host", layout="feldera")
    with feldera_engine.Engine(host.root) as engine:
        for _ in range(3):
            id = engine.checkpoint()
    host.push(LocalStore(bucket))
    restored = tmp_path / "restored"

    recover(bucket, str(restored))

    resumed = feldera_engine.resume(restored)
    assert resumed is not None
    assert resumed.uuid == id
    assert feldera_engine.contents(restored, id) == engine.written[id]


def test_the_recipe_and_a_pull_agree(tmp_path: Path, bucket: Path, require: Require) -> None:
    require("bash", "jq", "zstd", "tar")
    host = Host(home=tmp_path / "host", layout="feldera")
    with feldera_engine.Engine(host.root) as engine:
        engine.checkpoint()
    store = LocalStore(bucket)
    host.push(store)
    Host(home=tmp_path / "other", layout="feldera").restore(store, wanted(to=tmp_path / "pulled"))

    recover(bucket, str(tmp_path / "restored"))

    pulled = data_and_modes(tmp_path / "pulled")
    restored = data_and_modes(tmp_path / "restored")
    assert {path: data for path, (data, _) in pulled.items() if path != "feldera.pidlock"} == {
        path: data for path, (data, _) in restored.items()
    }
