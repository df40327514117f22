"""Airflow's own example DAGs: which ones run unattended, how they are run, and how their outcome is written down.

The same code runs them under LocalExecutor (`python -m tests.airflow.record_expected` writes expected_states.json) and
under AirExecutor (test_example_dags compares), so that a difference is the executor's.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.airflow import rest, stack, waiting

EXPECTED = Path(__file__).with_name("expected_states.json")

# A Monday: one example sleeps for an hour at weekends.
LOGICAL_DATE = "2026-01-05T00:00:00Z"
CONF = {"example_params_ui_tutorial": {"required_field": "long enough"}}
SETTINGS = {
    "CORE__LOAD_EXAMPLES": "True",
    # What two cores take without one task's start timing out.
    "CORE__PARALLELISM": "16",
    # Examples that install packages fail, as they do offline; uv fails at once, also where it is missing.
    "STANDARD__VENV_INSTALL_METHOD": "uv",
}

NETWORK = "asks a server on the internet"
CLOCK = "starts at a certain time of the day or week only"
PARTITIONS = "waits for partitions that no example here produces within minutes"
SAME_URI = "two examples declare one URI under two names; which of them Airflow keeps active depends on parsing order"
LEFT_OUT = {
    "asset_consumes_1_never_scheduled": "never starts, by design",
    "asset_consumes_unknown_never_scheduled": "never starts, by design",
    "asset_with_extra_by_context": SAME_URI,
    "asset_with_extra_by_yield": SAME_URI,
    "asset_with_extra_from_classic_operator": SAME_URI,
    "clean_and_combine_player_stats": PARTITIONS,
    "compute_player_odds": PARTITIONS,
    "daily_inference": PARTITIONS,
    "daily_team_a_rollup": PARTITIONS,
    "example_analytics": NETWORK,
    "example_asset_with_watchers": "waits for somebody to delete files",
    "example_dag_decorator": NETWORK,
    "example_external_task_marker_child": "waits ten minutes for a task group that does not exist",
    "example_hitl_operator": "waits for a human",
    "example_retry_policy": NETWORK,
    "example_sensors": "waits an hour: a deferred TimeSensor",
    "example_workday_timetable": CLOCK,
    "ingest_team_a_player_stats": CLOCK,
    "monthly_team_a_rollup": PARTITIONS,
    "player_odds_quality_check_wont_ever_to_trigger": "never starts, by design",
    "read_asset_event": SAME_URI,
    "read_asset_event_from_classic": SAME_URI,
    "regional_stats_breakdown": PARTITIONS,
    "team_b_player_stats": CLOCK,
    "team_c_player_stats": CLOCK,
    "trailing_week_inference": PARTITIONS,
    "train_weekly_model": CLOCK,
    "tutorial_objectstorage": NETWORK,
}

# Where chance or the clock decides, only the shape is compared: the rows of one group are alternatives, a row's tasks
# share their fate, and the states of all rows are compared in sorted order.
Row = tuple[str, ...]
ALTERNATIVES: dict[str, list[list[Row]]] = {
    "example_branch_operator": [
        [(f"branch_{letter}", f"follow_{letter}") for letter in "abcd"],
        [(f"ext_py_{letter}",) for letter in "abcd"],
    ],
    "example_branch_python_operator_decorator": [
        [(f"branch_{letter}", f"follow_{letter}") for letter in "abcd"],
        [(f"ext_py_{letter}",) for letter in "abcd"],
    ],
    "example_branch_dop_operator_v3": [[("empty_task_1",), ("empty_task_2",)]],
    "example_branch_datetime_operator_2": [[("date_in_range",), ("date_outside_range",)]],
    "example_weekday_branch_operator": [[("branch_true",), ("branch_weekend",), ("branch_mid_week",)]],
}
# Run or not by the day of the week; the alternatives above already say that one path was taken.
NOT_COMPARED = {"example_weekday_branch_operator": {"branch_false", "make_weekend_choice"}}

# Their files use what Python 3.10 does not have.
PYTHON_3_11 = {"example_sensors"}
DISTRIBUTIONS = ("apache-airflow-core", "apache-airflow-providers-standard")

Outcome = dict[str, Any]


def to_run(airflow: stack.Stack) -> set[str]:
    """The examples this installation has, less those left out, once all of them are parsed."""
    seen: list[set[str]] = []

    def settled() -> bool:
        # Nothing says that the last file is parsed, but one file never takes several seconds.
        seen.append(airflow.rest.dag_ids())
        return len(seen) > 5 and seen[-1] >= LEFT_OUT.keys() - PYTHON_3_11 and seen[-1] == seen[-5]

    waiting.until(settled, "the examples to be parsed", 120, 0.7)
    return seen[-1] - LEFT_OUT.keys() - airflow.own_dags()


def run_all(airflow: stack.Stack, dag_ids: Iterable[str], seconds: float) -> dict[str, Outcome]:
    """Run each DAG to the end of at least one run; return what became of it."""
    wanted = set(dag_ids)
    manual = _start(airflow, wanted)
    waiting.until(lambda: _all_ended(airflow.rest, wanted, manual), "the examples to end", seconds, 2)
    return {dag_id: _outcome(airflow.rest, dag_id) for dag_id in sorted(wanted)}


def recorded() -> dict[str, Outcome] | None:
    """What LocalExecutor makes of the examples, if it was recorded with the versions that are installed."""
    content = json.loads(EXPECTED.read_text())
    return dict(content["dags"]) if content["versions"] == versions() else None


def write(dags: Mapping[str, Outcome]) -> None:
    text = json.dumps({"versions": versions(), "dags": dags}, indent=1, sort_keys=True)
    EXPECTED.write_text(text + "\n")


def versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in DISTRIBUTIONS}


def differences(expected: Mapping[str, Outcome], got: Mapping[str, Outcome]) -> dict[str, Any]:
    """The DAGs that ended differently, or ran on one side only."""
    names = sorted(expected.keys() | got.keys())
    return {name: (expected.get(name), got.get(name)) for name in names if expected.get(name) != got.get(name)}


def canonical(dag_id: str, states: Mapping[str, str | None]) -> Outcome:
    """The states by task, with what chance decides reduced to its shape."""
    rest_of = {task: state for task, state in states.items() if task not in NOT_COMPARED.get(dag_id, ())}
    groups = []
    for group in ALTERNATIVES.get(dag_id, []):
        groups.append(sorted("/".join(str(rest_of.pop(task)) for task in row) for row in group))
    return {"tasks": dict(sorted(rest_of.items())), **({"alternatives": groups} if groups else {})}


def _start(airflow: stack.Stack, wanted: set[str]) -> set[rest.Run]:
    """Unpause what starts by itself, then trigger the others; consumers first, lest they miss an asset's event."""
    summaries = {row["dag_id"]: row["timetable_summary"] for row in airflow.rest.pages("dags", "dags")}
    by_hand = {dag_id for dag_id in wanted if summaries[dag_id] in (None, "PartitionedAtRuntime")}
    by_asset = {dag_id for dag_id in wanted - by_hand if "Asset" in summaries[dag_id]}
    for dag_id in sorted(by_asset):
        airflow.rest.pause(dag_id, False)
    runs = {
        airflow.rest.trigger(dag_id, logical_date=LOGICAL_DATE, conf=CONF.get(dag_id)) for dag_id in sorted(by_hand)
    }
    for dag_id in sorted(wanted - by_hand - by_asset):
        airflow.rest.pause(dag_id, False)
    return runs


def _all_ended(client: rest.Rest, wanted: set[str], manual: set[rest.Run]) -> bool:
    states = {run: state for run, state in client.run_states().items() if run.dag_id in wanted}
    ended = {run.dag_id for run, state in states.items() if state in rest.FINISHED}
    # Some run every minute: one finished run is enough, so a DAG with one is paused and its further runs do not count.
    starting = {run.dag_id for run in states if run.run_id.startswith("scheduled__")}
    for dag_id in ended & starting:
        client.pause(dag_id, True)
    open_runs = {run for run, state in states.items() if state not in rest.FINISHED and run.dag_id not in starting}
    return ended >= wanted and not open_runs and manual <= states.keys()


def _outcome(client: rest.Rest, dag_id: str) -> Outcome:
    """What became of the DAG; all its finished runs have to agree."""
    runs = [(run, state) for run, state in client.run_states(dag_id).items() if state in rest.FINISHED]
    outcomes = [{"run": state, **canonical(dag_id, client.states(run))} for run, state in runs]
    if any(outcome != outcomes[0] for outcome in outcomes):
        raise AssertionError(f"{dag_id}: its runs ended differently: {outcomes}")
    return outcomes[0]
