"""`@task.air_job`: a function that says which tasks a job has, or which pipeline it is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

from airflow.sdk.bases.decorator import DecoratedOperator, TaskDecorator, determine_kwargs, task_decorator_factory
from airflow.sdk.definitions._internal.types import SET_DURING_EXECUTION
from airflow.sdk.definitions.context import context_merge

from air_executor.errors import InvalidJobError
from airflow_plugin import jobspec
from airflow_plugin.operators import AirJobOperator

RETURNED = ("tasks", "pipeline", "pipeline_params", "environment", "job_name", "labels", "job_queue", *jobspec.OPTIONS)
"""What a function may return in a dictionary: arguments of `AirJobOperator`."""


class AirJobDecoratedOperator(DecoratedOperator, AirJobOperator):
    """Calls the function on the worker, and runs the job that it returns."""

    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *AirJobOperator.template_fields)
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **AirJobOperator.template_fields_renderers,
    }
    custom_operator_name = "@task.air_job"
    overwrite_rtif_after_execution = True

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            python_callable=python_callable,
            op_args=op_args,
            op_kwargs=op_kwargs,
            tasks=SET_DURING_EXECUTION,
            **kwargs,
        )

    def execute(self, context: Any) -> Any:
        """Ask the function, then do as the operator does."""
        context_merge(context, self.op_kwargs)
        arguments = determine_kwargs(self.python_callable, self.op_args, context)
        for name, value in read_returned(self.python_callable(*self.op_args, **arguments)).items():
            setattr(self, name, value)
        self.render_template_fields(context)
        return super().execute(context)


def read_returned(returned: Any) -> dict[str, Any]:
    """What a decorated function returned, as arguments of the operator.

    Raises:
        InvalidJobError: it is neither a list of tasks nor such a dictionary.
    """
    if not isinstance(returned, Mapping):
        returned = {"tasks": jobspec.check_listed(returned)}
    unknown = sorted(str(name) for name in returned if name not in RETURNED)
    if unknown:
        raise InvalidJobError(f"the function returned the option {unknown[0]!r}; it may return {', '.join(RETURNED)}")
    return {**returned, "tasks": jobspec.plain_tasks(returned.get("tasks"))}


def air_job_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Wrap a function into an `AirJobOperator`; its arguments may be given here.

    The function returns a list of tasks (`Task` objects or dictionaries), or a dictionary of arguments of the operator:
    `{"tasks": [...], "max_parallel": 4}` or `{"pipeline": "nightly", "pipeline_params": {...}}`.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=AirJobDecoratedOperator, **kwargs
    )
