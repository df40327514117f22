"""Every file name of a home. Nothing else in the project joins a path below the home.

::

    <home>/
      config.toml
      jobs/<job name>/            state.json tasks.json workload.json runner.lock events.jsonl cancel cuts.jsonl peak
                                  result.json restart.lock added/ logs/<task id>.log
      spool/waiting/<queue>/<order>-<job name>
      spool/claimed/<holder id>/<job name>
      spool/finished/<job name>
      spool/cancel/<job name>                   wakes the runner that has the job
      spool/control/<runner id>.<action>        drain, resume, stop, set ...: what a runner is asked for
      spool/steered                             for a moment: runners look at that, and at which queues are paused
      spool/told/<job name>                     for a moment: its task tells Airflow that it succeeded, or has told it
      spool/awaited/<job name>                  somebody waits for the job's end; gone once it is over
      spool/yielded/<job name>,<number>         lets the job that it waits for start in its place
      spool/listeners/<kind>=<name>,<id>/<job name>,<attempt>   ends that a listener has not dealt with yet
      spool/wake                                written by who has made work for a scheduler
      spool/webhooks.json                       what config.toml says of webhooks, for who writes the end of a job
      paused/<queue>.json                       no runner starts a job of that queue
      runners/<runner id>.json
      metrics/<runner id>.prom
      components/<name>.json                    what start-dev.sh started
      preload/<host>-<python>-<installation>.json   what templates have learned to preload
      pipelines/<name>.toml
      http/tokens/<id>.json                     who may use the HTTP API; <id>.used says when he last did
      http/keys/<hash>.json                     which run an Idempotency-Key made
      webhooks/outbox/<webhook>/<job id>,<attempt>.json   an event that the webhook has not taken yet
      webhooks/dead/<webhook>/<job id>,<attempt>.json     one that was given up
      index/<host>.sqlite                       what those who look at many jobs keep of them; a cache
      logs/runner.log
      logs/steering.jsonl                       who steered runners and queues; steering.jsonl.1 is what came before
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path, PosixPath

from air_executor.errors import SettingsError

HOME_VARIABLE = "AIR_EXECUTOR_HOME"
JOB_VARIABLE = "AIR_EXECUTOR_JOB"
"""In the environment of a task: the name of its job."""
TASK_VARIABLE = "AIR_EXECUTOR_TASK"
"""In the environment of a task: its id."""
HOME_NAME = ".air-executor"

OUTPUT_SUFFIX = ".output"
"""Of what a task writes for the result of its job."""
TEMPORARY_PREFIX = ".tmp-"
"""A job directory that is not complete yet; no job name starts with a dot."""

STATE = "state.json"
"""In the directory of each job: what the job is, and how far it has come."""
TASKS, WORKLOAD, EVENTS, LOGS = "tasks.json", "workload.json", "events.jsonl", "logs"
"""What else a submission makes there."""

JOB_LOCK = "runner.lock"
"""In the directory of each job: who has taken it may still be running the job."""


KEEPS_NAMES = (3, 12) <= sys.version_info < (3, 12, 7)
"""These versions of Python keep for ever what is interned, and pathlib interns all names: 100 bytes of each."""


class _ForgetfulPath(PosixPath):
    """Interns nothing; what is made from such a path is one, too. Only for versions that do not change any more."""

    @classmethod
    def _parse_path(cls, path: str) -> tuple[str, str, list[str]]:
        return "", "/" if path.startswith("/") else "", [part for part in path.split("/") if part not in ("", ".")]

    def __fspath__(self) -> str:
        """For the system, which needs no path in its shortest form: making that is what takes longest."""
        text: str = os.path.join(*self._raw_paths)  # type: ignore[attr-defined]  # noqa: PTH118
        return text


class JobPaths:
    """The files of one job."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def state(self) -> Path:
        return self.root / STATE

    @cached_property
    def tasks(self) -> Path:
        return self.root / TASKS

    @cached_property
    def workload(self) -> Path:
        return self.root / WORKLOAD

    @cached_property
    def lock(self) -> Path:
        return self.root / JOB_LOCK

    @cached_property
    def restart_lock(self) -> Path:
        """Held by who stops and restarts the job, while it is not known whether somebody else does."""
        return self.root / "restart.lock"

    @cached_property
    def events(self) -> Path:
        return self.root / EVENTS

    @cached_property
    def cancel(self) -> Path:
        return self.root / "cancel"

    @cached_property
    def cuts(self) -> Path:
        """Which logs are to be cut off when the job ends; gone once that is done."""
        return self.root / "cuts.jsonl"

    @cached_property
    def peak(self) -> Path:
        """The most memory that a job with a limit was seen with, MiB."""
        return self.root / "peak"

    @cached_property
    def logs(self) -> Path:
        return self.root / LOGS

    def log(self, task_id: str) -> Path:
        return self.logs / f"{task_id}.log"

    def reason(self, task_id: str) -> Path:
        """Where a task may leave one sentence that says why it failed; gone once it is in tasks.json."""
        return self.logs / f".{task_id}.reason"

    def output(self, task_id: str) -> Path:
        """Where a task may write JSON for the result of the job."""
        return self.logs / f".{task_id}{OUTPUT_SUFFIX}"

    @cached_property
    def result(self) -> Path:
        """What the completed tasks wrote, by task; there when the job is over and one of them wrote something."""
        return self.root / "result.json"

    @cached_property
    def slurm(self) -> Path:
        """What was submitted to Slurm for the current start of the job, and what Slurm said of it."""
        return self.root / "slurm.json"

    @cached_property
    def slurm_log(self) -> Path:
        """What Slurm and the batch script say on the node, before and beside the tasks."""
        return self.root / "slurm.log"

    @cached_property
    def added(self) -> Path:
        """Where somebody asks for more tasks while the job runs; made by the first who does."""
        return self.root / "added"


