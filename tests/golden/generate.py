"""Write the repositories that every later version must be able to read.

    python -m tests.golden.generate

Run once for each version of the format, and never again for that version: the files that it wrote
are committed, and the tests read those. Their content is always the same; names and times are not.
"""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from ckptsync.hashing import Hash
from ckptsync.repository import catalog
from ckptsync.stores.local import LocalStore
from tests.fakes.feldera_engine import Engine, Sizes
from tests.pipelines import CHUNK, Host, contents, noise

VERSION: Final = Path(__file__).with_name("v1")
EXPECTED: Final = "expected.json"
PACK_BELOW: Final = 1024


def main() -> None:
    VERSION.mkdir()
    catalog.SPILL_ABOVE, catalog.SPILL = 3, 2  # type: ignore[misc]  # pages without 512 pushes
    with tempfile.TemporaryDirectory() as scratch:
        expected = {
            "directory": _directory(Path(scratch)),
            "feldera": _feldera(Path(scratch)),
        }
    text = json.dumps(expected, indent=1, sort_keys=True, ensure_ascii=False)
    (VERSION / EXPECTED).write_text(text + "\n")


def facts(top: Path, root: Path) -> dict[str, list[object]]:
    """SHA-256, mode and time of every file of a checkpoint, by its path in the storage."""
    return {
        (top.relative_to(root) / path).as_posix() + "/" * path.endswith("/"): [
            hashlib.sha256(data).hexdigest(),
            mode,
            mtime_ns,
        ]
        for path, (data, mode, mtime_ns) in contents(top).items()
    }


def _directory(scratch: Path) -> dict[str, object]:
    """Chunks of both codecs, packs, a fork, a page; names outside ASCII; empty things."""
    host = Host(home=scratch / "host-a", pack_below=PACK_BELOW)
    store = _store("directory")
    expected: dict[str, object] = {}
    for name in ("ckpt-1", "ckpt-2", "ckpt-3", "ckpt-4"):
        _push_one(host, store, name, expected)
    host.go_back_to("ckpt-3", store)
    _push_one(host, store, "ckpt-5", expected)
    _tidy("directory")
    return expected


def _push_one(host: Host, store: LocalStore, name: str, expected: dict[str, object]) -> None:
    number = int(name[-1])
    top = host.checkpoint(
        name,
        {
            "empty": b"",
            "packed": noise(700, "shared by all"),
            "grüße/日本/☃": noise(300, number),
            "raw chunk": noise(PACK_BELOW + number, "raw"),
            "zstd chunk": b"again and again " * (1000 + number),
            "two chunks": b"0123456789abcdef" * (CHUNK // 16) + b"tail%d" % number,
            **{f"small/{each:02}": b"%d of %d\n" % (each, number) for each in range(20)},
        },
        directories=("void", "nested/void"),
    )
    (top / "packed").chmod(0o600)
    (top / "raw chunk").chmod(0o755)
    os.utime(top / "empty", ns=(1, 1))
    expected[name] = facts(top, host.root)
    host.push(store)


def _feldera(scratch: Path) -> dict[str, object]:
    """With SHA-256, and the engine's own numbers beyond 2^53."""
    host = Host(home=scratch / "host-f", layout="feldera", pack_below=PACK_BELOW, hash=Hash.SHA256)
    store = _store("feldera")
    expected: dict[str, object] = {}
    sizes = Sizes(traces=1, new_batches=2, batch_bytes=1500, state_bytes=200)
    with Engine(host.root, seed=11, sizes=sizes) as engine:
        for _ in range(2):
            id = engine.checkpoint()
            host.push(store)
            expected[id] = engine.written[id]
    _tidy("feldera")
    return expected


def _store(name: str) -> LocalStore:
    (VERSION / name).mkdir()
    return LocalStore(VERSION / name)


def _tidy(name: str) -> None:
    """Drop what is the store's own, and the scratch of the probe."""
    shutil.rmtree(VERSION / name / ".ckptsync.tmp")
    shutil.rmtree(VERSION / name / "probe")
    (VERSION / name / ".ckptsync.lock").unlink()


if __name__ == "__main__":
    main()
