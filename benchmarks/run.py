"""Run every benchmark beside this file, each in a process of its own.

`--quick` is handed on to each.
"""

import subprocess
import sys
from pathlib import Path


def main() -> int:
    here = Path(__file__)
    failed = 0
    for script in sorted(here.parent.glob("*.py")):
        if script != here:
            print(f"--- {script.stem}", flush=True)
            command = [sys.executable, str(script), *sys.argv[1:]]
            failed += subprocess.run(command, check=False).returncode != 0
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
