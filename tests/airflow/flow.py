"""Tasks that flow through a running Airflow, and the verdict in the end: each body ran exactly once, nothing is left.

What is done to Airflow meanwhile is not known here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import psutil

from tests.airflow import processes, rest, stack, waiting

SIZES = {"flow": 300, "brook": 20}
"""How many tasks each DAG of dags/flow.py has."""

KEPT = ("keepalive", "wake")
"""Files of the spool that stand for no job."""

LEFT_SECONDS = 180
"""Until an answer that nobody waits for is removed, and everything dead is forgotten."""


@dataclass
class Flow:
    """Runs of one DAG, one after the other, so that there is always something to do."""

    airflow: stack.Stack
    dag_id: str
    answers: bool = True
    """Whether nothing is over before answers that nobody waits for are swept up: that takes two minutes."""
    runs: list[rest.Run] = field(default_factory=list)

    @property
    def tasks(self) -> int:
        return len(self.runs) * SIZES[self.dag_id]

    def lines(self) -> Iterator[tuple[str, str, str, str]]:
        """(run, start or end, number, pid) of every line that a body wrote."""
        for run in self.runs:
            for line in self.airflow.marks(run.run_id):
                what, number, pid = line.split()
                yield run.run_id, what, number, pid

    def counts(self) -> tuple[int, int]:
        """How many bodies have started, and how many have ended."""
        seen = Counter(what for _, what, _, _ in self.lines())
        return seen["start"], seen["end"]

    @property
    def unstarted(self) -> int:
        return self.tasks - self.counts()[0]

    def keep_going(self, reserve: int) -> None:
        """Trigger one more run when few tasks are left that have not started."""
        if self.unstarted < reserve:
            self.trigger()

    def trigger(self) -> None:
        """One more run."""
        self.runs.append(self.airflow.rest.trigger(self.dag_id))

    def finish(self, seconds: float) -> None:
        """Wait until Airflow, the jobs and the spool say that all is over; who does not is named by `problems`."""
        for run in self.runs:
            self.airflow.rest.finished(run, seconds)
        waiting.until(lambda: not _left_in_home(self), "an empty spool and jobs that are over", LEFT_SECONDS, 1)
        waiting.until(lambda: not strays(self.airflow), "what was killed to have left nothing behind", 30, 1)


def problems(flow: Flow) -> list[str]:
    """Everything that is not as it should be; empty if each task succeeded exactly once and nothing is left."""
    left = [*_left_in_home(flow), *strays(flow.airflow)]
    return [*_wrong_bodies(flow), *_wrong_states(flow), *_wrong_jobs(flow), *left]


def tries(flow: Flow) -> Counter[tuple[str | None, int]]:
    """How many task instances have which state and try number."""
    runs = ", ".join(f"'{run.run_id}'" for run in flow.runs)
    rows = flow.airflow.sql(
        f"select state, try_number, count(*) from task_instance where run_id in ({runs}) group by state, try_number"
    )
    return Counter({(state, number): count for state, number, count in rows})


def _wrong_bodies(flow: Flow) -> Iterator[str]:
    """A body that ran once has one start and one end, both by one process."""
    seen: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for run, what, number, pid in flow.lines():
        seen.setdefault((run, number), []).append((what, pid))
    for run in flow.runs:
        for number in map(str, range(SIZES[flow.dag_id])):
            lines = seen.get((run.run_id, number), [])
            if [what for what, _ in lines] != ["start", "end"] or len({pid for _, pid in lines}) != 1:
                yield f"the body {number} of {run.run_id} wrote {lines}"


def _wrong_states(flow: Flow) -> Iterator[str]:
    found = tries(flow)
    succeeded = sum(count for (state, _), count in found.items() if state == "success")
    if succeeded != flow.tasks or succeeded != found.total():
        yield f"of {flow.tasks} task instances {succeeded} succeeded: {dict(found)}"


def _wrong_jobs(flow: Flow) -> Iterator[str]:
    """One job for each body came to a good end; of others nothing may have run."""
    runs = {run.run_id for run in flow.runs}
    jobs = [job for job in flow.airflow.home.jobs() if job.labels.get("run_id") in runs]
    states = Counter(job.state["state"] for job in jobs)
    if states["completed"] != flow.tasks:
        yield f"of the jobs of {flow.tasks} tasks {states['completed']} completed: {dict(states)}"
    for job in jobs:
        if job.state["state"] == "failed":
            yield f"{job.name} failed: {job.state['exit']}"


def _left_in_home(flow: Flow) -> list[str]:
    """Markers, claims, answers and requests in the spool, files of dead runners, half-written jobs, jobs not over."""
    airflow, kept = flow.airflow, KEPT if flow.answers else (*KEPT, "finished")
    files = [path.relative_to(airflow.home.path) for path in airflow.home.path.glob("spool/**/*") if path.is_file()]
    spool = [str(path) for path in files if path.parts[1] not in kept]
    temporary = [str(path.relative_to(airflow.home.path)) for path in airflow.home.path.glob("jobs/.*")]
    dead = [f"runners/{info['id']}" for info in airflow.home.runners() if not processes.exists(info["process"]["pid"])]
    busy = [f"{job.name} is {job.state['state']}" for job in airflow.home.jobs() if not job.finished]
    return [*spool, *temporary, *dead, *busy]


def strays(airflow: stack.Stack) -> list[str]:
    """Processes of this Airflow that belong neither to a component nor to a living runner."""
    roots = [airflow.component(name).pid for name in airflow.live_components()]
    roots += [int(info["process"]["pid"]) for info in airflow.home.runners()]
    known = {member for root in roots for member in _tree(root)}
    return [processes.describe(each) for each in processes.belonging(airflow.root) if each.pid not in known]


def _tree(pid: int) -> set[int]:
    try:
        root = psutil.Process(pid)
        return {pid, *(child.pid for child in root.children(recursive=True))}
    except psutil.NoSuchProcess:
        return set()
