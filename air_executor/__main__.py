"""`python -m air_executor` is the command `air-executor`."""

from __future__ import annotations

import sys

from air_executor.cli import main

if __name__ == "__main__":
    sys.exit(main())
