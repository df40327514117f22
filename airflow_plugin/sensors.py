"""A task of a DAG that waits for a job which somebody else submits."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.configuration import conf
from airflow.sdk.bases.sensor import BaseSensorOperator, PokeReturnValue
from airflow.sdk.exceptions import AirflowException, AirflowSensorTimeout, AirflowSkipException

from air_executor import model
from air_executor.errors import HomeError, InvalidInputError, NotFoundError, UnreachableError
from airflow_plugin import correlation
from airflow_plugin.hook import DEFAULT_CONNECTION, AirJobHook
from airflow_plugin.links import AirJobLink, is_shown

if TYPE_CHECKING:
    from air_executor.clients import Client
    from airflow_plugin.ways import Way

FAILED_STATES = (model.JobState.FAILED.value, model.JobState.CANCELLED.value)


class AirJobSensor(BaseSensorOperator):
    """Wait until a job is over.

    Args:
        job: name or id of the job.
        air_conn_id: a connection of the type `air_executor`.
        deferrable: wait in the triggerer; `mode` does not count then.
        must_exist: fail if there is no such job, rather than wait for somebody to submit it.
        failed_states: states of the job in which this task fails, or is skipped with `soft_fail`.

    Returns, as XCom:
        `{"state", "job", "tasks", "result", "usage"}`, as `AirExecutorClient.outcome`.
    """

    template_fields: Sequence[str] = ("job", "air_conn_id")
    operator_extra_links = (AirJobLink(),)
    ui_color = "#d9ecf5"

    def __init__(
        self,
        *,
        job: str,
        air_conn_id: str = DEFAULT_CONNECTION,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        must_exist: bool = False,
        failed_states: Collection[str] = FAILED_STATES,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job = job
        self.air_conn_id = air_conn_id
        self.deferrable = deferrable
        self.must_exist = must_exist
        self.failed_states = list(failed_states)
        self.job_shown: str | None = None
        self.job_linked: str | None = None

    @cached_property
    def hook(self) -> AirJobHook:
        """The connection."""
        return AirJobHook(self.air_conn_id)

    @cached_property
    def way(self) -> Way:
        """The way to the home."""
        return self.hook.find_way()

    @property
    def client(self) -> Client:
        """The client of the home."""
        return self.way.client

    def execute(self, context: Any) -> Any:
        """Wait in the way that was asked for."""
        self._check_states()
        if not self.deferrable:
            return super().execute(context)
        return self._finish_or_defer(context, time.time() + self.timeout)

    def resume(self, context: Any, event: Mapping[str, Any]) -> Any:
        """Go on after the triggerer has seen an end, or has waited long enough for it."""
        correlation.check_event(event)
        if event["timed_out"]:
            message = f"the job {self.job} was not over after {self.timeout:g} s"
            raise AirflowSkipException(message) if self.soft_fail else AirflowSensorTimeout(message)
        return self._finish_or_defer(context, event["deadline"])

    def poke(self, context: Any) -> bool | PokeReturnValue:
        """Whether the job is over, and what became of it.

        Raises:
            NotFoundError: there is none, though it must exist.
            AirflowException: it is over, and not as it should be.
        """
        client = self.client  # a connection that cannot be used is an error
        try:
            job = client.get_job(correlation.chosen_name(self.job))
        except NotFoundError:
            if self.must_exist:
                raise
            self.log.info("There is no job %s yet", self.job)
            return False
        except (UnreachableError, HomeError) as error:  # it goes on
            self.log.warning("Nothing is known of the job %s: %s", self.job, error)
            return False
        self.job_shown = job.name
        self.job_linked = job.name if is_shown(self.way.home) else None
        if not job.state.terminal:
            self.log.info("The job %s is %s", job.name, job.state)
            if self.mode == "poke" and not self.deferrable:
                self.client.yield_to(job)
            return False
        if job.state.value in self.failed_states:
            failure = self.client.failure(job.name)
            raise AirflowSkipException(failure) if self.soft_fail else AirflowException(failure)
        return PokeReturnValue(is_done=True, xcom_value=self.client.outcome(job.name))

    def _finish_or_defer(self, context: Any, deadline: float) -> Any:
        found = self.poke(context)
        if isinstance(found, PokeReturnValue):
            return found.xcom_value
        from airflow_plugin.triggers import AirJobTrigger

        trigger = AirJobTrigger(
            home=self.way.home,
            air_conn_id=self.air_conn_id,
            job_name=self.job_shown or correlation.chosen_name(self.job),
            once=True,
            poll_interval=self.hook.target.poll_interval,
            deadline=deadline,
        )
        self.defer(trigger=trigger, method_name="resume")

    def _check_states(self) -> None:
        possible = sorted(state.value for state in model.TERMINAL_JOB_STATES)
        for state in self.failed_states:
            if state not in possible:
                raise InvalidInputError(f"failed_states holds {state!r}; a job ends as one of {', '.join(possible)}")
