"""A daemon to be killed: `python -m tests.api.mortal HOME` says "listening", then "held".

It is held in the middle of the first push that it is asked for, for ever.
"""

import sys
import threading
from pathlib import Path

from ckptsync.stores.base import Body, Expect, Version
from ckptsync.stores.local import LocalStore
from tests.api.desk import Desk, running_server, serving
from tests.pipelines import Host


class _Stuck(LocalStore):
    def put(self, key: str, body: Body, *, expect: Version | Expect = Expect.ANYTHING) -> Version:
        if key == "head.json":
            print("held", flush=True)
            threading.Event().wait()
        return super().put(key, body, expect=expect)


def main(home: Path) -> None:
    bucket = home / "bucket"
    bucket.mkdir()
    with (
        Host(home=home).running(_Stuck(bucket)) as pipeline,
        running_server() as server,
        serving(Desk(pipeline), home / "state", server),
    ):
        print("listening", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
