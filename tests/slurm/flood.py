"""Tasks of a real Airflow that flow through Slurm, while its scheduler, the runner and parts of Slurm are killed."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from air_executor.model import ExitKind
from tests.airflow import databases, flow, postgres, rest, stack, waiting
from tests.airflow import kills as airflow_kills
from tests.slurm import kills
from tests.slurm.cluster import Cluster

AIRFLOW = Path(__file__).parents[1] / "airflow"
NOTHING_SAID = "stopped by Airflow"
"""How an attempt ends that Airflow has given up: its heartbeats did not come, for who sent them was killed."""


def airflow(root: Path, server: postgres.Postgres, cluster: Cluster) -> stack.Stack:
    """An Airflow whose queue `slurm` goes to the cluster."""
    dags = root / "dags"
    dags.mkdir()
    shutil.copy(AIRFLOW / "dags" / "marks.py", dags)
    shutil.copy(AIRFLOW / "slurm_dags" / "flood.py", dags)
    database = databases.PostgresDatabase(server, "airflow")
    settings = {**airflow_kills.SOON, "CORE__PARALLELISM": "200"}
    made = stack.Stack(root, database, executor="airflow_plugin.AirExecutor", dags=dags, settings=settings)
    made.environment["SLURM_CONF"] = cluster.environment["SLURM_CONF"]
    made.home.path.mkdir()
    (made.home.path / "config.toml").write_text(kills.CONFIG)
    return made


class Flood:
    """One run of many mapped tasks, each of which is tried again as often as it takes."""

    what: Sequence[str] = ("scheduler", "runner", "both", "controller", "node", "steps")

    def __init__(self, airflow: stack.Stack, cluster: Cluster, chosen: random.Random) -> None:
        self._airflow, self._cluster, self._random = airflow, cluster, chosen
        self._run = rest.Run("flood", "")
        self._count = 0
        self._kills: Counter[str] = Counter()

    def submit(self, count: int, longest: float) -> None:
        """Trigger the run, and wait until the first bodies are at it."""
        self._count = count
        self._run = self._airflow.rest.trigger("flood", conf={"count": count, "longest": longest})
        waiting.until(lambda: self._airflow.marks(self._run.run_id), "the first body to start", 120)

    def kill(self, what: str, pause: float) -> None:
        """Wait for a while, kill, and start it again; a runner comes back by itself."""
        self._pass(pause)
        self._kills[what] += 1
        if what in ("scheduler", "both"):
            self._airflow.kill_scheduler()
        if what in ("runner", "both"):
            infos = self._airflow.home.runners()
            airflow_kills.kill_all(int(info["process"]["pid"]) for info in infos)
        if what in ("scheduler", "both"):
            self._airflow.start_scheduler()
        if what in ("controller", "node", "steps"):
            daemon = kills.choose_daemon(self._cluster, what, self._random)
            self._cluster.kill(daemon, steps=what == "steps")
            self._pass(pause)
            kills.bring_back(self._cluster, daemon)

    def _pass(self, longest: float) -> None:
        airflow_kills.let_pass(self._random.uniform(0, longest))

    def finish(self, seconds: float) -> None:
        """Wait until Airflow, the jobs and Slurm say that all is over."""

        def over() -> bool:
            kills.resume_nodes(self._cluster)
            return self._airflow.rest.run_state(self._run) in rest.FINISHED

        waiting.until(over, "the run to finish", seconds, 1)
        waiting.until(lambda: not list(self._left()), "nothing to be left", 240, 1)

    def problems(self) -> list[str]:
        """Everything that is not as it should be."""
        return [*self._wrong_states(), *self._wrong_bodies(), *self._wrong_reasons(), *self._left()]

    def _wrong_states(self) -> Iterator[str]:
        bodies = [task for task in self._airflow.rest.tasks(self._run) if task.task_id == "body"]
        if len(bodies) != self._count:
            yield f"there are {len(bodies)} task instances, not {self._count}"
        yield from (f"{task.label} is {task.state}" for task in bodies if task.state != "success")

    def _wrong_bodies(self) -> Iterator[str]:
        """No try starts a body twice, and the one that succeeded has ended it."""
        said = Counter(self._airflow.marks(self._run.run_id))
        yield from (f"{count} times: {line}" for line, count in said.items() if count > 1)
        for task in self._airflow.rest.tasks(self._run):
            if task.task_id == "body" and not said[f"{task.map_index} {task.try_number} end"]:
                yield f"{task.label} succeeded with try {task.try_number}, which has not ended its body"

    def _reasons(self) -> Counter[str]:
        jobs = [job for job in self._airflow.home.jobs_of(self._run) if job.state["state"] in ("failed", "cancelled")]
        return Counter(f"{job.state['exit']['kind']}: {job.state['exit']['reason']}" for job in jobs)

    def _wrong_reasons(self) -> Iterator[str]:
        """No body fails by itself, and nobody has cancelled anything."""
        for reason in self._reasons():
            if not reason.startswith(f"{ExitKind.RUNNER_LOST.value}: ") and NOTHING_SAID not in reason:
                yield f"this is not why it failed: {reason}"

    def _left(self) -> Iterator[str]:
        yield from (name for name in kills.living(self._cluster) if self._run.run_id.replace("-", "_") in name)
        yield from (f"{job.name} is {job.state['state']}" for job in self._airflow.home.jobs() if not job.finished)
        spool = self._airflow.home.path / "spool"
        yield from (str(path) for where in ("waiting", "claimed", "cancel") for path in spool.glob(f"{where}/*/*"))
        yield from flow.strays(self._airflow)

    def summary(self) -> dict[str, object]:
        bodies = [task for task in self._airflow.rest.tasks(self._run) if task.task_id == "body"]
        tries = Counter(f"{task.state} {task.try_number}" for task in bodies)
        reasons = {"failed tries": sum(self._reasons().values()), "reasons": dict(self._reasons())}
        return {"kills": dict(self._kills), "tasks, by state and try": dict(tries), **reasons}