class Home:
    """The files of one home."""

    def __init__(self, root: Path) -> None:
        self.root = _ForgetfulPath(root) if KEEPS_NAMES else root
        self._last_job = "", JobPaths(self.root)

    def __repr__(self) -> str:
        return f"Home({str(self.root)!r})"

    @cached_property
    def config(self) -> Path:
        return self.root / "config.toml"

    @cached_property
    def jobs(self) -> Path:
        return self.root / "jobs"

    def job(self, name: str) -> JobPaths:
        last, paths = self._last_job  # who asks, asks for one job again and again, and making a path takes its time
        if last != name:
            paths = JobPaths(self.jobs / name)
            self._last_job = name, paths
        return paths

    @cached_property
    def spool(self) -> Path:
        return self.root / "spool"

    @cached_property
    def waiting(self) -> Path:
        return self.spool / "waiting"

    def queue(self, name: str) -> Path:
        return self.waiting / name

    @cached_property
    def claimed(self) -> Path:
        return self.spool / "claimed"

    def claims(self, holder: str) -> Path:
        return self.claimed / holder

    @cached_property
    def finished(self) -> Path:
        return self.spool / "finished"

    @cached_property
    def told(self) -> Path:
        return self.spool / "told"

    @cached_property
    def awaited(self) -> Path:
        return self.spool / "awaited"

    @cached_property
    def yielded(self) -> Path:
        return self.spool / "yielded"

    @cached_property
    def listeners(self) -> Path:
        """Made by the first listener: where there is none, the end of a job costs one look in vain."""
        return self.spool / "listeners"

    @cached_property
    def cancel_requests(self) -> Path:
        return self.spool / "cancel"

    @cached_property
    def control(self) -> Path:
        return self.spool / "control"

    @cached_property
    def steered(self) -> Path:
        """There for a moment when runners shall look at what they are asked for."""
        return self.spool / "steered"

    @cached_property
    def keepalive(self) -> Path:
        """Its modification time says when a submitter last said that it is there."""
        return self.spool / "keepalive"

    @cached_property
    def wake(self) -> Path:
        """Written by whoever has made work for a scheduler that may be waiting for the end of a job."""
        return self.spool / "wake"

    @cached_property
    def webhook_routes(self) -> Path:
        """What config.toml says of webhooks; made again from it."""
        return self.spool / "webhooks.json"

    @cached_property
    def webhooks(self) -> Path:
        """Made by the first event of which a webhook is told."""
        return self.root / "webhooks"

    @cached_property
    def webhook_outbox(self) -> Path:
        return self.webhooks / "outbox"

    @cached_property
    def webhook_dead(self) -> Path:
        return self.webhooks / "dead"

    @cached_property
    def webhook_wake(self) -> Path:
        """Written when there is something in the outbox that can be sent."""
        return self.webhooks / "wake"

    @cached_property
    def webhook_lock(self) -> Path:
        """Held while an entry of the outbox is changed."""
        return self.webhooks / ".lock"

    @cached_property
    def webhook_sender_lock(self) -> Path:
        """Held by the one process that sends."""
        return self.webhooks / ".sender.lock"

    @cached_property
    def paused(self) -> Path:
        """Made by the first who pauses a queue."""
        return self.root / "paused"

    @cached_property
    def paused_lock(self) -> Path:
        """Held while somebody pauses or resumes a queue."""
        return self.paused / ".lock"

    def pause(self, queue: str) -> Path:
        return self.paused / f"{queue}.json"

    @cached_property
    def runners(self) -> Path:
        return self.root / "runners"

    def runner(self, runner_id: str) -> Path:
        return self.runners / f"{runner_id}.json"

    @cached_property
    def metrics(self) -> Path:
        """What runners say of themselves, for who collects metrics; made by the first that says something."""
        return self.root / "metrics"

    def runner_metrics(self, runner_id: str) -> Path:
        return self.metrics / f"{runner_id}.prom"

    @cached_property
    def start_lock(self) -> Path:
        """Held while somebody starts an embedded runner, so that two schedulers start one."""
        return self.runners / ".start.lock"

    @cached_property
    def prune_lock(self) -> Path:
        """Held while a runner removes old jobs; its modification time says when that was last done."""
        return self.runners / ".prune.lock"

    @cached_property
    def names_lock(self) -> Path:
        """Held while a runner takes its name, so that two do not take the same."""
        return self.runners / ".names.lock"

    @cached_property
    def mending_lock(self) -> Path:
        """Held while something is moved away that is in the place of a job's lock."""
        return self.runners / ".mending.lock"

    @cached_property
    def components(self) -> Path:
        return self.root / "components"

    def component(self, name: str) -> Path:
        return self.components / f"{name}.json"

    @cached_property
    def preload(self) -> Path:
        """What templates have learned; made by the first that learns something."""
        return self.root / "preload"

    @cached_property
    def pipelines(self) -> Path:
        return self.root / "pipelines"

    @cached_property
    def slurm(self) -> Path:
        """What concerns Slurm and no single job; made by the first runner that uses it."""
        return self.root / "slurm"

    @cached_property
    def slurm_id(self) -> Path:
        """By what this home's submissions are told from those of another."""
        return self.slurm / "id"

    @cached_property
    def slurm_conditions(self) -> Path:
        return self.slurm / "runners"

    def slurm_condition(self, runner_id: str) -> Path:
        """What a runner last heard of Slurm."""
        return self.slurm_conditions / f"{runner_id}.json"

    @cached_property
    def slurm_arrays(self) -> Path:
        return self.slurm / "arrays"

    def slurm_array(self, submission: str) -> Path:
        """Whose jobs are the elements of a job array, and what Slurm says of each."""
        return self.slurm_arrays / submission

    @cached_property
    def slurm_pilots(self) -> Path:
        return self.slurm / "pilots"

    def slurm_pilot(self, name: str) -> Path:
        """What is known of a pilot."""
        return self.slurm_pilots / f"{name}.json"

    def slurm_pilot_log(self, name: str) -> Path:
        """What a pilot wrote on its node."""
        return self.slurm_pilots / f"{name}.log"

    def slurm_pilot_up(self, name: str) -> Path:
        """There since the pilot's runner was ready."""
        return self.slurm_pilots / f"{name}.up"

    @cached_property
    def slurm_pilots_lock(self) -> Path:
        """Held for a moment by who decides on one more pilot."""
        return self.slurm_pilots / ".lock"

    @cached_property
    def index(self) -> Path:
        """A cache of what the jobs say; made by the first who looks at many, and never needed."""
        return self.root / "index"

    def index_file(self, host: str) -> Path:
        return self.index / f"{host}.sqlite"

    def index_lock(self, host: str) -> Path:
        """Held for a moment by who opens or removes the file."""
        return self.index / f"{host}.lock"

    def index_looking(self, host: str) -> Path:
        """Held by who brings the index up to date."""
        return self.index / f"{host}.looking"

    @cached_property
    def http(self) -> Path:
        """What concerns the HTTP API; made with the first token."""
        return self.root / "http"

    @cached_property
    def http_tokens(self) -> Path:
        """Who may use the HTTP API."""
        return self.http / "tokens"

    def http_token(self, token_id: str) -> Path:
        return self.http_tokens / f"{token_id}.json"

    def http_token_use(self, token_id: str) -> Path:
        """Its modification time says when the token was last used."""
        return self.http_tokens / f"{token_id}.used"

    @cached_property
    def http_keys(self) -> Path:
        """Which runs were made with an Idempotency-Key; made with the first."""
        return self.http / "keys"

    def http_key(self, digest: str) -> Path:
        return self.http_keys / f"{digest}.json"

    @cached_property
    def logs(self) -> Path:
        return self.root / "logs"

    @cached_property
    def runner_log(self) -> Path:
        return self.logs / "runner.log"

    @cached_property
    def steering_log(self) -> Path:
        """Who steered runners and queues, and why."""
        return self.logs / "steering.jsonl"

    @cached_property
    def steering_log_before(self) -> Path:
        """What `steering_log` was when it was full."""
        return self.logs / "steering.jsonl.1"

    @cached_property
    def steering_lock(self) -> Path:
        """Held while somebody writes to `steering_log`."""
        return self.logs / ".steering.lock"

    @cached_property
    def directories(self) -> tuple[Path, ...]:
        """What a home consists of, parents first."""
        return (
            self.root,
            self.jobs,
            self.spool,
            self.waiting,
            self.claimed,
            self.finished,
            self.told,
            self.awaited,
            self.yielded,
            self.cancel_requests,
            self.control,
            self.runners,
            self.components,
            self.pipelines,
            self.logs,
        )


