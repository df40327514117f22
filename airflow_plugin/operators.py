"""A task of a DAG that hands a whole job to Air-Executor, waits for its end and has its result."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.configuration import conf
from airflow.sdk.bases.operator import BaseOperator
from airflow.sdk.exceptions import AirflowException

from air_executor import existing, model
from air_executor.errors import AirExecutorError, InvalidJobError
from airflow_plugin import correlation, jobspec
from airflow_plugin.hook import DEFAULT_CONNECTION, AirJobHook
from airflow_plugin.links import AirJobLink, is_shown, job_address

if TYPE_CHECKING:
    from air_executor import store
    from air_executor.clients import Client
    from airflow_plugin.triggers import AirJobTrigger
    from airflow_plugin.ways import Way


class AirJobOperator(BaseOperator):
    """Run a job: a pipeline of the home, or tasks that are given here.

    The default name of the job comes from DAG, task, run and map index. So a retry finds the job of the try before it:
    it attaches to one that still runs, restarts one that failed, and takes the result of one that completed.

    Airflow's `execution_timeout` becomes the time limit of the job, from its start; `timeout` also counts the time in
    the queue. Clearing, failing or killing the task cancels the job, also while the task is deferred.

    Args:
        pipeline: the name of a pipeline; either this or `tasks`.
        tasks: `Task` objects or dictionaries, as for `AirExecutorClient.create_job`.
        pipeline_params: parameters of the pipeline. What it does not hold is taken from `params`, Airflow's own
            argument, after a run's configuration was merged into it: those given to this task, and those of the DAG
            that the pipeline declares.
        environment: which environment of the pipeline.
        job_name: instead of the default name; what no name may hold, as the id of a run does, is replaced. Let it hold
            `{{ run_id }}`, or give `on_existing="restart"`: the job of another run is never taken for this one's, but
            may be started anew.
        air_conn_id: a connection of the type `air_executor`.
        wait_for_completion: False: succeed as soon as the job is submitted.
        deferrable: wait in the triggerer, and hold no worker meanwhile.
        poll_interval: seconds between looks where changes of files are not told, as on NFS.
        timeout: seconds that a try waits for the job; after that the job is cancelled, and the try fails.
        on_existing: what becomes of a job of that name: `reuse` (not over: wait for it; completed: take its result;
            else one more attempt), `attach` (over: taken as it is), `restart` (always one more attempt), `fail`.
        keep_completed: a further attempt does not repeat the tasks that completed.
        labels: further labels of the job.
        job_queue: the queue of the job; `queue` is that of the Airflow task.
        priority, max_parallel, memory_mb, output_mb, on_failure: of the job; see `model.Job`.
        slurm: what the job asks of Slurm, such as `{"partition": "gpu", "cpus": 4}`; it then runs there.
        webhooks: names of those that are told of the job's ends, instead of those that the pipeline names.

    Returns, as XCom:
        `{"state", "job", "tasks", "result", "usage"}`, as `AirExecutorClient.outcome`.
    """

    template_fields: Sequence[str] = (
        "pipeline",
        "tasks",
        "pipeline_params",
        "environment",
        "job_name",
        "air_conn_id",
        "labels",
        "job_queue",
        "slurm",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "tasks": "json",
        "pipeline_params": "json",
        "labels": "json",
        "slurm": "json",
    }
    operator_extra_links = (AirJobLink(),)
    ui_color = "#d9ecf5"

    def __init__(
        self,
        *,
        pipeline: str | None = None,
        tasks: Any = None,
        pipeline_params: Mapping[str, Any] | None = None,
        environment: str | None = None,
        job_name: str | None = None,
        air_conn_id: str = DEFAULT_CONNECTION,
        wait_for_completion: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float | timedelta | None = None,
        timeout: float | timedelta | None = None,
        on_existing: str = "reuse",
        keep_completed: bool = False,
        labels: Mapping[str, str] | None = None,
        job_queue: str | None = None,
        priority: int | None = None,
        max_parallel: int | None = None,
        memory_mb: int | None = None,
        output_mb: int | None = None,
        on_failure: str | None = None,
        slurm: Mapping[str, Any] | None = None,
        webhooks: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (pipeline is None) == (tasks is None):
            raise InvalidJobError("give either pipeline or tasks" + ("" if tasks is None else ", not both"))
        jobspec.check_choice("on_existing", on_existing, tuple(existing.OnExisting))
        self.pipeline = pipeline
        self.tasks = jobspec.plain_tasks(tasks)
        self.pipeline_params = pipeline_params
        self.environment = environment
        self.job_name = job_name
        self.air_conn_id = air_conn_id
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = jobspec.seconds("poll_interval", poll_interval)
        self.timeout = jobspec.seconds("timeout", timeout)
        self.on_existing = on_existing
        self.keep_completed = keep_completed
        self.labels = labels
        self.job_queue = job_queue
        self.priority = priority
        self.max_parallel = max_parallel
        self.memory_mb = memory_mb
        self.output_mb = output_mb
        self.on_failure = on_failure
        self.slurm = slurm
        self.webhooks = webhooks
        self.job_shown: str | None = None
        """The job that is cancelled when the task is stopped."""
        self.job_linked: str | None = None
        """The job to which the link leads."""
        self.time_limit: float | None = None
        self._stopped = False
        self._stopper = ""

    @cached_property
    def hook(self) -> AirJobHook:
        """The connection."""
        return AirJobHook(self.air_conn_id)

    @cached_property
    def way(self) -> Way:
        """The way to the home."""
        return self.hook.find_way(self.poll_interval)

    @property
    def client(self) -> Client:
        """The client of the home."""
        return self.way.client

    def pre_execute(self, context: Any) -> None:
        """Take `execution_timeout` over before Airflow sets its alarm: the job's own limit ends it, and says why.

        On the worker alone; what Airflow shows of the task still has it.
        """
        super().pre_execute(context)
        if self.execution_timeout is not None:
            self.time_limit = self.execution_timeout.total_seconds()
            self.execution_timeout = None

    def execute(self, context: Any) -> Any:
        """Submit the job, or find it, and see it through; raises why the job failed."""
        self._stopper = correlation.stopper(context["ti"])
        while True:
            job, how = self._submit(context)
            if not self.wait_for_completion:
                return self.client.outcome(job.name)
            if not job.state.terminal:
                job = self._wait(job)
            if how == existing.Step.TAKE.value or not correlation.stopped_for_another_try(job, context["ti"]):
                return self._conclude(job)
            self.log.info("The job was cancelled as an earlier try of this task was stopped; it starts again")

    def resume(self, context: Any, event: Mapping[str, Any]) -> Any:
        """Go on after the triggerer has seen the job's end, or has waited long enough for it."""
        self._stopper = correlation.stopper(context["ti"])
        correlation.check_event(event)
        self._show(context, event["job"])
        if event["timed_out"]:
            self._give_up(event["job"])
        job = self.client.get_job(event["job"])
        if not job.state.terminal or correlation.stopped_for_another_try(job, context["ti"]):
            return self.execute(context)
        return self._conclude(job)

    def on_kill(self) -> None:
        """Airflow stops this task: cancel its job. Called in the handler of a signal, wherever the task is."""
        self._stopped = True
        if self.job_shown:
            self._cancel(self.job_shown, "its Airflow task was stopped")

    # --- the steps ---

    def _submit(self, context: Any) -> tuple[model.Job, str]:
        submission = self.build_job(context)
        job, how = self.client.ensure(
            submission,
            on_existing=self.on_existing,
            same=correlation.owner(chosen=self.job_name is not None, on_existing=self.on_existing),
            keep_completed=self.keep_completed,
            by=self._stopper,
        )
        if self.wait_for_completion and self._stopped:  # the signal came before it was known which job it is
            self._cancel(job.name, "its Airflow task was stopped")
        self._show(context, job.name)
        self.log.info("The job %s was %s: %s, attempt %d", job.name, how, job.state, job.attempt)
        self.log.info("%s", self.way.place(job.name))
        if how == existing.Step.TAKE.value:
            self.log.info('It does not run again; with on_existing="restart" it would')
        if not job.state.terminal:
            self._warn_unserved(job.queue)
        return job, how

    def build_job(self, context: Any) -> store.Submission:
        """The job that this task asks for.

        Raises:
            InvalidInputError, NotFoundError: what the DAG says makes no job.
        """
        name = correlation.chosen_name(self.job_name) if self.job_name else correlation.job_name(context["ti"])
        if self.pipeline is None:
            submission = self._of_tasks(name)
        else:
            params = self._params(context)
            submission = jobspec.of_pipeline(self.client, name, self.pipeline, params, self.hook.target.environment)
        job = submission.job
        job.trigger = model.Trigger.OPERATOR.value
        job.labels = {
            **job.labels,
            **(self.labels or {}),
            **self.hook.target.labels,
            **correlation.labels(context),
        }
        queue = self.job_queue or (job.queue if job.queue != model.DEFAULT_QUEUE else self.hook.queue)
        jobspec.apply_options(job, self._options(), queue=queue, time_limit=self.time_limit)
        return submission

    def _of_tasks(self, name: str) -> store.Submission:
        for given in ("pipeline_params", "environment"):
            if getattr(self, given):
                raise InvalidJobError(f"{given} is for a pipeline; in tasks, write {{{{ params.name }}}}")
        return jobspec.of_tasks(name, self.tasks)

    def _params(self, context: Any) -> jobspec.Params:
        dag = context.get("dag")
        return jobspec.Params(
            explicit=self.pipeline_params or {},
            merged=dict(context["params"]),
            of_dag=set(dag.params) if dag else set(),
            of_task=set(self.params),
            environment=self.environment,
        )

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in jobspec.OPTIONS}

    def _wait(self, job: model.Job) -> model.Job:
        if self.deferrable:
            self.defer(trigger=self._trigger(job), method_name="resume")
        self.client.yield_to(job)
        if not self.way.wait(job, self.timeout):
            self._give_up(job.name)
        return self.client.get_job(job.name)

    def _trigger(self, job: model.Job) -> AirJobTrigger:
        from airflow_plugin.triggers import AirJobTrigger

        return AirJobTrigger(
            home=self.way.home,
            air_conn_id=self.air_conn_id,
            job_name=job.name,
            once=True,
            attempt=job.attempt,
            stopper=self._stopper,
            poll_interval=self.poll_interval or self.hook.target.poll_interval,
            deadline=None if self.timeout is None else time.time() + self.timeout,
        )

    def _conclude(self, job: model.Job) -> Any:
        if job.state is not model.JobState.COMPLETED:
            raise AirflowException(self.client.failure(job.name))
        self.log.info("The job %s completed", job.name)
        return self.client.outcome(job.name)

    def _give_up(self, name: str) -> NoReturn:
        self._cancel(name, f"it was not over after {self.timeout:g} s")
        raise AirflowException(f"the job {name} was not over after {self.timeout:g} s (timeout) and is cancelled")

    def _cancel(self, name: str, why: str) -> None:
        try:
            self.client.cancel(name, by=self._stopper, why=why)
        except (
            AirExecutorError,
            OSError,
        ) as error:  # also in the handler of a signal: the task shall end as it would have
            self.log.warning("The job %s cannot be cancelled: %s", name, error)

    def _show(self, context: Any, name: str) -> None:
        """Let others find the job while it runs; later Airflow itself stores the link."""
        self.job_shown = name if self.wait_for_completion else None
        self.job_linked = name if is_shown(self.way.home) else None
        context["ti"].xcom_push(key="job", value=name)
        if self.job_linked:
            context["ti"].xcom_push(key=AirJobLink().xcom_key, value=job_address(name))

    def _warn_unserved(self, queue: str) -> None:
        try:
            obstacle = self.way.obstacle(queue)
        except (AirExecutorError, OSError) as error:
            obstacle = f"Whether something keeps the job from starting is not known: {error}"
        if obstacle:
            self.log.warning("%s", obstacle)
