"""A pipeline of the home, with parameters: those of the run go to the pipeline, and `pipeline_params` go before.

It needs examples/pipelines/nightly.toml in the home's folder `pipelines`; `./start-dev.sh` puts it there.
"""

from airflow.sdk import dag

from airflow_plugin.operators import AirJobOperator


@dag(
    dag_id="job_pipeline",
    schedule=None,
    catchup=False,
    params={"table": "orders"},
    tags=["air-executor", "example"],
    doc_md=__doc__,
)
def job_pipeline() -> None:
    AirJobOperator(
        task_id="nightly",
        pipeline="nightly",
        environment="dev",
        pipeline_params={"day": "{{ (dag_run.logical_date or dag_run.run_after) | ds }}"},
        params={"verbose": True},
    )


job_pipeline()
