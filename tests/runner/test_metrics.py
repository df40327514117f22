"""What a runner counts, and how it tells of it: as a file, and over HTTP to whoever asks, however badly."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from air_executor import AirExecutorClient, cli, exposition, model, pauses, repair, spool, store, testing
from air_executor.model import ExitKind, JobState
from air_executor.paths import Home
from air_executor.settings import RunnerSettings
from air_executor.store import Submission
from air_executor.testing import RunnerProcess, wait_for
from air_runner import endings, ephemeral, exporter, metrics
from air_runner.jobs import Running
from air_runner.tally import Tally
from tests.runner.test_lifecycle import ended, shell, working
from tests.runner.test_scrape import free_port

TEMPLATE = metrics.TemplateCondition("json", True, 9.0, 3)
CONDITION = metrics.Condition("1.2", 10.0, 20.5, 4, 2, False, 1, True, [TEMPLATE])

Numbers = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(text: str) -> Numbers:
    """All samples as a stranger's parser finds them, without the label that all have."""
    found: Numbers = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = frozenset((key, value) for key, value in sample.labels.items() if key != "runner")
            assert "runner" in sample.labels and (sample.name, labels) not in found
            found[sample.name, labels] = sample.value
    return found


def value(numbers: Numbers, metric: metrics.Metric | str, **labels: str) -> float | None:
    name = metric if isinstance(metric, str) else metric.name
    return numbers.get((name, frozenset(labels.items())))


def told(*values: metrics.Values) -> Numbers:
    return read(exposition.render(metrics.families("r", *values)))


# --- What is counted ---


def test_everything_has_a_value_before_anything_has_happened() -> None:
    numbers = told(metrics.Counts(["default"]).take(), metrics.describe(CONDITION))
    assert value(numbers, metrics.ENDS, queue="default", state="failed", kind="timeout") == 0
    assert value(numbers, metrics.LAUNCHES, queue="default", launcher="exec") == 0
    assert value(numbers, "air_executor_job_wait_seconds_count", queue="default") == 0
    assert value(numbers, metrics.SLOTS) == 4 and value(numbers, metrics.BEAT) == 20.5
    assert value(numbers, metrics.TEMPLATE_ENDS, module="json") == 3


def test_histograms_are_cumulative() -> None:
    counts = metrics.Counts(["q"])
    for waited in (-1.0, 0.01, 0.011, 3.0, 1e9):
        counts.launched("q", "fork", waited)
    numbers = told(counts.take())
    assert value(numbers, metrics.LAUNCHES, queue="q", launcher="fork") == 5
    buckets = {
        bound: value(numbers, "air_executor_job_wait_seconds_bucket", queue="q", le=bound)
        for bound in ("0.01", "0.025", "2.5", "5", "43200", "+Inf")
    }
    assert buckets == {"0.01": 2, "0.025": 3, "2.5": 3, "5": 4, "43200": 4, "+Inf": 5}
    assert value(numbers, "air_executor_job_wait_seconds_sum", queue="q") == pytest.approx(1e9 + 3.021)


def test_what_was_taken_does_not_change_any_more() -> None:
    counts = metrics.Counts(["q"])
    before = counts.take()
    counts.launched("q", "fork", 1.0)
    counts.ended("q", JobState.FAILED, ExitKind.TIMEOUT, 1.0)
    assert told(before) == told(metrics.Counts(["q"]).take())


def test_labels_are_bounded() -> None:
    counts = metrics.Counts([f"served-{number}" for number in range(150)])
    for number in range(500):
        counts.launched(f"q{number}", "fork", 0.0)
        counts.ended(f"q{number}", JobState.COMPLETED, ExitKind.SUCCESS, None)
    found = {f"q{number}": metrics.QueueCondition(number, 100.0, paused=number < 2) for number in range(500)}
    queues = metrics.describe_queues(found, ["default"], now=130.0)
    templates = [metrics.TemplateCondition(f"m{number}", True, 1.0, 0) for number in range(50)]
    numbers = told(counts.take(), queues, metrics.describe(dataclasses.replace(CONDITION, templates=templates)))
    seen = {(name, key, text) for name, labels in numbers for key, text in labels if key in ("queue", "module")}
    bounds = [(metrics.WAITING, "queue", 101), (metrics.ENDS, "queue", 101), (metrics.TEMPLATE_UP, "module", 20)]
    for metric, key, most in bounds:
        assert sum((name, each) == (metric.name, key) for name, each, _ in seen) == most
    assert value(numbers, metrics.LAUNCHES, queue="other", launcher="fork") == 500
    assert value(numbers, metrics.WAITING, queue="other") == sum(range(2, 500 - 97))
    assert value(numbers, metrics.WAITING, queue="q499") == 499
    assert [value(numbers, metrics.OLDEST, queue=queue) for queue in ("other", "default")] == [30.0, 0]
    assert [value(numbers, metrics.PAUSED, queue=queue) for queue in ("other", "default", "q1", "q499")] == [0, 0, 1, 0]


