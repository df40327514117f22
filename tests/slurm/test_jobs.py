"""Jobs on a real Slurm, by a real runner. All of these tests share both, and one home; a job has a name of its own.

What of Slurm would be hard to bring about, such as answers that are lost, is in tests/runner/test_slurm_cluster.py.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from air_executor import AirExecutorClient, JobState, pauses, store, testing
from air_executor.errors import InvalidJobError
from air_executor.model import ExitKind, Job
from air_executor.paths import Home
from air_executor.slurm import condition, record, states
from air_executor.testing import wait_for
from air_runner.slurm import contact
from tests.slurm.cluster import CONTROLLER, Cluster

CONFIG = """
[queues.slurm]
launcher = "slurm"

[queues.many]
launcher = "slurm"
array = 100

[queues.strange]
launcher = "slurm"
partition = "nowhere"

[queues.python]
launcher = "slurm"
python = "/nowhere/python"

[slurm]
poll = 1
patience = 0.5
"""
COUNTING = """#!/bin/sh
printf '%s\\n' "$*" >>"$0.calls"
PATH=${PATH#*:}
exec "${0##*/}" "$@"
"""
"""In place of a command of Slurm: notes with what it was called."""


class Site:
    """A home, and who looks after it."""

    def __init__(self, place: Path, cluster: Cluster) -> None:
        self.place, self.cluster, self.home = place, cluster, Home(place / "home")
        store.ensure_home(self.home)
        self.home.config.write_text(CONFIG)
        self.client = AirExecutorClient(self.home.root)
        self.programs = place / "programs"
        self.programs.mkdir()
        for name in ("sbatch", "squeue"):
            (self.programs / name).write_text(COUNTING)
            (self.programs / name).chmod(0o755)
        self.runners: list[testing.RunnerProcess] = []
        self.lines = place / "lines"

    def start(self) -> testing.RunnerProcess:
        self.runners.append(testing.RunnerProcess(self.home, ["--grace", "1"]))
        return self.runners[-1]

    @property
    def runner(self) -> testing.RunnerProcess:
        return self.runners[-1]

    def calls(self, command: str) -> list[str]:
        """With what it was called until now."""
        path = self.programs / f"{command}.calls"
        return path.read_text().splitlines() if path.exists() else []

    def submit(self, name: str, script: str = "true", queue: str = "slurm", **options: Any) -> str:
        """A job of one task, whose script first says that it was started."""
        script = f'echo "$AIR_EXECUTOR_JOB" >>{self.lines}; {script}'
        self.client.create_job(name, [{"id": "t", "command": "sh", "args": ["-c", script]}], queue=queue, **options)
        return name

    def started(self) -> Counter[str]:
        """How often the scripts of which jobs were started."""
        return Counter(self.lines.read_text().split() if self.lines.exists() else [])

    def wait(self, *names: str, seconds: float = 60.0) -> list[Job]:
        return [self.client.wait(name, seconds) for name in names]

    def wait_until_in_slurm(self, names: Iterable[str], *words: str) -> None:
        def there(name: str) -> bool:
            found = record.read(self.home.job(name), 1)
            return found is not None and found.id is not None and (not words or found.state in words)

        for name in names:
            wait_for(lambda name=name: there(name), what=f"{name} in Slurm")  # type: ignore[misc]

    def living(self) -> list[str]:
        """Names of what this home has in Slurm and has not ended there."""
        own = record.home_id(self.home)
        rows = [row for row in self.cluster.squeue() if record.parse_submission(row.name, own)]
        return [row.name for row in rows if not states.parse(row.state).over]

    def told(self) -> condition.Condition:
        return condition.read(self.home, self.runner.id) or condition.Condition(self.runner.id, "never")

    def slurm_process(self) -> psutil.Process:
        """Of the runner."""

        def find() -> psutil.Process | None:
            below = psutil.Process(self.runner.popen.pid).children()
            return next((each for each in below if contact.MODULE in _words(each)), None)

        found = wait_for(find, what="the process for Slurm")
        assert found is not None
        return found


def _words(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


@pytest.fixture(scope="module")
def site(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"), cluster)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
        patch.setenv("PATH", f"{made.programs}:{os.environ['PATH']}")
        made.start()
        yield made
        testing.end_everything(made.home, *made.runners)


# --- What runs ---


def test_jobs_of_all_kinds(site: Site) -> None:
    """Together, so that it takes no longer than one."""
    adder = "from air_executor import AirExecutorClient as C; C().add_tasks([{'id': 'new', 'command': 'true'}])"
    site.submit("plain", "echo here; hostname; echo $SLURMD_NODENAME", slurm={"constraint": "n2", "cpus": 2})
    site.submit("fails", "exit 3")
    site.submit("result", "echo '{\"rows\": 3}' >$AIR_EXECUTOR_OUTPUT")
    site.submit("grows", f'{sys.executable} -c "{adder}"')
    site.submit("long", "sleep 60", timeout=1.0)
    site.submit("noisy", "yes", output_mb=1)
    site.submit("large", f"{sys.executable} -c 'x = bytearray(300 << 20); import time; time.sleep(60)'", memory_mb=150)
    site.submit("elsewhere", "true", "default", slurm={})  # whatever its queue
    plain, fails, result, grows, long, noisy, large, elsewhere = site.wait(
        "plain", "fails", "result", "grows", "long", "noisy", "large", "elsewhere"
    )
    assert [job.state for job in (plain, result, grows, elsewhere)] == [JobState.COMPLETED] * 4
    assert "n2" in site.client.logs("plain").split()
    assert site.client.get_result("result") == {"t": {"rows": 3}}
    assert {task.id: task.added_by for task in site.client.get_tasks("grows")} == {"t": None, "new": "t"}
    ends = [job.exit.kind for job in (fails, long, noisy, large) if job.exit]
    assert ends == [ExitKind.EXIT_CODE, ExitKind.TIMEOUT, ExitKind.OUTPUT, ExitKind.MEMORY]
    found = record.read(site.home.job("plain"), 1)
    assert found is not None and found.id is not None
    assert site.cluster.run("scontrol", "show", "job", found.id).stdout.count("NumCPUs=2") == 1
    site.client.retry("fails")
    again = site.client.wait("fails", 60)
    assert (again.attempt, again.state) == (2, JobState.FAILED)
    assert site.started()["fails"] == 2
    second = record.read(site.home.job("fails"), 2)
    assert second is not None and second.submission != found.submission


def test_an_array_is_one_submission_and_only_of_those_that_ask_for_the_same(site: Site) -> None:
    before = len(site.calls("sbatch"))
    pauses.pause(site.home, "many", by="a test")
    same = [site.submit(f"same-{number}", queue="many") for number in range(10)]
    other = [site.submit(f"other-{number}", queue="many", slurm={"cpus": 2}) for number in range(2)]
    pauses.resume(site.home, "many", by="a test")
    assert [job.state for job in site.wait(*same, *other)] == [JobState.COMPLETED] * 12
    assert len(site.calls("sbatch")) - before == 2
    numbers = {found.id.split("_")[0] for name in same if (found := record.read(site.home.job(name), 1)) and found.id}
    assert len(numbers) == 1
    assert [site.started()[name] for name in (*same, *other)] == [1] * 12


def test_one_question_for_all_jobs(site: Site) -> None:
    before, polls = len(site.calls("squeue")), site.told().polls
    names = [site.submit(f"asked-{number}", "sleep 2") for number in range(8)]
    site.wait(*names)
    calls = len(site.calls("squeue")) - before
    assert calls <= site.told().polls - polls + 1
    assert calls < len(names)


# --- What does not run ---


def test_refusals_say_what_is_wrong(site: Site) -> None:
    with pytest.raises(InvalidJobError, match=r"'time' must be minutes, or one of Slurm's forms"):
        site.submit("malformed", slurm={"time": "soon"})
    site.submit("partition", queue="strange")
    site.submit("memory", slurm={"memory": "900G"})
    site.submit("gres", slurm={"gres": "unicorn:1"})
    jobs = site.wait("partition", "memory", "gres")
    assert [(job.state, job.exit and job.exit.kind) for job in jobs] == [(JobState.FAILED, ExitKind.START_FAILED)] * 3
    reasons = [job.exit.reason for job in jobs if job.exit]
    assert "invalid partition specified: nowhere" in reasons[0]
    assert "Memory specification can not be satisfied" in reasons[1] or "not available" in reasons[1]
    assert "gres" in reasons[2]
    wait_for(lambda: set(reasons) <= {refusal.why for refusal in site.told().refusals}, what="what people are told")


def test_a_node_that_does_not_see_the_home(site: Site) -> None:
    """Its daemon has an empty directory there. And one that has no such Python; both are tried again, and say why."""
    site.cluster.kill("n3")
    namespace = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    hide = 'mount -t tmpfs none "$1"; shift; exec "$@"'
    slurmd = [shutil.which("slurmd", path=f"{os.environ['PATH']}:/usr/sbin") or "slurmd", "-N", "n3"]
    command = [
        *namespace,
        "sh",
        "-c",
        hide,
        "sh",
        str(site.place),
        *slurmd,
        "-f",
        site.cluster.environment["SLURM_CONF"],
    ]
    subprocess.run(command, cwd=site.cluster.root / "n3", check=True, stdin=subprocess.DEVNULL, timeout=20)
    try:
        site.submit("unseen", slurm={"constraint": "n3"})
        site.submit("no-python", queue="python", slurm={"constraint": "n1"})

        def refused() -> dict[str, str]:
            why = {refusal.job: refusal.why for refusal in site.told().refusals}
            return why if {"unseen", "no-python"} <= set(why) else {}

        why = wait_for(refused, what="both starts that failed")
    finally:
        for name in ("unseen", "no-python"):
            site.client.cancel(name)
        site.cluster.kill("n3")
        site.cluster.restart("n3")
        site.cluster.run("scontrol", "update", "nodename=n3", "state=resume", code=None)
    assert f"does n3 see {site.home.root}" in why["unseen"]
    assert "its last words on the node" in why["no-python"] and "/nowhere/python" in why["no-python"]
    assert not {"unseen", "no-python"} & set(site.started())


# --- What breaks ---


def test_the_controller_is_away(site: Site) -> None:
    """Nothing is lost, and nothing is done twice."""
    go = site.place / "go"
    there = [site.submit(f"there-{number}", f"until [ -e {go} ]; do sleep 0.05; done") for number in range(3)]
    wait_for(lambda: set(there) <= set(site.started()), what="their start")
    # Else it would give their numbers to others, and nodes that know these cancel the new ones.
    began, saved = time.time(), site.cluster.root / "state" / "job_state"
    wait_for(lambda: saved.exists() and saved.stat().st_mtime > began, what="Slurm to save its state")
    site.cluster.kill(CONTROLLER)
    later = [site.submit(f"later-{number}") for number in range(3)]
    wait_for(lambda: "ontact" in (site.told().trouble or ""), 40, what="the trouble")
    go.touch()
    assert [job.state for job in site.wait(*there)] == [JobState.COMPLETED] * 3  # by themselves
    assert [store.read(site.home, name).state for name in later] == [JobState.WAITING] * 3
    site.cluster.restart(CONTROLLER)
    jobs = site.wait(*later)
    assert [job.state for job in jobs] == [JobState.COMPLETED] * 3, [job.exit for job in jobs]
    assert [site.started()[name] for name in (*there, *later)] == [1] * 6
    assert site.told().trouble is None


def test_whoever_has_the_jobs_is_killed(site: Site) -> None:
    """The process for Slurm; then the whole runner, as if before it noted a number, and another takes over."""
    go = site.place / "go-on"
    running = [site.submit(f"running-{number}", f"until [ -e {go} ]; do sleep 0.05; done") for number in range(2)]
    pending = [site.submit(f"pending-{number}", slurm={"extra": ["--begin=now+6"]}) for number in range(2)]
    site.wait_until_in_slurm([*running, *pending])
    wait_for(lambda: set(running) <= set(site.started()), what="their start")
    process = site.slurm_process()
    process.kill()
    wait_for(lambda: site.slurm_process() != process, what="another process")
    before, old = len(site.calls("sbatch")), site.runner
    old.kill()
    for name in (running[0], pending[0]):
        noted = record.read(site.home.job(name), 1)
        assert noted is not None
        record.write(site.home.job(name), record.Record(1, noted.submission, noted.submitted_at), durable=False)
    assert site.start().id != old.id
    go.touch()
    assert [job.state for job in site.wait(*running, *pending)] == [JobState.COMPLETED] * 4
    assert [site.started()[name] for name in (*running, *pending)] == [1] * 4
    assert len(site.calls("sbatch")) == before
    wait_for(lambda: not (site.home.claims(site.runner.id) / pending[0]).exists(), what="the claims to be gone")


def test_a_node_is_lost(site: Site) -> None:
    site.submit("on-n2", "sleep 600", slurm={"constraint": "n2"})
    wait_for(lambda: site.started()["on-n2"], what="its start")
    site.cluster.kill("n2", steps=True)
    site.cluster.run("scontrol", "update", "nodename=n2", "state=down", "reason=lost")
    job = site.client.wait("on-n2", 60)
    site.cluster.restart("n2")
    assert job.exit is not None
    assert (job.state, job.exit.kind) == (JobState.FAILED, ExitKind.RUNNER_LOST)
    assert "on n2: its node failed" in job.exit.reason
    assert site.started()["on-n2"] == 1


def test_many_are_cancelled(site: Site) -> None:
    """Those that run and those that wait; in Slurm, too."""
    running = [site.submit(f"runs-{number}", "sleep 600") for number in range(6)]
    wait_for(lambda: set(running) <= set(site.started()), 40, what="their start")
    pending = [
        site.submit(f"waits-{number}", queue="many", slurm={"constraint": "n1", "cpus": 4}) for number in range(100)
    ]
    site.wait_until_in_slurm(pending)
    for name in (*pending, *running):
        site.client.cancel(name, by="a test")
    asked = time.monotonic()
    jobs = site.wait(*running, *pending)
    assert {(job.state, job.exit and job.exit.kind) for job in jobs if job.name in running} == {
        (JobState.CANCELLED, ExitKind.CANCELLED)
    }
    wait_for(lambda: not site.living(), 15 - (time.monotonic() - asked), what="the end of all of them in Slurm")
    assert {job.state for job in jobs} <= {JobState.CANCELLED, JobState.COMPLETED}


def test_the_runner_ends_and_nothing_is_left(site: Site) -> None:
    site.runner.signal(signal.SIGTERM)
    assert site.runner.wait() == 0
    assert [path.name for path in site.home.spool.glob("claimed/*/*")] == []
    assert list(condition.read_all(site.home)) == []
    assert site.living() == []