_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:/", re.IGNORECASE)


def is_address(text: object) -> bool:
    """Whether that is meant as a web address, right or wrong, rather than as a directory."""
    return isinstance(text, str) and _SCHEME.match(text.strip()) is not None


def find_home(given: str | os.PathLike[str] | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """The home that a command means.

    The first of: what was given, `$AIR_EXECUTOR_HOME`, `./.air-executor` if it exists, `$AIRFLOW_HOME/.air-executor`
    (where Airflow puts it by default) if it exists, `~/.air-executor`.

    Raises:
        SettingsError: it is a web address.
    """
    if given or environ.get(HOME_VARIABLE):
        found = given or environ[HOME_VARIABLE]
        if is_address(str(found)):
            raise SettingsError(
                "a home is a directory here, and a web address was given: over HTTP, use air_executor.connect in "
                "Python, a connection in Airflow, or any program that speaks HTTP (docs/http.md)"
            )
        return Path(found).expanduser().absolute()
    here = Path.cwd() / HOME_NAME
    airflow = airflow_home(environ) / HOME_NAME
    for candidate in (here, airflow):
        if candidate.is_dir():
            return candidate
    return Path.home() / HOME_NAME


def command(home: Home, *words: str) -> str:
    """What a person types for a command on this home, whatever home the environment names."""
    return shlex.join(["air-executor", "--home", str(home.root), *words])


def airflow_home(environ: Mapping[str, str] = os.environ) -> Path:
    """Airflow's home directory, found as Airflow finds it."""
    return Path(environ.get("AIRFLOW_HOME") or "~/airflow").expanduser().absolute()
