"""The triage of one day, alone: what it leaves, also when a server, an issue or the time is against it.

The servers are the example's own stub; everything else is real.
"""

from __future__ import annotations

import email.message
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pipeline
import pytest
import triage_calls
import triage_errors
import triage_files
import triage_job
import triage_rules
import triage_stub
import triage_web

from air_executor import AirExecutorClient
from air_executor.paths import Home
from air_executor.testing import running_runner, wait_for

DAY = "2026-03-02"
PROGRAM = Path(pipeline.__file__)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[triage_stub.Stub]:
    monkeypatch.setenv("NO_PROXY", "*")
    with triage_stub.Stub() as stub:
        yield stub


@pytest.fixture
def settings(stub: triage_stub.Stub, tmp_path: Path) -> pipeline.Settings:
    return replace(pipeline.settings_from(stub.environment()), output=tmp_path / "out", time_limit=60.0)


def files(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.glob("*.jsonl")}


def rows(output: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / name).read_text().splitlines()]


def test_nothing_of_an_issue_is_markup() -> None:
    issue = {"number": 1, "title": "<!here>", "labels": ["<!channel>"], "url": "https://example.org/?a&b"}
    text = "#1 &lt;!here&gt; (&lt;!channel&gt;) https://example.org/?a&amp;b"
    assert triage_rules.alert_text(issue) == text


@pytest.mark.parametrize(("text", "pause"), [("3", 3.0), ("\u00b2", 0.0), ("-1", 0.0), ("soon", 0.0)])
def test_a_refusal_is_no_more_than_its_number(text: str, pause: float) -> None:
    headers = email.message.Message()
    headers["Retry-After"] = text
    refused = triage_web._refused("host", urllib.error.HTTPError("http://host/secret", 503, "secret", headers, None))
    assert (str(refused), refused.pause) == ("host answered 503", pause)


def test_a_day_and_the_same_day_again(stub: triage_stub.Stub, settings: pipeline.Settings) -> None:
    sample = [triage_rules.normalised(item) for item in triage_stub.issues(DAY)]
    alerts = {issue["number"] for issue in sample if triage_rules.is_alert(issue)}
    small = replace(settings, page_size=7)
    summary = pipeline.run_day(DAY, small)
    assert summary["issues"] == len(sample) == summary["alerted"] + summary["archived"]
    assert {row["number"] for row in rows(settings.output, f"{DAY}.alerts.jsonl")} == alerts
    archived = rows(settings.output, f"{DAY}.jsonl")
    assert archived == [issue for issue in sample if issue["number"] not in alerts]
    assert stub.pages == -(-len(sample) // 7)
    assert sorted(key for key, _, _ in stub.alerts) == sorted(f"{DAY}-{number}" for number in alerts)
    assert all("<" not in text for _, text, _ in stub.alerts)
    before = files(settings.output)
    assert pipeline.run_day(DAY, settings) == summary
    assert files(settings.output) == before
    assert len(stub.alerts) == len(alerts), "somebody was told twice"


def test_a_failed_day_goes_on_where_it_was_with_a_fresh_network(
    stub: triage_stub.Stub, settings: pipeline.Settings
) -> None:
    sample = [triage_rules.normalised(item) for item in triage_stub.issues(DAY)]
    keys = [f"{DAY}-{issue['number']}" for issue in sample if triage_rules.is_alert(issue)]
    stub.faults.refused_alerts[keys[-1]] = 1
    with pytest.raises(triage_errors.EndError, match="answered 403"):
        pipeline.run_day(DAY, replace(settings, concurrency=1))
    assert files(settings.output) == {}
    told = len(stub.alerts)
    assert told > 0
    summary = pipeline.run_day(DAY, settings)
    assert summary["alerted"] == len(keys)
    assert sorted(key for key, _, _ in stub.alerts) == sorted(keys)
    assert len(stub.networks[DAY]) == 2
    assert {network for _, _, network in stub.alerts[told:]} == {stub.networks[DAY][1]}


ODD: list[Any] = [
    "no object",
    {"number": 5, "title": "no labels"},
    {"number": 6, "title": "\ud800", "html_url": "", "labels": [], "created_at": f"{DAY}T00:00:00Z"},
    {"number": 1.5},
    {"number": 2**70},
    None,
]


def test_one_bad_item_is_kept_aside_and_the_others_go_on(stub: triage_stub.Stub, settings: pipeline.Settings) -> None:
    sample = triage_stub.issues(DAY)
    stub.faults.samples[DAY] = [*ODD, *sample, sample[0]]
    summary = pipeline.run_day(DAY, settings)
    assert summary["refused"] == len(ODD)
    assert summary["issues"] == len(ODD) + len(sample)
    whys = {row["issue"]: row["why"] for row in rows(settings.output, f"{DAY}.refused.jsonl")}
    assert whys[json.dumps(ODD[2])] == "has a title that is no text"
    assert whys[json.dumps(None)] == "is no object"


def test_a_source_that_is_down(stub: triage_stub.Stub, settings: pipeline.Settings) -> None:
    stub.faults.source_down = True
    with pytest.raises(triage_errors.EndError, match=r"^127.0.0.1:\d+ answered 503"):
        pipeline.run_day(DAY, settings)
    nobody = replace(settings, source_url="http://127.0.0.1:9/secret", time_limit=0.5)
    with pytest.raises(triage_errors.EndError, match="does not answer") as caught:
        pipeline.run_day(DAY, nobody)
    assert "secret" not in str(caught.value)
    assert files(settings.output) == {}


def test_a_slow_sink_slows_down_the_source_until_the_time_is_over(
    stub: triage_stub.Stub, settings: pipeline.Settings
) -> None:
    """With every issue an alert, and none of them taken."""
    bug = {"labels": ["bug"], "html_url": "", "title": "", "created_at": f"{DAY}T00:00:00Z"}
    stub.faults.samples[DAY] = [{**bug, "number": number} for number in range(1, 601)]
    stub.faults.alert_pause = threading.Event()
    slow = replace(settings, time_limit=1.0, window=60, page_size=20, concurrency=3)
    with pytest.raises(triage_errors.TimeLimitError, match="60 issues, none at its end, 60 on their way; the source"):
        pipeline.run_day(DAY, slow)
    assert stub.most_posting == 3
    assert stub.pages == 3
    assert files(settings.output) == {}
    stub.faults.alert_pause.set()
    assert pipeline.run_day(DAY, replace(slow, time_limit=60.0, concurrency=8))["alerted"] == 600


@pytest.mark.parametrize(("answer", "says"), [("{}", "page of issues"), ('{"total_count": 2000, "items": []}', "2000")])
def test_an_answer_that_is_no_page(answer: str, says: str) -> None:
    with pytest.raises(triage_errors.EndError, match=says):
        triage_calls.opened(answer)


def test_a_day_is_run_by_one_at_a_time(settings: pipeline.Settings) -> None:
    with triage_files.DayFiles(settings.output, DAY), pytest.raises(triage_errors.BusyError, match="another run"):
        pipeline.run_day(DAY, settings)


def test_half_a_line_of_a_killed_run_is_no_delivery(tmp_path: Path) -> None:
    with triage_files.DayFiles(tmp_path, DAY) as day:
        day.note_delivery({"key": "a", "number": 1})
    with (tmp_path / f".{DAY}.delivered").open("ab") as journal:
        journal.write(b'\n{"key":"b","num')
    with triage_files.DayFiles(tmp_path, DAY) as day:
        day.note_delivery({"key": "c", "number": 3})
    with triage_files.DayFiles(tmp_path, DAY) as day:
        assert [day.is_delivered(key) for key in "abc"] == [True, False, True]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"TRIAGE_ALERT_URL": ""}, "TRIAGE_ALERT_URL must be set"),
        ({"TRIAGE_SOURCE_URL": "ftp://x"}, "TRIAGE_SOURCE_URL is no address"),
        ({"TRIAGE_CONCURRENCY": "many"}, "TRIAGE_CONCURRENCY is no number"),
        ({"TRIAGE_TIME_LIMIT": "nan"}, "must be above 0"),
    ],
)
def test_settings_that_are_wrong(changes: dict[str, str], says: str) -> None:
    good = {"TRIAGE_SOURCE_URL": "http://localhost", "TRIAGE_ALERT_URL": "http://localhost"}
    assert pipeline.settings_from(good).concurrency == 4
    with pytest.raises(triage_errors.SettingError, match=says):
        pipeline.settings_from({**good, **changes})


