"""The one tree of errors.

::

    AirExecutorError                exit code 1
    ├── InvalidInputError           2   a value that somebody gave is wrong
    │   ├── InvalidNameError            a job, queue, task or runner name
    │   ├── InvalidJobError             a job's tasks or options
    │   ├── InvalidPipelineError        the file of a pipeline
    │   ├── InvalidParameterError       parameters or an environment that a pipeline does not take
    │   └── SettingsError               config.toml, an environment variable, a flag
    ├── HomeError                   3   the home is missing, not a directory, not writable
    ├── NotFoundError               4   no such job, task, runner or pipeline
    ├── JobExistsError              5   the name is taken
    ├── JobBusyError                6   somebody else holds the job, or it is in the wrong state for this
    ├── CorruptFileError            7   a file cannot be read as what it should be
    ├── RunnerError                 8   a runner could not be started, reached or stopped
    ├── RemoteError                 10  the HTTP API of a home does not answer as it should
    │   ├── AccessError                 it refuses the token
    │   └── UnreachableError            it does not answer at all
    └── WaitTimeoutError            124 the wait ended before the job did

Messages say what is wrong, where, and what to do. They never hold an environment, a token or a command's arguments.
"""

from __future__ import annotations

from collections.abc import Sequence


class AirExecutorError(Exception):
    """Base of every error of this project."""

    exit_code = 1


class InvalidInputError(AirExecutorError, ValueError):
    """A value that somebody gave is wrong."""

    exit_code = 2


class InvalidNameError(InvalidInputError):
    """A name that cannot be a file name on every filesystem."""


class InvalidJobError(InvalidInputError):
    """Tasks or options that do not make a job."""


class InvalidPipelineError(InvalidInputError):
    """A pipeline's file that nothing can be run from.

    Attributes:
        problems: all that is wrong, each in one sentence that names the place in the file.
    """

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class InvalidParameterError(InvalidInputError):
    """Parameters or an environment that a pipeline does not take; the message holds no value, as it may be a secret."""


class SettingsError(InvalidInputError):
    """An unknown or malformed option."""


class HomeError(AirExecutorError):
    """The home cannot be used."""

    exit_code = 3


class NotFoundError(AirExecutorError, LookupError):
    """No such job, task, runner or pipeline."""

    exit_code = 4


class JobExistsError(AirExecutorError):
    """The name is taken by another job."""

    exit_code = 5


class JobBusyError(AirExecutorError):
    """The job is held by somebody else, or its state does not allow this."""

    exit_code = 6


class CorruptFileError(AirExecutorError):
    """A file that cannot be read as what it should be.

    Attributes:
        path: the file, as text.
    """

    exit_code = 7

    def __init__(self, path: object, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path = str(path)


class RunnerError(AirExecutorError):
    """A runner could not be started, reached or stopped."""

    exit_code = 8


class RemoteError(AirExecutorError):
    """The HTTP API of a home does not answer as it should; the message names its address, and never a token."""

    exit_code = 10


class AccessError(RemoteError):
    """The API refuses the token, or what it does not allow."""


class UnreachableError(RemoteError, ConnectionError):
    """The API does not answer, also after several tries; whether it did what was asked for is not known.

    Attributes:
        retry_after: after how many seconds one may ask again, if the API said so.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class WaitTimeoutError(AirExecutorError, TimeoutError):
    """The wait ended before the job did; the job goes on."""

    exit_code = 124
