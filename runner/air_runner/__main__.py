"""`python -m air_runner`: the runner daemon."""

import sys

from air_runner.main import main

sys.exit(main())