def test_a_day_that_is_none(settings: pipeline.Settings) -> None:
    with pytest.raises(triage_errors.SettingError, match="is no day"):
        pipeline.run_day("../2026", settings)


def program(output: Path, **variables: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "TRIAGE_OUTPUT": str(output), **variables}
    command = [sys.executable, str(PROGRAM), "--day", DAY]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=output.parent
    )


def test_alone_and_with_nothing_set_it_asks_its_own_samples(settings: pipeline.Settings) -> None:
    said, _ = (popen := program(settings.output)).communicate(timeout=60)
    assert popen.returncode == 0
    before = files(settings.output)
    assert json.loads(said) == pipeline.run_day(DAY, settings)
    assert files(settings.output) == before


def test_a_stop_lets_what_has_begun_come_to_its_end(stub: triage_stub.Stub, settings: pipeline.Settings) -> None:
    stub.faults.alert_pause = threading.Event()
    popen = program(settings.output, **stub.environment(), TRIAGE_PAGE_SIZE="5", TRIAGE_WINDOW="1", TRIAGE_DRAIN="60")
    wait_for(lambda: stub.posting > 0, 30, "an alert on its way")
    popen.send_signal(signal.SIGTERM)
    stub.faults.alert_pause.set()
    _, said = popen.communicate(timeout=60)
    assert popen.returncode == triage_errors.DrainedError.exit_code, said
    assert "was stopped, and is to be run again" in said
    assert " 0 on their way" in said
    told, asked = len(stub.alerts), stub.pages
    assert told > 0
    assert asked == 1
    summary = pipeline.run_day(DAY, settings)
    assert summary["alerted"] == len(stub.alerts) > told


def test_as_a_job_it_comes_to_the_same(
    stub: triage_stub.Stub, settings: pipeline.Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = triage_stub.issues(DAY)[:5]
    stub.faults.samples[DAY] = ["no object", *sample]
    summary = pipeline.run_day(DAY, settings)
    home, other = Home(tmp_path / "home"), tmp_path / "job"
    alert = f"{DAY}-{sample[1]['number']}"
    stub.faults.refused_alerts[alert] = 1
    for name, value in {**stub.environment(), "TRIAGE_OUTPUT": str(other), "AIR_EXECUTOR_HOME": str(home.root)}.items():
        monkeypatch.setenv(name, value)
    with running_runner(home):
        client, name = AirExecutorClient(home.root), triage_job.submit(DAY, max_parallel=2)
        assert client.wait(name, 60).state == "completed", client.failure(name)
    assert client.get_result(name)["gather"] == summary
    assert files(other) == files(settings.output)
    assert {task.id: task.tries for task in client.get_tasks(name)}["issue-2"] == 2
    monkeypatch.setenv("AIR_EXECUTOR_JOB", name)
    triage_job.list_issues(DAY)  # as when its first try was killed after it had added them
    assert not list(other.glob(".*.job"))
