"""Run the audit: `python -m examples.code_audit FOLDER [REPORT]`."""

import asyncio
import sys
from pathlib import Path

from .program import audit

if __name__ == "__main__":
    folder, *rest = sys.argv[1:] or ["."]
    report = Path(rest[0] if rest else "code-audit-report.md")
    print(asyncio.run(audit(Path(folder), report, show=print))[0])
