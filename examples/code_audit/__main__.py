"""Run the audit: `python -m examples.code_audit FOLDER [REPORT [WORK]]`.

With a folder for its work, an audit that was killed goes on when it is run again.
"""

import asyncio
import sys
from pathlib import Path

from .program import audit

if __name__ == "__main__":
    folder, *rest = sys.argv[1:] or ["."]
    report = Path(rest[0] if rest else "code-audit-report.md")
    work = Path(rest[1]) if len(rest) > 1 else None
    print(
        asyncio.run(audit(Path(folder), report, show=print, storage=work, resume=True))[
            0
        ]
    )
