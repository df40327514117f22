"""The page on metrics and the dashboard name what runners and executors tell, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from air_runner import metrics

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "metrics.md").read_text()
DASHBOARD: dict[str, Any] = json.loads((DOCS / "grafana" / "air-executor.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
ALERTS = [query.replace("\\|", "|") for query in re.findall(r"^\| `([^`]+)` \| [^|]*\|$", PAGE, re.MULTILINE)]

SERIES = {
    name: {"runner", *metric.labels, *(("le",) if name.endswith("_bucket") else ())}
    for metric in metrics.ALL
    for name in (
        [f"{metric.name}_{suffix}" for suffix in ("bucket", "sum", "count")]
        if metric.kind == "histogram"
        else [metric.name]
    )
}
"""What is served, and its labels."""

FUNCTIONS = {"absent", "count", "histogram_quantile", "increase", "max", "rate", "sum", "time", "vector"}
WORDS = {"by", "or"}


def test_the_table_is_what_a_runner_tells() -> None:
    rows = re.findall(r"^\| `(air_executor_\w+)` \| (\w+) \| ([^|]*)\| (.*) \|$", PAGE, re.MULTILINE)
    told = [(each.name, each.kind, ", ".join(f"`{label}`" for label in each.labels), each.help) for each in metrics.ALL]
    assert [(name, kind, labels.strip(), f"{text}.") for name, kind, labels, text in rows] == told
    assert ", ".join(f"{bound:g}" for bound in metrics.BOUNDS[:-1]) + f" and {metrics.BOUNDS[-1]:g} seconds" in PAGE


def test_the_table_is_what_an_executor_tells() -> None:
    source = (DOCS.parent / "airflow_plugin" / "metrics.py").read_text()
    told = set(re.findall(r'(?:\{PREFIX\}\.|_count\("|_gauge\(")([a-z_]+)', source))
    assert told == set(re.findall(r"^\| `air_executor\.(\w+)", PAGE, re.MULTILINE))


def test_names_follow_the_conventions() -> None:
    for metric in metrics.ALL:
        assert metric.name.endswith("_total") is (metric.kind == "counter"), metric.name
        assert re.fullmatch(r"air_executor_[a-z_]+", metric.name) and metric.help.endswith(".")


def tokens(query: str) -> list[str]:
    """The words of a query; raises if something is in it that is none."""
    pattern = r'"(?:[^"\\]|\\.)*"|\$?\w+(?:\.\d+)?|=~|!=|!~|==|<=|>=|[-+*/<>=(){}\[\],]'
    assert not re.sub(pattern, "", query).strip(), query
    return re.findall(pattern, query)


def check(query: str) -> None:
    """Raise unless brackets are closed in their order, and what is named is there."""
    open_brackets: list[str] = []
    series = ""
    for token, following in zip(words := tokens(query), [*words[1:], ""], strict=True):
        if token in "({[":
            open_brackets.append(token)
        elif token in ")}]":
            assert open_brackets and open_brackets.pop() + token in ("()", "{}", "[]"), query
        elif open_brackets[-1:] == ["{"] and following in ("=", "=~", "!=", "!~"):
            assert token in SERIES[series], f"{series} has no label {token}: {query}"
        elif token.startswith("air_executor_"):
            assert token in SERIES, f"nobody tells {token}"
            series = token
        elif re.match(r"[a-z]", token) and following == "(":
            assert token in FUNCTIONS | WORDS, f"{token}: {query}"
    assert not open_brackets, query


@pytest.mark.parametrize("query", [*QUERIES, *ALERTS])
def test_queries_are_whole_and_ask_for_what_is_told(query: str) -> None:
    check(query)


@pytest.mark.parametrize(
    "query",
    [
        "sum(air_executor_slots",
        "sum(air_executor_slots})",
        "air_executor_nothing",
        'air_executor_slots{queue="a"}',
        "a;b",
    ],
)
def test_a_wrong_query_is_found(query: str) -> None:
    with pytest.raises(AssertionError):
        check(query)


def test_there_are_queries_and_alerts() -> None:
    assert len(QUERIES) > 20 and len(ALERTS) == 7


def test_legends_and_groups_name_labels_that_are_there() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            names = set().union(*(SERIES[name] for name in re.findall(r"air_executor_\w+", target["expr"])))
            grouped = [label for group in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in group.split(", ")]
            assert {*grouped, *re.findall(r"{{(\w+)}}", target["legendFormat"])} <= names, target


def test_the_dashboard_can_be_imported() -> None:
    assert {"title", "uid", "schemaVersion", "templating", "time"} <= DASHBOARD.keys()
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource" and variables["datasource"]["query"] == "prometheus"
    check(re.sub(r"^label_values\((.*), \w+\)$", r"\1", variables["runner"]["definition"]))
    used = set(re.findall(r"\$(\w+)", " ".join(QUERIES)))
    assert used <= {*variables, "__rate_interval"}
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(x + place["x"], y + place["y"]) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
    for panel in PANELS:
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources), panel["title"]
