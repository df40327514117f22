"""Which task instances of a scheduler that is gone go on under this one. The job directories know.

============================  =======================================  ==========================================
the job of the try            task instance QUEUED                     RUNNING or RESTARTING
============================  =======================================  ==========================================
there, same external id       adopt                                    adopt
there, other id, not over     stop it, do not adopt                    stop it, do not adopt
there, other id, over         do not adopt                             do not adopt
missing                       do not adopt                             do not adopt
damaged                       do not adopt                             adopt: its end will be reported
the home cannot be read       do not adopt: the API server refuses     adopt: its body may be running, and must
                              a start under the old id                 not run twice
============================  =======================================  ==========================================
"""

from __future__ import annotations

import enum

from air_executor import model, store
from air_executor.errors import AirExecutorError, CorruptFileError, NotFoundError
from air_executor.paths import Home
from airflow_plugin import jobs


class Adoption(enum.Enum):
    """What to do with a task instance."""

    ADOPT = "adopt"
    LEAVE = "leave"
    STOP = "stop"
    """Leave it, and stop the job that has its name."""


def judge(home: Home, name: str, external_id: str | None, *, queued: bool) -> Adoption:
    """What to do with a task instance whose job has that name. Reads one job, changes nothing."""
    try:
        store.check_home(home)
        job = store.read(home, name)
    except NotFoundError:
        return Adoption.LEAVE
    except (CorruptFileError, AirExecutorError, OSError):
        return Adoption.LEAVE if queued else Adoption.ADOPT
    if belongs(job, external_id):
        return Adoption.ADOPT
    return Adoption.LEAVE if job.state.terminal else Adoption.STOP


def belongs(job: model.Job, external_id: str | None) -> bool:
    """Whether a job is the one that Airflow means; without an id of Airflow's, only one that is not over can be."""
    if external_id is not None:
        return job.external_id == external_id
    return (job.external_id or "").startswith(jobs.FINGERPRINT) and not job.state.terminal
