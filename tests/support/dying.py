"""Processes that die in the middle of their work."""

import os
import signal
import subprocess
import sys
from pathlib import Path


def run_and_die(test_file: str, call: str) -> None:
    """Make a call of a function of a test file in a process of its own, which is to end by SIGKILL.

    call: as Python, of the module `killed`, such as "killed.run(3)"; `Path` is known.
    """
    code = (
        "import importlib.util, sys\nfrom pathlib import Path\n"
        f"spec = importlib.util.spec_from_file_location('killed', {test_file!r})\n"
        "killed = sys.modules['killed'] = importlib.util.module_from_spec(spec)\n"
        f"spec.loader.exec_module(killed)\n{call}\n"
    )
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}, check=False)
    assert done.returncode == -signal.SIGKILL
