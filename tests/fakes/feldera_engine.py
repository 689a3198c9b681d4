"""An engine that writes checkpoints as Feldera does, and a judge of what one would resume from.

Standard library only, so that a demonstration can run it anywhere:

    python -m tests.fakes.feldera_engine ROOT --seed 7 --count 100 --interval 0.05
"""

import argparse
import fcntl
import hashlib
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

CATALOG = "checkpoints.feldera"
STATE = "state.json"
PIDLOCK = "feldera.pidlock"
JOURNAL = "steps.bin"

_KEPT = 2
_FINGERPRINT = 0xF1E2_D3C4_B5A6_9788  # beyond 2^53, where careless JSON readers round
_KNOWN_AT_ROOT = {CATALOG, STATE, JOURNAL, PIDLOCK, "status.json", "status.json.mut"} | {
    "datafusion-tmp",
    "activated.feldera",
    "coordinator",
}


class StorageLocked(Exception):
    """Another engine owns the directory."""


class RefusesToStart(Exception):
    """What the engine found is not what it wrote."""


@dataclass
class Sizes:
    """How much each checkpoint writes."""

    traces: int = 2
    new_batches: int = 3
    """For each trace."""
    batch_bytes: int = 4096
    state_bytes: int = 512
    merge_at: int = 8
    """A trace of this many batches is merged into one."""


