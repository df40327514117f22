"""What requests and answers look like: types and bounds. What makes a job, the core says."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from air_executor import validation

State = Literal["waiting", "working", "completed", "failed", "cancelled"]
Status = Literal["pending", "running", "completed", "failed", "cancelled", "skipped"]
Trigger = Literal["api", "cli", "operator", "pipeline"]
"""Who may be said to submit; `executor` is Airflow's own."""

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
MAX_NUMBER = 2**53 - 1
MAX_TASKS = 10_000
MAX_TEXT = 10_000
MAX_WHY = 500

Name = Annotated[str, Field(min_length=1, max_length=validation.MAX_NAME_BYTES, pattern=_NAME)]
TaskId = Annotated[str, Field(min_length=1, max_length=validation.MAX_ID_BYTES, pattern=_NAME)]
Queue = Annotated[str, Field(min_length=1, max_length=validation.MAX_QUEUE_BYTES, pattern=_NAME)]
Whole = Annotated[int, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)]
Count = Annotated[int, Field(ge=0, le=MAX_NUMBER)]
Positive = Annotated[int, Field(ge=1, le=MAX_NUMBER)]
Seconds = Annotated[float, Field(gt=0, le=MAX_NUMBER, allow_inf_nan=False)]
Labels = Annotated[dict[str, Annotated[str, Field(max_length=MAX_TEXT)]], Field(max_length=200)]
Why = Annotated[str, Field(max_length=MAX_WHY)]


class Request(BaseModel):
    """What is sent: nothing is taken for something else, and nothing is passed over."""

    model_config = ConfigDict(extra="forbid", strict=True)


class TaskRequest(Request):
    """A task: one command line."""

    command: Annotated[str, Field(min_length=1)]
    args: list[str] = []
    id: TaskId | None = None
    dependencies: list[TaskId] = []
    env: dict[str, str] = {}
    cwd: str | None = None
    timeout: Seconds | None = None
    memory_mb: Positive | None = None
    output_mb: Positive | None = None
    retries: Count = 0
    retry_delay: Annotated[float, Field(ge=0, le=MAX_NUMBER, allow_inf_nan=False)] = 1.0


class RunRequest(Request):
    """A run: of a pipeline, or of tasks."""

    pipeline: Name | None = None
    parameters: Annotated[dict[str, str | int | float | bool], Field(max_length=1000)] = {}
    environment: Name | None = None
    tasks: Annotated[list[TaskRequest], Field(min_length=1, max_length=MAX_TASKS)] | None = None

    name: Name | None = None
    """Made up if it is not given: of the Idempotency-Key, if there is one."""
    trigger: Trigger | None = None
    """Who submits, where that is not this API: `operator` for Airflow's operators."""
    queue: Queue | None = None
    priority: Whole | None = None
    labels: Labels = {}
    timeout: Seconds | None = None
    memory_mb: Positive | None = None
    output_mb: Positive | None = None
    nice: Annotated[int, Field(ge=-20, le=19)] | None = None
    max_parallel: Positive | None = None
    on_failure: Literal["continue", "stop"] | None = None
    slurm: dict[str, Any] | None = None
    webhooks: Annotated[list[Name], Field(max_length=20)] | None = None
    """Of config.toml, that are told of its ends."""

    on_existing: Literal["fail", "reuse", "attach", "restart"] = "fail"
    """What is done about a run of the same name."""
    same: Annotated[list[str], Field(max_length=50)] = []
    """Labels; a run that has other values of these is somebody else's."""
    keep_completed: bool = False
    """Whether a new attempt begins with what is completed."""

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> RunRequest:
        if (self.pipeline is None) == (self.tasks is None):
            raise ValueError("give either pipeline or tasks")
        if self.tasks is not None and (self.parameters or self.environment is not None):
            raise ValueError("parameters and environment belong to a pipeline")
        return self


class WhyRequest(Request):
    """What somebody says when he changes something."""

    why: Why = ""


class RetryRequest(WhyRequest):
    """Which tasks run again."""

    keep_completed: bool = False


class TasksRequest(Request):
    """Tasks for a run that is working."""

    tasks: Annotated[list[TaskRequest], Field(min_length=1, max_length=MAX_TASKS)]


class StatesRequest(Request):
    """Which runs somebody follows."""

    runs: Annotated[list[Annotated[str, Field(min_length=1, max_length=250)]], Field(max_length=1000)]


class PlanRequest(Request):
    """Values for a pipeline."""

    parameters: Annotated[dict[str, str | int | float | bool], Field(max_length=1000)] = {}
    environment: Name | None = None


# --- Answers ---


class Problem(BaseModel):
    """Why something was refused."""

    type: str
    """`urn:air-executor:<word>`"""
    title: str
    status: int
    detail: str
    problems: list[str] | None = None
    """All that is wrong with the file of a pipeline."""
    errors: list[dict[str, str]] | None = None
    """All that is wrong with a request: `where` and `why`."""


class Exit(BaseModel):
    """Why a run ended."""

    kind: str
    code: int | None
    signal: int | None


class Runner(BaseModel):
    """Who runs it, or ran it."""

    id: str | None
    host: str
    pid: int


