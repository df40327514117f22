"""Metrics as text: what is written is what a stranger's parser reads, and what we read."""

from __future__ import annotations

import json
import os

import pytest
from prometheus_client.parser import text_string_to_metric_families

from air_executor import cli, exposition, model, processes, runners
from air_executor.exposition import Family, Sample
from air_executor.paths import Home

ODD = 'a "quoted" \\ back\nslash, and {a="b"} 1, \x85\x0b\x1c\u2028'
FAMILIES = [
    Family("a_total", "counter", "Counts \\ and\nbreaks.", [Sample("a_total", {"x": ODD, "y": "1"}, 3)]),
    Family("b", "gauge", "Without samples."),
    Family(
        "c",
        "histogram",
        "Seconds.",
        [
            *(Sample("c_bucket", {"le": bound}, count) for bound, count in (("0.5", 1), ("+Inf", 2))),
            *(Sample("c_sum", {}, 0.75), Sample("c_count", {}, 2)),
        ],
    ),
]


def test_what_is_written_is_read_by_everybody() -> None:
    text = exposition.render(FAMILIES)
    assert exposition.parse(text) == FAMILIES
    theirs = {family.name: family for family in text_string_to_metric_families(text)}
    assert [(each.labels, each.value) for each in theirs["a"].samples] == [({"x": ODD, "y": "1"}, 3.0)]
    assert (theirs["a"].type, theirs["a"].documentation) == ("counter", "Counts \\ and\nbreaks.")
    assert [(each.name, each.value) for each in theirs["c"].samples][-1] == ("c_count", 2.0)
    assert theirs["b"].samples == []


def test_a_name_that_is_no_text_keeps_no_other_metric_back() -> None:
    text = exposition.render([Family("a", "gauge", "A.", [Sample("a", {"queue": "odd-\udcff"}, 1)])])
    assert exposition.parse(text.encode().decode())[0].samples == [Sample("a", {"queue": r"odd-\udcff"}, 1)]


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "1"), (0.1, "0.1"), (float("inf"), "+Inf"), (1e300, "1e+300"), (-float("inf"), "-Inf")]
)
def test_numbers(value: float, text: str) -> None:
    assert exposition.number(value) == text


def test_families_are_put_together() -> None:
    merged = exposition.merge([FAMILIES, FAMILIES[:1]])
    assert [family.name for family in merged] == ["a_total", "b", "c"]
    assert merged[0].samples == FAMILIES[0].samples * 2 and len(FAMILIES[0].samples) == 1


HEAD = "# HELP a A.\n# TYPE a gauge\n"


@pytest.mark.parametrize(
    "text",
    [
        "a 1",
        "# HELP a A.\na 1",
        f"{HEAD}b 1",
        f"{HEAD}a one",
        f'{HEAD}a{{x="1}} 1',
        f"{HEAD}a{{x=1}} 1",
        "nonsense",
        HEAD + "\n",
    ],
)
def test_what_is_no_metric_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"line \d is no metric"):
        exposition.parse(text)


def tell(home: Home, runner_id: str, text: str) -> None:
    moment = model.now()
    process = processes.identify(1 if runner_id == "dead" else os.getpid())
    if runner_id == "dead":
        process.start_time += 1
    runners.write(home, runners.RunnerInfo(runner_id, process, ["default"], 2, "fork", "0", moment, moment, 3.0))
    home.metrics.mkdir(exist_ok=True)
    home.runner_metrics(runner_id).write_text(text)


def test_the_command_puts_living_runners_together(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--home", str(home.root), "metrics"]
    assert cli.main(words) == 0
    assert capsys.readouterr() == ("", f"air-executor: no living runner of {home.root} has told any metrics\n")
    for runner_id in ("r1", "r2", "dead"):
        tell(home, runner_id, f'{HEAD}a{{runner="{runner_id}"}} 1\n')
    assert cli.main(words) == 0
    assert capsys.readouterr().out == f'{HEAD}a{{runner="r1"}} 1\na{{runner="r2"}} 1\n'
    assert cli.main([*words, "--json"]) == 0
    samples = [{"name": "a", "labels": {"runner": name}, "value": 1.0} for name in ("r1", "r2")]
    assert json.loads(capsys.readouterr().out) == [{"name": "a", "kind": "gauge", "help": "A.", "samples": samples}]


def test_the_command_names_a_file_that_holds_none(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    tell(home, "r", "nonsense")
    assert cli.main(["--home", str(home.root), "metrics"]) == 7
    assert f"{home.runner_metrics('r')}" in (said := capsys.readouterr().err) and "line 1 is no metric" in said