def test_a_pause_is_seen_also_where_its_queue_has_no_label_of_its_own() -> None:
    found = {f"q{number}": metrics.QueueCondition(paused=True) for number in range(500)}
    numbers = told(metrics.describe_queues(found, [f"q{number}" for number in range(150)], now=0.0))
    assert value(numbers, metrics.PAUSED, queue="other") == 1


@pytest.mark.parametrize("kind", list(ExitKind))
def test_an_ephemeral_runner_says_how_its_job_ended(kind: ExitKind) -> None:
    state = metrics.state_of(kind)
    code = ephemeral.code_of(model.Job("a", state=state, exit=model.Exit(kind, "why")))
    end = endings.explain(7, code << 8)
    assert (end.kind, end.seen_well) == (kind, True)
    assert ephemeral.kind_of(code) is kind and (code == 0) is (kind is ExitKind.SUCCESS)


@pytest.mark.parametrize("code", [1, 75, 76, 77, 79, 80 + len(ExitKind), 255, None])
def test_other_codes_say_nothing_of_an_end(code: int | None) -> None:
    assert ephemeral.kind_of(code) is None


def end_of(code: int) -> endings.End:
    return endings.explain(7, code << 8)


@pytest.mark.parametrize(
    ("end", "verdict", "counted"),
    [
        (end_of(0), None, ("completed", "success")),
        (end_of(ephemeral.code_of(model.Job("a", exit=model.Exit(ExitKind.MEMORY, "")))), None, ("failed", "memory")),
        (endings.explain(7, None), None, ("failed", "output")),  # not told: what the file says
        (end_of(1), repair.Verdict.FAIL, ("failed", "output")),
        (end_of(0), repair.Verdict.FAIL, ("failed", "output")),  # it lied: the file counts
        (end_of(ephemeral.EXIT_NOT_OURS), None, None),
        (end_of(1), repair.Verdict.LEAVE, None),
        (end_of(1), repair.Verdict.QUEUE, "requeued"),
    ],
)
def test_each_end_is_counted_once_and_as_what_it_was(
    home: Home, end: endings.End, verdict: repair.Verdict | None, counted: tuple[str, str] | str | None
) -> None:
    job = model.Job("a", queue="q", state=JobState.FAILED, exit=model.Exit(ExitKind.OUTPUT, "too much"))
    store.submit(home, Submission(dataclasses.replace(job, state=JobState.WAITING, exit=None), [model.Task("true")]))
    job.queued_at = store.read(home, "a").queued_at
    home.job("a").state.write_text(state_file(job))
    tally = Tally(home, ("q",))
    tally.settled("a", end, verdict, Running(job, pid=7, began=time.monotonic()))
    numbers = told(tally.take())
    ends = {labels: count for (name, labels), count in numbers.items() if name == metrics.ENDS.name and count}
    if isinstance(counted, tuple):
        assert ends == {frozenset({("queue", "q"), ("state", counted[0]), ("kind", counted[1])}): 1.0}
    assert len(ends) == isinstance(counted, tuple)
    assert value(numbers, "air_executor_job_run_seconds_count", queue="q") == len(ends)
    assert value(numbers, metrics.REQUEUES) == (counted == "requeued")


def state_file(job: model.Job) -> str:
    moment = model.now()
    return json.dumps({"schema": 1, **model.to_dict(dataclasses.replace(job, created_at=moment, updated_at=moment))})