class _Run(BaseModel):
    """What is told of a run, alone or in a list."""

    name: str
    id: str
    state: State
    attempt: int
    queue: str
    priority: int
    trigger: str
    labels: dict[str, str]
    created_at: str
    queued_at: str
    started_at: str | None
    finished_at: str | None
    reason: str | None
    """One sentence for people: why it ended."""
    exit: Exit | None


class Run(_Run):
    """A run: a job without its tasks."""

    crashes: int
    losses: int
    updated_at: str
    timeout: float | None
    memory_mb: int | None
    output_mb: int | None
    nice: int
    max_parallel: int | None
    on_failure: str
    usage: dict[str, Any]
    runner: Runner | None
    stop: dict[str, str | None] | None
    """`by` and `reason`: who asked for its end, as long as it is not over."""


class CreatedRun(Run):
    """A run, and how it came to be there."""

    how: Literal["created", "attached", "reused", "restarted", "repeated"]
    """`repeated`: the Idempotency-Key was seen before."""


class ListedRun(_Run):
    """A run in a list."""

    wait_s: float | None
    run_s: float | None
    runner: str | None


class Runs(BaseModel):
    """Runs, newest first."""

    runs: list[ListedRun]
    cursor: str | None
    """What to ask for the next ones with; null after the last."""
    unread: int
    """How many runs the index of this server does not know yet."""


class Task(BaseModel):
    """A task: never its command line, environment or working directory. What is not known is left out."""

    id: str | None = None
    status: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    started_at: str | None = None
    completed_at: str | None = None
    dependencies: list[str] | None = None
    tries: int | None = None
    retries: int | None = None
    timeout: float | None = None
    memory_mb: float | None = None
    output_mb: float | None = None
    added_by: str | None = None
    error: str | None = None


class Tasks(BaseModel):
    """Some of the tasks of a run, in their order."""

    counts: dict[str, int]
    """How many there are of each status."""
    total: int
    offset: int
    tasks: list[Task]


class AddedTasks(BaseModel):
    """The ids of tasks that a run has now."""

    ids: list[str]


class Result(BaseModel):
    """What the completed tasks of a run handed over, by task."""

    state: State
    attempt: int
    result: dict[str, Any]


class Outcome(BaseModel):
    """What a run came to."""

    state: State
    job: str
    tasks: dict[str, str]
    """Statuses by id."""
    result: dict[str, Any]
    usage: dict[str, Any]


class Failure(BaseModel):
    """For people: what went wrong, and the end of the log."""

    text: str


class Events(BaseModel):
    """Who did what with a run, the last 200."""

    events: list[dict[str, Any]]


class End(BaseModel):
    """The end of one attempt of a run."""

    run: str
    attempt: int


class Ends(BaseModel):
    """Ends that a listener has not dealt with."""

    ends: list[End]


class Standing(BaseModel):
    """How a run is, for those who wait for its end."""

    name: str
    state: State
    attempt: int
    damaged: bool
    """Whether its files are: then its attempt is not known."""


class States(BaseModel):
    """How runs are, by what was asked for; null: there is none."""

    runs: dict[str, Standing | None]


class Plan(BaseModel):
    """What a run of a pipeline would be."""

    labels: dict[str, str]
    queue: str
    priority: int
    timeout: float | None
    memory_mb: int | None
    output_mb: int | None
    nice: int
    max_parallel: int | None
    on_failure: str
    slurm: dict[str, Any] | None
    webhooks: list[str]


class Parameter(BaseModel):
    """A parameter of a pipeline."""

    name: str
    type: str
    default: str | int | float | bool | None
    required: bool
    description: str
    choices: list[str | int | float | bool]
    min: float | None
    max: float | None
    pattern: str | None


class PipelineTask(BaseModel):
    """A task of a pipeline, without its command line."""

    id: str | None
    dependencies: list[str]


class Pipeline(BaseModel):
    """A pipeline."""

    name: str
    description: str
    parameters: list[Parameter]
    environments: list[str]
    default_environment: str | None
    tasks: list[PipelineTask]
    problems: list[str]
    """What is wrong with its file; it can be run if there is nothing."""


class Pipelines(BaseModel):
    """The pipelines of the home, by name."""

    pipelines: list[Pipeline]


class Queued(BaseModel):
    """A queue."""

    name: str
    waiting: int
    oldest_age: float | None
    served_by: int
    """How many living runners take jobs from it."""
    paused: dict[str, Any] | None
    slurm: bool
    """Whether its jobs go to Slurm."""


class Queues(BaseModel):
    """The queues of the home."""

    queues: list[Queued]


class Changed(BaseModel):
    """Whether something is another way now than before."""

    changed: bool


class HealthRunner(BaseModel):
    """A runner of the home."""

    id: str
    host: str
    state: str
    slots: int
    queues: list[str]


class Health(BaseModel):
    """Without a token, nothing but `status`: alive."""

    status: Literal["alive"]
    version: str | None = None
    scopes: list[str] | None = None
    """What the token allows."""
    healthy: bool | None = None
    problems: list[str] | None = None
    runners: list[HealthRunner] | None = None
