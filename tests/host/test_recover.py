"""A repository can be restored with the shell recipe that lies in it, and nothing of ours."""

import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from ckptsync.hashing import Hash
from ckptsync.repository import catalog, keys
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


def attempt(
    bucket: Path, *arguments: str, programs: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the script that stands in the bucket's own instructions."""
    (script,) = re.findall(r"```bash\n(.*?)```", (bucket / keys.RECOVER).read_text(), re.DOTALL)
    return subprocess.run(
        ["bash", "-c", script, "restore.sh", str(bucket), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": str(programs)} if programs else None,
    )


def recover(bucket: Path, *arguments: str, programs: Path | None = None) -> str:
    """The last line that the script printed."""
    done = attempt(bucket, *arguments, programs=programs)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()[-1]


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


# What it verifies


def programs(home: Path) -> Path:
    """A PATH with what the recipe needs, and no b3sum."""
    home.mkdir()
    needed = "bash jq zstd tar find mktemp mkdir rmdir rm mv cp cat chmod sha256sum"
    for name in needed.split():
        found = shutil.which(name)
        assert found is not None
        (home / name).symlink_to(found)
    return home


def install_b3sum(home: Path) -> None:
    """As far as the recipe uses it; Debian's package is not to be had everywhere."""
    (home / "b3sum").write_text(
        f"#!{sys.executable}\n"
        "import pathlib, sys\n"
        "from blake3 import blake3\n"
        "assert sys.argv[1:] == ['--check', '--quiet']\n"
        "for line in sys.stdin:\n"
        "    digest, path = line.rstrip('\\n').split('  ')\n"
        "    if blake3(pathlib.Path(path).read_bytes()).hexdigest() != digest:\n"
        "        sys.exit(f'{path}: FAILED')\n"
    )
    (home / "b3sum").chmod(0o755)


KINDS = {
    "packed": noise(1000),
    "raw": noise(CHUNK),
    "several": noise(CHUNK + 1, 2),
    "compressed": b"again and again " * (CHUNK // 16),
}


@pytest.mark.parametrize("hash_", Hash)
def test_a_flipped_bit_in_any_object_is_found_where_the_digests_can_be_computed(
    tmp_path: Path, bucket: Path, require: Require, hash_: Hash
) -> None:
    require("bash", "jq", "zstd", "tar")
    path = programs(tmp_path / "bin")
    install_b3sum(path)
    host = Host(home=tmp_path / "host", hash=hash_)
    host.checkpoint("step-1", KINDS)
    host.push(LocalStore(bucket))
    whole = recover(bucket, str(tmp_path / "whole"), programs=path)
    assert whole.endswith(": every byte verified")

    kinds = ("manifests", "chunks", "packs")
    objects = [each for kind in kinds for each in (bucket / kind).rglob("*") if each.is_file()]
    assert len(objects) >= 5
    for each in objects:
        data = each.read_bytes()
        middle = len(data) // 2
        each.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])

        done = attempt(bucket, str(tmp_path / "restored"), programs=path)

        assert done.returncode == 1
        assert "the repository is damaged" in done.stderr
        each.write_bytes(data)
        assert left_behind(tmp_path) == []


def left_behind(tmp_path: Path) -> list[str]:
    """What a restore that failed should not leave."""
    return [each.name for each in tmp_path.iterdir() if each.name.startswith("restored")]


def test_it_says_so_where_nothing_could_be_verified(
    tmp_path: Path, bucket: Path, require: Require
) -> None:
    require("bash", "jq", "zstd", "tar")
    host = Host(home=tmp_path / "host")
    host.checkpoint("step-1", KINDS)
    host.push(LocalStore(bucket))

    said = recover(bucket, str(tmp_path / "restored"), programs=programs(tmp_path / "bin"))

    assert said.endswith(": not verified, for want of b3sum")
    assert data_and_modes(tmp_path / "restored") == data_and_modes(host.root)


def test_a_checkpoint_that_a_catalog_page_lists_is_restored(
    tmp_path: Path, bucket: Path, require: Require, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("bash", "jq", "zstd", "tar")
    monkeypatch.setattr(catalog, "SPILL_ABOVE", 2)
    host, store = Host(home=tmp_path / "host"), LocalStore(bucket)
    first = host.push_new("step-1", store)
    for number in (2, 3):
        host.push_new(f"step-{number}", store)
    assert first.id not in (bucket / keys.HEAD).read_text()

    recover(bucket, str(tmp_path / "restored"), first.id)

    restored = data_and_modes(tmp_path / "restored" / "step-1")
    assert restored == data_and_modes(host.root / "step-1")


# What it does not believe


def rewrite_manifest(bucket: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest of the one checkpoint, and let head vouch for it."""
    (path,) = (bucket / "manifests").iterdir()
    document = json.loads(zstandard.decompress(path.read_bytes(), 1 << 24))
    edit(document)
    data = zstandard.compress(json.dumps(document).encode())
    path.write_bytes(data)
    head = json.loads((bucket / keys.HEAD).read_bytes())
    head["checkpoints"][0]["manifest"] = {
        "digest": hashlib.sha256(data).hexdigest(),
        "size": len(data),
    }
    (bucket / keys.HEAD).write_text(json.dumps(head))


@pytest.fixture
def victim(tmp_path: Path, bucket: Path, require: Require) -> Path:
    """A bucket with one checkpoint, whose digests every host can compute."""
    require("bash", "jq", "zstd", "tar")
    host = Host(home=tmp_path / "host", hash=Hash.SHA256)
    host.checkpoint("step-1", KINDS)
    host.push(LocalStore(bucket))
    return bucket


@pytest.mark.parametrize(
    "path", ["../escaped", "/tmp/escaped", "a/../../escaped", "a//b", ".", "", "a\\b", "a\0b", 7]
)
@pytest.mark.parametrize("place", ["file", "directory"])
def test_a_path_that_leads_elsewhere_is_refused_before_anything_is_written(
    tmp_path: Path, victim: Path, place: str, path: object
) -> None:
    def plant(document: dict[str, Any]) -> None:
        if place == "file":
            document["files"][0]["path"] = path
        else:
            document["directories"] = [path]

    rewrite_manifest(victim, plant)

    done = attempt(victim, str(tmp_path / "restored"))

    assert done.returncode == 1
    assert "names what is unsafe" in done.stderr
    assert left_behind(tmp_path) == []
    assert not list(tmp_path.glob("escaped*"))


@pytest.mark.parametrize(
    "edit",
    [
        lambda document: document["objects"][0].__setitem__(0, "../secret"),
        lambda document: document["objects"][0].__setitem__(0, f"chunks/../{'0' * 32}"),
        lambda document: document["objects"][0].__setitem__(0, f"chunks/00/{'0' * 32}\n"),
        lambda document: document["objects"][0].__setitem__(2, f"{'0' * 64}  x\n{'0' * 64}"),
        lambda document: document["objects"][0].__setitem__(3, "raw:../x"),
        lambda document: document["files"][0].update(digest="../../etc/passwd"),
        lambda document: document["files"][0].update(mode="u+s"),
        lambda document: document["files"][0].update(chunks=[[99, "0" * 64]]),
        lambda document: document["files"][0].update(chunks=[[-1, "0" * 64]]),
        lambda document: document["engine"].update(layout="feldera", id="../../etc"),
    ],
)
def test_a_key_or_a_number_that_leads_elsewhere_is_refused(
    tmp_path: Path, victim: Path, edit: Callable[[dict[str, Any]], object]
) -> None:
    rewrite_manifest(victim, edit)

    done = attempt(victim, str(tmp_path / "restored"))

    assert done.returncode == 1
    assert "names what is unsafe" in done.stderr
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("kind", ["symlink", "hard link", "fifo", "directory", "another name"])
def test_a_pack_that_holds_anything_but_files_is_refused(
    tmp_path: Path, victim: Path, kind: str
) -> None:
    (tmp_path / "secret").write_text("secret")
    (pack,) = (victim / "packs").rglob("*.zst")
    pack.write_bytes(zstandard.compress(a_tar_with(kind, tmp_path / "secret")))

    def vouch(document: dict[str, Any]) -> None:
        for row in document["objects"]:
            if row[3] == "tar+zstd":
                row[2] = hashlib.sha256(pack.read_bytes()).hexdigest()

    rewrite_manifest(victim, vouch)

    done = attempt(victim, str(tmp_path / "restored"))

    assert done.returncode != 0
    assert left_behind(tmp_path) == []
    assert (tmp_path / "secret").read_text() == "secret"


def a_tar_with(kind: str, secret: Path) -> bytes:
    member = tarfile.TarInfo(hashlib.sha256(KINDS["packed"]).hexdigest())
    if kind == "another name":
        member.name = "another"
    else:
        member.type = {
            "symlink": tarfile.SYMTYPE,
            "hard link": tarfile.LNKTYPE,
            "fifo": tarfile.FIFOTYPE,
            "directory": tarfile.DIRTYPE,
        }[kind]
        member.linkname = str(secret)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(member)
    return out.getvalue()
