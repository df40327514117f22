"""A task that runs in its ephemeral runner, as Airflow's do: notes that it ran."""

from __future__ import annotations

import os
import sys


def main(arguments: list[str]) -> int:
    fd = os.open(arguments[0], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{os.environ['AIR_EXECUTOR_JOB']}\n".encode())
    os.close(fd)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
