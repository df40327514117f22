"""Starts and watches the components; start-dev.sh becomes this program once the virtual environment is there."""

import sys

from dev import cli

if __name__ == "__main__":
    sys.exit(cli.main())