def test_an_end_that_nobody_knows_is_not_counted(home: Home) -> None:
    tally = Tally(home, ("q",))
    tally.settled("gone", end_of(1), repair.Verdict.FAIL, None)
    assert not any(count for (name, _), count in told(tally.take()).items() if name == metrics.ENDS.name)


# --- The file ---


def start_exporter(home: Home, **options: object) -> exporter.Exporter:
    made = exporter.Exporter(home, "r", RunnerSettings(queues=("default",), **options))  # type: ignore[arg-type]
    made.publish(metrics.describe(CONDITION))
    made.start()
    return made


def test_a_file_that_cannot_be_written_is_said_once_and_written_later(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    home.metrics.touch()
    made = start_exporter(home, metrics_interval=0.01)
    try:
        wait_for(lambda: "cannot write" in caplog.text, what="the complaint")
        home.metrics.unlink()
        wait_for(home.runner_metrics("r").exists, what="the file")
        assert caplog.text.count("cannot write") == 1
        assert home.runner_metrics("r").stat().st_mode & 0o777 == 0o600
    finally:
        made.stop()
    assert list(home.metrics.iterdir()) == []


def test_an_interval_of_years_is_no_trouble(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    made = start_exporter(home, metrics_interval=1e9)
    wait_for(home.runner_metrics("r").exists, what="the file")
    made.stop()
    assert caplog.text == ""


def test_no_thread_where_nobody_is_told(home: Home) -> None:
    made = start_exporter(home, metrics_interval=0)
    made.stop()
    assert not home.metrics.exists()


def test_queues_are_looked_at_as_often_as_that_costs_little(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, queue in (("a", "default"), ("b", "big"), ("c", "big")):
        store.submit(home, Submission(model.Job(name, queue=queue), [model.Task("true")]))
    looks = exporter.QueueLooks(home, ["default", "empty"])
    moment = time.monotonic()
    lengths = looks.look(moment)
    assert {name: length.jobs for name, length in lengths.items()} == {"default": 1, "empty": 0, "big": 2}
    [marker] = spool.waiting(home, "default")
    assert lengths["default"].oldest == marker.queued_at and lengths["empty"].oldest is None
    assert spool.claim(home, marker, "r")
    assert looks.look(moment) is lengths
    pauses.pause(home, "big")
    pauses.pause(home, "new")
    found = looks.look(moment + 3600.0)
    assert found["default"].jobs == 0 and [name for name in sorted(found) if found[name].paused] == ["big", "new"]
    home.paused.rename(home.paused.with_name("away"))
    home.paused.symlink_to(home.paused.name)  # a loop: it cannot be seen
    assert looks.look(moment + 7200.0)["big"].paused, "as it was when it could be seen"


# --- A real runner ---


@dataclasses.dataclass
class Served:
    """A runner that tells of itself."""

    home: Home
    client: AirExecutorClient
    runner: RunnerProcess
    port: int

    def get(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as response:
            assert response.headers["Content-Type"] == exposition.CONTENT_TYPE
            text: str = response.read().decode()
            return text

    def numbers_with(self, condition: Callable[[Numbers], object]) -> Numbers:
        """The numbers, once that is true of them."""

        def found() -> Numbers | None:
            numbers = read(self.get())
            return numbers if condition(numbers) else None

        numbers = wait_for(found, what="the numbers")
        assert numbers is not None
        return numbers


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = Home(tmp_path_factory.mktemp("metrics") / "home")
    store.ensure_home(home)
    home.config.write_text("[runner]\nheartbeat = 0.2\nmetrics_interval = 0.2\n")
    port = free_port()
    with testing.running_runner(home, "--metrics-port", str(port), "--grace", "1", "--queues", "default,big") as runner:
        wait_for(lambda: "metrics are served" in home.runner_log.read_text(), what="the port")
        yield Served(home, AirExecutorClient(home.root), runner, port)


def ends(numbers: Numbers, state: str, kind: str, queue: str = "default") -> float | None:
    return value(numbers, metrics.ENDS, queue=queue, state=state, kind=kind)


def test_a_runner_tells_what_became_of_its_jobs(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    client = served.client
    secret = {"PASSWORD": "hunter2"}
    client.create_job("private-name", [shell("true # private-command", env=secret)], labels={"private-label": "x"})
    client.create_job("bad", [shell("exit 3")])
    client.create_job("late", [shell("sleep 60")], timeout=0.1)
    client.create_job("unwanted", [shell("sleep 60")], queue="big")
    client.create_job("elsewhere", [shell("true")], queue="nobody-serves-it")
    working(client, "unwanted")
    client.cancel("unwanted")
    for name in ("private-name", "bad", "late", "unwanted"):
        ended(client, name)
    pauses.pause(served.home, "nobody-serves-it")
    # A job is over before its runner has counted that, and each for itself.
    expected = [
        ("completed", "success"),
        ("failed", "exit_code"),
        ("failed", "timeout"),
        ("cancelled", "cancelled", "big"),
    ]
    numbers = served.numbers_with(
        lambda found: (
            all(ends(found, *each) for each in expected) and value(found, metrics.PAUSED, queue="nobody-serves-it")
        )
    )
    assert ends(numbers, "completed", "success") == ends(numbers, "failed", "exit_code") == 1
    assert ends(numbers, "failed", "timeout") == ends(numbers, "cancelled", "cancelled", "big") == 1
    assert value(numbers, metrics.LAUNCHES, queue="default", launcher="fork") == 3
    assert value(numbers, "air_executor_job_run_seconds_count", queue="default") == 3
    assert value(numbers, metrics.WAITING, queue="nobody-serves-it") == 1
    assert value(numbers, metrics.PAUSED, queue="default") == 0
    assert value(numbers, metrics.TEMPLATE_UP, module="air_runner.ephemeral") == 1
    assert value(numbers, metrics.WATCHES) == 1 and (value(numbers, metrics.EVENTS) or 0) > 0
    families = {family.name: family for family in exposition.parse(served.get())}
    assert list(families) == [metric.name for metric in metrics.ALL]
    silent = {name for name, family in families.items() if not family.samples}
    assert silent == {name for name in families if "slurm" in name}, "of Slurm tells who uses it"
    for private in ("private", "hunter2", "sleep"):
        assert private not in served.get()

    path = served.home.runner_metrics(served.runner.id)
    wait_for(lambda: ends(read(path.read_text()), "cancelled", "cancelled", "big") == 1, what="the file")
    assert cli.main(["--home", str(served.home.root), "metrics"]) == 0
    assert ends(read(capsys.readouterr().out), "failed", "timeout") == 1


def test_no_client_holds_up_jobs_or_other_clients(served: Served) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(socket.create_connection(("127.0.0.1", served.port)))
        flood = stack.enter_context(socket.create_connection(("127.0.0.1", served.port)))
        with contextlib.suppress(ConnectionError):
            flood.sendall(b"x" * 2**20)
        socket.create_connection(("127.0.0.1", served.port)).close()
        served.client.create_job("meanwhile", [shell("true")])
        assert ended(served.client, "meanwhile").state is JobState.COMPLETED
        assert read(served.get())
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://127.0.0.1:{served.port}/jobs", timeout=30)


def test_only_the_runner_has_the_socket(served: Served) -> None:
    runner = psutil.Process(served.runner.info.process.pid)
    listening = [
        process.pid
        for process in [runner, *runner.children(recursive=True)]
        if any(each.status == psutil.CONN_LISTEN for each in process.net_connections(kind="tcp"))
    ]
    assert listening == [runner.pid]


def test_a_runner_that_finds_the_port_taken_runs_jobs_and_has_it_later(served: Served, tmp_path: Path) -> None:
    """The last of this runner: as in an upgrade, the next one is there before it goes."""
    with testing.running_runner(served.home, "--metrics-port", str(served.port)) as second:
        wait_for(lambda: "metrics cannot be served" in served.home.runner_log.read_text(), what="the complaint")
        assert f'runner="{second.id}"' not in served.get()
        path = served.home.runner_metrics(served.runner.id)
        cli.main(["--home", str(served.home.root), "runner", "stop", served.runner.id, "--handover"])
        assert not path.exists()
        served.client.create_job("next", [shell("true")])
        assert ended(served.client, "next").state is JobState.COMPLETED
        wait_for(lambda: _answers(served.port), what="the port")
        assert f'runner="{second.id}"' in served.get()


def _answers(port: int) -> bool:
    with contextlib.suppress(ConnectionError):
        socket.create_connection(("127.0.0.1", port)).close()
        return True
    return False
