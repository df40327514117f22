"""The other way round: a DAG that runs whenever a job of the pipeline `nightly` has completed, whoever submitted it.

The event holds what is known of the job: name, attempt, state, labels and result. Try it with the DAG `job_pipeline`,
or with `air-executor pipeline run nightly --param day=2026-01-31`.
"""

from airflow.sdk import Asset, AssetWatcher, dag, task

from airflow_plugin.triggers import AirJobTrigger

completed = AssetWatcher("nightly_completed", trigger=AirJobTrigger(pipeline="nightly"))
nightly = Asset("nightly_report", watchers=[completed])


@dag(dag_id="job_chaining", schedule=[nightly], catchup=False, tags=["air-executor", "example"], doc_md=__doc__)
def job_chaining() -> None:
    @task(inlets=[nightly])
    def react(triggering_asset_events: dict[Asset, list[object]] | None = None) -> list[dict[str, object]]:
        events = (triggering_asset_events or {}).get(nightly, [])
        endings = [event.extra["payload"] for event in events]  # type: ignore[attr-defined]
        for ending in endings:
            print(ending["job"], ending["state"], ending["labels"], ending["result"])
        return endings

    react()


job_chaining()
