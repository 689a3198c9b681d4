"""An attempt by a user who may not, which root's tests could not make otherwise."""

import subprocess
import sys
from pathlib import Path
from typing import Final

_NOBODY: Final = 65534

_CODE: Final = """
import os, sys, traceback
from pathlib import Path
{imports}
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid({nobody})
    os.setuid({nobody})
try:
    {attempt}
except Exception as error:
    print(f"{{type(error).__name__}}: {{error}}")
"""


def refused(imports: str, attempt: str, path: Path) -> str:
    """What is raised, as `Type: message`, when `attempt` meets `sys.argv[1]`."""
    code = _CODE.format(imports=imports, attempt=attempt, nobody=_NOBODY)
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
