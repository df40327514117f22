"""Tasks as Airflow's worker runs them, without the worker: a context, templates, `pre_execute`, then `execute`."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from airflow.sdk import DAG, BaseOperator
from airflow.sdk.exceptions import TaskDeferred


@dataclass
class Instance:
    """What an operator asks its task instance."""

    task_id: str
    dag_id: str = "dag"
    run_id: str = "manual__1"
    map_index: int = -1
    try_number: int = 1
    pushed: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


def context(operator: BaseOperator, *, conf: dict[str, Any] | None = None, **given: Any) -> dict[str, Any]:
    """What the worker gives to a task; `conf` is the configuration of its run."""
    params = {**(operator.dag.params.dump() if operator.has_dag() else {}), **operator.params.dump(), **(conf or {})}  # type: ignore[no-untyped-call]
    return {
        "ti": Instance(operator.task_id, **given),
        "dag": operator.dag if operator.has_dag() else None,  # type: ignore[no-untyped-call]
        "params": params,
        "ds": "2026-01-31",
        "logical_date": datetime(2026, 1, 31, tzinfo=timezone.utc),
        "run_id": given.get("run_id", "manual__1"),
    }


def run(operator: BaseOperator, **given: Any) -> Any:
    """What the task returns; raises what it fails of."""
    found = context(operator, **given)
    operator.render_template_fields(found)  # type: ignore[arg-type]
    operator.pre_execute(found)
    return operator.execute(found)  # type: ignore[arg-type]


def defer(operator: BaseOperator, **given: Any) -> TaskDeferred:
    """What the task waits for."""
    try:
        returned = run(operator, **given)
    except TaskDeferred as deferred:
        return deferred
    raise AssertionError(f"the task returned {returned!r}")


def dag(dag_id: str = "dag", **given: Any) -> DAG:
    """A DAG of one's own."""
    return DAG(dag_id, schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), **given)
