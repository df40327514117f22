"""Why a day of triage did not come to its end. Each has the exit code of `python pipeline.py`.

::

    TriageError
    ├── SettingError      a value is missing or wrong: nothing was asked, nothing was written
    ├── EndError          a server did not answer, or not as it should
    ├── StageError        a stage of the network failed
    ├── BusyError         another run of the same day is at work
    ├── TimeLimitError    the day was not done in time
    └── DrainedError      a stop was asked for; what had begun was brought to its end
"""

from __future__ import annotations


class TriageError(Exception):
    """A day has no summary; its archive is as it was before. A later run of the day takes up what is missing."""

    exit_code = 1


class SettingError(TriageError):
    exit_code = 2


class EndError(TriageError):
    """Messages name the host alone: the rest of an address may be a secret."""

    def __init__(self, message: str, *, passing: bool) -> None:
        super().__init__(message)
        self.passing = passing
        """Whether asking again may help."""
        self.pause = 0.0
        """Seconds that the server wants one to wait, if it said so."""


class StageError(TriageError):
    pass


class BusyError(TriageError):
    exit_code = 3


class TimeLimitError(TriageError):
    exit_code = 4


class DrainedError(TriageError):
    exit_code = 5
