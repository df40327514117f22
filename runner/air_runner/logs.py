"""Where the processes of a runner log to: `logs/runner.log`, and the terminal of one in the foreground."""

from __future__ import annotations

import logging
import logging.handlers
import os
import time

from air_executor import _files, report
from air_executor.paths import Home


def begin(home: Home, *, terminal: bool) -> None:
    """Log to the file from now on, and, if wanted, to standard error."""
    formatter = LogFormatter()
    os.close(_files.open_to_append(home.runner_log))  # private from its first byte
    handlers: list[logging.Handler] = [logging.handlers.WatchedFileHandler(home.runner_log)]
    if terminal:
        handlers.append(logging.StreamHandler())
    for handler in handlers:
        handler.setFormatter(formatter)
        logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)
    logging.getLogger("watchdog").setLevel(logging.WARNING)


class LogFormatter(logging.Formatter):
    """One line for a message, whatever others put into it, such as why they steer; a traceback has its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s [%(process)d] %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:
        """What stands before a traceback."""
        return report.one_line(super().formatMessage(record))
