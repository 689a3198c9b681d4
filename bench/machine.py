"""The machine, in the words that a reader of figures needs."""

import os
import platform
import re
from pathlib import Path

from bench.workloads import GIB


def described() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    model = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    processor = model[1] if model else platform.machine()
    return (
        f"{os.cpu_count()} cores ({processor}), {memory / GIB:.0f} GiB of memory, "
        f"Linux {platform.release()}, Python {platform.python_version()}"
    )
