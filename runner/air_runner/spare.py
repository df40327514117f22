"""A fork that is there before its job is: what a fork costs is paid while nobody waits for it."""

from __future__ import annotations

import pickle
import socket
from dataclasses import dataclass

from air_executor import held

PAUSE = 0.01
"""Seconds without anything to do after which a spare is made: what was just launched needs the processors first."""


@dataclass
class Assignment:
    """What an ephemeral runner is to run."""

    job: str
    look: held.Look | None
    """What the template has read of the job."""


class Spare:
    """A fork that waits, as its template sees it.

    Args:
        connection: its other end is the fork's alone; when it is closed with nothing sent, the fork ends.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.pid = 0
        """Once it has been forked."""
        self._connection = connection

    def give(self, assignment: Assignment) -> bool:
        """Let it run a job; it is no spare any more. False if it is gone, or cannot be told of this job."""
        try:
            self._connection.sendall(pickle.dumps(assignment))
        except Exception:  # nothing of one job may end the template, such as a key of its file that is nested too deep
            return False
        finally:
            self.close()
        return True

    def close(self) -> None:
        """Let it go."""
        self._connection.close()


def wait(connection: socket.socket) -> Assignment | None:
    """In the fork: wait for an assignment; None if the template is gone, or wants no spare any more."""
    with connection, connection.makefile("rb") as file:
        try:
            assignment: Assignment = pickle.load(file)  # noqa: S301  # from the process that this one is a fork of
        except (EOFError, pickle.UnpicklingError):  # it may be gone in the midst of saying so
            return None
    return assignment