@dataclass
class Engine:
    """Writes checkpoints into `root`; used as a context manager it owns the lock meanwhile.

    `written` has, from just before a checkpoint becomes complete, the SHA-256 of each of its
    files by its path; with `record` each is also a line of that file.
    """

    root: Path
    seed: int = 0
    sizes: Sizes = field(default_factory=Sizes)
    durable: bool = False
    """Sync as the engine does; without it thousands of checkpoints take seconds."""
    drain: Callable[[], None] = lambda: None
    """Called between listing a checkpoint and completing it."""
    record: Path | None = None
    written: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._live: list[list[str]] = [[] for _ in range(self.sizes.traces)]
        self._digests: dict[str, str] = {}
        self._catalog: list[dict[str, Any]] = []
        self._step = 0
        self._started = 1_760_000_000 + self.seed
        self._last_uuid = 0
        self._lock: int | None = None

    # Life of the process

    def start(self) -> None:
        """Take the lock, read what is there, collect garbage."""
        self.root.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        try:
            self._resume()
            self._gc_startup()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def run(
        self, count: int, *, interval: float = 0, stop: Callable[[], bool] = lambda: False
    ) -> None:
        """Write this many checkpoints, then return; or after one more once it is to stop."""
        for _ in range(count):
            last = stop()
            self.checkpoint()
            if last:
                return
            time.sleep(interval)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.stop()

    # Writing a checkpoint

    def checkpoint(self) -> str:
        """Write a checkpoint whole, then journal a step of more input; returns its UUID."""
        self._merge()
        id = self.commit()
        self.drain()
        self.complete(id)
        self.gc_checkpoint()
        self._journal()
        return id

    def commit(self) -> str:
        """All but `state.json`: the catalog lists the checkpoint, it cannot be resumed from yet."""
        if not (self.root / CATALOG).exists():
            self._write_catalog()
        id = self._uuid()
        folder = self.root / id
        folder.mkdir()
        self._step += self._random.randint(1, 1000)
        for trace, batches in enumerate(self._live):
            batches += [self._batch() for _ in range(self.sizes.new_batches)]
            listed = json.dumps({"files": batches}).encode()
            self._write(folder / f"pspine-batches-0-{trace:04x}.integral.dat", listed)
            self._write(folder / f"pspine-0-{trace:04x}.integral.dat", self._bytes())
            self._write(folder / f"z1-0-{trace:04x}.dat", self._bytes())
        self._write(folder / "CHECKPOINT", b"")
        names = sorted(path.name for path in folder.iterdir())
        dependencies = {"batches": self._batches(), "state_files": names}
        self._write(folder / "dependencies.json", json.dumps(dependencies).encode())
        self._sync(folder)
        size = sum(path.stat().st_size for path in folder.iterdir())
        self._catalog.append(
            {
                "uuid": id,
                "identifier": None,
                "fingerprint": _FINGERPRINT,
                "size": size,
                "steps": self._step,
                "processed_records": self._step * 10,
            }
        )
        self._write_catalog()
        return id

    def complete(self, id: str) -> None:
        """Write `state.json`, in the checkpoint and at the root."""
        circuit = next(entry for entry in self._catalog if entry["uuid"] == id)
        state = {
            "circuit": circuit,
            "step": circuit["steps"],
            "config": {"name": "fake", "inputs": {}, "outputs": {}},
            "processed_records": circuit["processed_records"],
            "initial_start_time": self._started,
        }
        data = json.dumps(state).encode()
        folder = self.root / id
        files = {f"{id}/{path.name}": _sha256(path.read_bytes()) for path in folder.iterdir()}
        files[f"{id}/{STATE}"] = _sha256(data)
        files |= {name: self._digests[name] for name in self._batches()}
        self.written[id] = files
        if self.record is not None:
            with self.record.open("a") as lines:
                lines.write(json.dumps({"uuid": id, "files": files}) + "\n")
        self._write(folder / STATE, data)
        self._sync(folder)
        self._write(self.root / STATE, data)
        self._sync(self.root)

    def gc_checkpoint(self, keep: Iterable[str] = ()) -> None:
        """Delete all but the newest two and those to keep: the catalog first, the folders last."""
        kept_ids = set(keep)
        candidates = [entry for entry in self._catalog[:-_KEPT] if entry["uuid"] not in kept_ids]
        if len(self._catalog) <= _KEPT or not candidates:
            return
        kept_batches = {name for id in kept_ids for name in batches_of(self.root / id)}
        self._catalog = [entry for entry in self._catalog if entry not in candidates]
        self._write_catalog()
        oldest = next(entry for entry in self._catalog if entry["uuid"] not in kept_ids)
        kept_batches.update(batches_of(self.root / oldest["uuid"]))
        for entry in candidates:
            for name in sorted(set(batches_of(self.root / entry["uuid"])) - kept_batches):
                (self.root / name).unlink(missing_ok=True)
                self._digests.pop(name, None)
        for entry in candidates:
            shutil.rmtree(self.root / entry["uuid"])

    # Parts

    def _merge(self) -> None:
        """Replace the batches of a long trace by one. Those that no checkpoint has are deleted."""
        for trace, batches in enumerate(self._live):
            if len(batches) >= self.sizes.merge_at:
                self._live[trace] = [self._batch()]
        listed = {name for entry in self._catalog for name in batches_of(self.root / entry["uuid"])}
        for name in set(self._digests) - listed - set(self._batches()):
            (self.root / name).unlink(missing_ok=True)
            del self._digests[name]

    def _batch(self) -> str:
        name = f"w{self._random.randrange(2)}-{self._uuid()}.feldera"
        data = self._random.randbytes(self.sizes.batch_bytes)
        self._write(self.root / name, data)
        self._digests[name] = _sha256(data)
        return name

    def _batches(self) -> list[str]:
        return [name for batches in self._live for name in batches]

    def _bytes(self) -> bytes:
        return self._random.randbytes(self._random.randrange(self.sizes.state_bytes + 1))

    def _journal(self) -> None:
        """Keep the step that follows the checkpoint; those before it need no replay."""
        (self.root / JOURNAL).mkdir(exist_ok=True)
        for path in (self.root / JOURNAL).glob("*.bin"):
            path.unlink()
        self._write(self.root / JOURNAL / f"{self._step}.bin", self._bytes())

    def _write_catalog(self) -> None:
        self._write(self.root / CATALOG, json.dumps(self._catalog).encode())
        self._sync(self.root)

    def _write(self, path: Path, data: bytes) -> None:
        mutable = path.with_name(path.name + ".mut")
        with mutable.open("wb") as file:
            file.write(data)
            if self.durable:
                file.flush()
                os.fsync(file.fileno())
        mutable.rename(path)

    def _sync(self, directory: Path) -> None:
        if self.durable:
            descriptor = os.open(directory, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)

    def _uuid(self) -> str:
        """Version 7: later ones are greater, also within one millisecond."""
        stamp = time.time_ns() // 1_000_000 << 80 | self._random.getrandbits(62)
        self._last_uuid = max(stamp, self._last_uuid + 1)
        low = self._last_uuid & (1 << 62) - 1
        high = self._last_uuid >> 80
        return str(UUID(int=high << 80 | 0x7 << 76 | 0b10 << 62 | low))

    # Starting

    def _take_lock(self) -> None:
        descriptor = os.open(self.root / PIDLOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise StorageLocked(str(self.root)) from error
        self._lock = descriptor

    def _resume(self) -> None:
        found = resume(self.root)
        catalog = self.root / CATALOG
        self._catalog = json.loads(catalog.read_bytes()) if catalog.exists() else []
        if found is None:
            return
        self._step, self._started = found.step, found.started
        self._live = [[] for _ in range(self.sizes.traces)]
        for trace in range(self.sizes.traces):
            listed = self.root / found.uuid / f"pspine-batches-0-{trace:04x}.integral.dat"
            if listed.exists():
                self._live[trace] = json.loads(listed.read_bytes())["files"]
        for entry in self._catalog:
            for name in batches_of(self.root / entry["uuid"]):
                self._digests[name] = _sha256((self.root / name).read_bytes())

    def _gc_startup(self) -> None:
        """Delete what the catalog does not know: other directories, batches, temporary files."""
        kept = {entry["uuid"] for entry in self._catalog} | _KNOWN_AT_ROOT
        for entry in self._catalog:
            kept.update(batches_of(self.root / entry["uuid"]))
        for path in self.root.iterdir():
            if path.name in kept:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            elif path.suffix in (".feldera", ".mut"):
                path.unlink()


@dataclass(frozen=True)
class Resumed:
    """What an engine that starts now would go on from."""

    uuid: str
    step: int
    started: int
    journal: tuple[int, ...]
    """The steps in the journal, which it would replay from its own on."""


def resume(root: Path) -> Resumed | None:
    """Where an engine would resume: None for a fresh start. Changes nothing.

    Raises RefusesToStart where an engine would, or would lose what it is about to resume.
    """
    if not (root / CATALOG).exists():
        orphans = [path.name for path in root.iterdir() if path.is_dir() and _is_uuid(path.name)]
        if orphans:
            raise RefusesToStart(f"no catalog, but {orphans}")
    if not (root / STATE).exists():
        return None
    state = json.loads((root / STATE).read_bytes())
    id = state["circuit"]["uuid"]
    listed = [entry["uuid"] for entry in json.loads((root / CATALOG).read_bytes())]
    if id not in listed:
        raise RefusesToStart(f"{id} is not in the catalog: it would be deleted at the start")
    folder = root / id
    if not (folder / "CHECKPOINT").exists():
        raise RefusesToStart(f"checkpoint {id} not found")
    needed = json.loads((folder / "dependencies.json").read_bytes())
    missing = [name for name in needed["state_files"] if not (folder / name).is_file()]
    missing += [name for name in needed["batches"] if not (root / name).is_file()]
    if missing:
        raise RefusesToStart(f"{id} lacks {missing}")
    journal = tuple(sorted(int(path.stem) for path in (root / JOURNAL).glob("*.bin")))
    return Resumed(
        uuid=id, step=state["step"], started=state["initial_start_time"], journal=journal
    )


def contents(root: Path, id: str) -> dict[str, str]:
    """The SHA-256 of each file of a checkpoint, as in `Engine.written`."""
    folder = root / id
    paths = [path for path in folder.rglob("*") if path.is_file()]
    paths += [root / name for name in batches_of(folder)]
    return {path.relative_to(root).as_posix(): _sha256(path.read_bytes()) for path in paths}


def batches_of(folder: Path) -> list[str]:
    """The batches that a checkpoint names; none once it is gone."""
    with suppress(FileNotFoundError):
        batches: list[str] = json.loads((folder / "dependencies.json").read_bytes())["batches"]
        return batches
    return []


def read_record(path: Path) -> dict[str, dict[str, str]]:
    """What an engine in another process wrote so far."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {line["uuid"]: line["files"] for line in map(json.loads, lines)}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _is_uuid(name: str) -> bool:
    with suppress(ValueError):
        return str(UUID(name)) == name
    return False


def _resumed(root: Path) -> dict[str, Any] | None:
    found = resume(root)
    return None if found is None else {"uuid": found.uuid, "files": contents(root, found.uuid)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--interval", type=float, default=0.0, help="seconds between checkpoints")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--batch-bytes", type=int, default=4096)
    parser.add_argument("--new-batches", type=int, default=3)
    parser.add_argument("--record", type=Path, help="append a JSON line for each checkpoint")
    parser.add_argument("--drain", type=float, default=0.0, help="seconds until it is complete")
    parser.add_argument("--durable", action="store_true", help="sync as the engine does")
    parser.add_argument("--hold", action="store_true", help="keep the lock until stdin ends")
    parser.add_argument("--resumed", type=Path, help="write what it resumes from, as JSON")
    parser.add_argument(
        "--last", action="store_true", help="at SIGTERM write one more checkpoint, and end"
    )
    args = parser.parse_args()
    sizes = Sizes(batch_bytes=args.batch_bytes, new_batches=args.new_batches)
    engine = Engine(
        args.root,
        seed=args.seed,
        sizes=sizes,
        durable=args.durable,
        drain=lambda: time.sleep(args.drain),
        record=args.record,
    )
    asked: list[int] = []
    if args.last:
        signal.signal(signal.SIGTERM, lambda number, _frame: asked.append(number))
    with engine:
        if args.resumed is not None:
            args.resumed.write_text(json.dumps(_resumed(args.root)))
        print("started", flush=True)
        engine.run(args.count, interval=args.interval, stop=lambda: bool(asked))
        print("done", flush=True)
        if args.hold:
            input()


if __name__ == "__main__":
    main()
