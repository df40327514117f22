"""Which job belongs to which task of which DAG run: names, labels, and what the triggerer says of it. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from airflow.sdk.exceptions import AirflowException

from air_executor import model, validation

RUN = ("dag_id", "task_id", "run_id", "map_index")
"""The labels that say whose a job is: every try of this task instance, and nothing else."""
TASK = ("dag_id", "task_id")
"""The same for a job that all runs of a task start anew."""
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_STOPPED = re.compile(r"cancelled by (?:token .+? \([0-9a-f]{12}\): for )?try (\d+) of ")
"""Over HTTP, who cancels is whoever has the token, and says for whom."""


def owner(*, chosen: bool, on_existing: str) -> tuple[str, ...]:
    """The labels that must be the same of a job that is there already.

    The result of another run is never taken for this one's, though a chosen name may be the same in both; but each run
    may start the one job of that name anew.
    """
    return TASK if chosen and on_existing == "restart" else RUN


def job_name(ti: Any) -> str:
    """The name of the job of a task instance: the same for all its tries."""
    mapped = [f"map{ti.map_index}"] if ti.map_index >= 0 else []
    key = json.dumps([str(getattr(ti, name)) for name in RUN])
    return validation.make_name("dag", ti.dag_id, ti.task_id, ti.run_id, *mapped, key=f"job {key}")


def chosen_name(text: str) -> str:
    """A name that somebody chose, such as `import-{{ run_id }}`: a run's id holds what no job name may.

    Where it does, that is replaced, and a hash keeps two such names apart. What makes no name even so is left as it is,
    to be refused.
    """
    if validation.is_name(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    name = f"{_UNSAFE.sub('_', text)}-{digest}"
    return name if validation.is_name(name) else text


def labels(context: Mapping[str, Any]) -> dict[str, str]:
    """What tells a job from those of other tasks, runs and tries."""
    ti = context["ti"]
    logical_date = context.get("logical_date")  # a run that an asset or somebody by hand started may have none
    found = {name: str(getattr(ti, name)) for name in (*RUN, "try_number")}
    return found | ({"logical_date": logical_date.isoformat()} if logical_date else {})


def stopper(ti: Any) -> str:
    """Who asks for a job's end when Airflow stops a try; see `stopped_for_another_try`."""
    return f"try {ti.try_number} of {ti.dag_id}.{ti.task_id}"


def check_event(event: Mapping[str, Any]) -> None:
    """Raise why a trigger could not wait. Events of a version before have no word of that."""
    if error := event.get("error"):
        raise AirflowException(f"the triggerer could not wait for the job {event['job']}: {error}")


def stopped_for_another_try(job: model.Job, ti: Any) -> bool:
    """Whether a job ended because an earlier try than this one was stopped.

    Clearing a deferred task starts the next try at once, and tells the triggerer at its leisure: the next try may find
    the job still working, wait for it, and see it cancelled for the sake of the one before.
    """
    if job.state is not model.JobState.CANCELLED or job.exit is None:
        return False
    found = _STOPPED.match(job.exit.reason)
    return found is not None and int(found[1]) < ti.try_number
