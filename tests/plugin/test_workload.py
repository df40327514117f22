"""What a job of Airflow does: a real runner forks it, a real task process runs the body, an API server answers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.executors.base_executor import BaseExecutor

from air_executor import model, preloads, processes, store
from air_executor.client import AirExecutorClient
from air_executor.model import ExitKind, JobState
from air_executor.paths import Home
from air_executor.testing import running_runner, wait_for
from airflow_plugin import tending, workload
from airflow_plugin.executor import AirExecutor
from airflow_plugin.workload import ExitCode
from tests.plugin import conftest, fleet

SECONDS = 60


class Api:
    """The stand-in for Airflow's execution API."""

    def __init__(self, directory: Path) -> None:
        self.script, self.output = directory / "script.json", directory / "requests"
        self.play({})
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.plugin.api_server", str(self.script)],
                stdout=output,
                cwd=Path(__file__).parents[2],
            )
        wait_for(lambda: self.output.read_text().endswith("\n"), what="the API server")
        self.url = f"http://127.0.0.1:{self.output.read_text().splitlines()[0]}/execution/"

    def play(self, answers: dict[str, Any]) -> None:
        temporary = self.script.with_suffix(".new")
        temporary.write_text(json.dumps(answers))
        temporary.replace(self.script)

    def requests(self, method: str, end: str) -> list[dict[str, Any]]:
        """The bodies of the requests so far."""
        found = [json.loads(line) for line in self.output.read_text().splitlines()[1:]]
        return [json.loads(body or "{}") for verb, path, body in found if verb == method and path.endswith(end)]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, Api, Path]]:
    """A home with a runner that has the workload preloaded, an API server, and a directory for marks."""
    directory = tmp_path_factory.mktemp("stage")
    dags = conftest.AIRFLOW_HOME / "dags"
    dags.mkdir(exist_ok=True)
    shutil.copy(Path(__file__).with_name("samples.py"), dags / "samples.py")
    marks, home = directory / "marks", Home(directory / "home")
    marks.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MARKS", str(marks))
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        # What a runner inherits from the scheduler that started it.
        patch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
        patch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "1")
        patch.setenv("AIRFLOW__WORKERS__EXECUTION_API_RETRIES", "1")
        api = Api(directory)
        try:
            with running_runner(home, "--preload", "airflow_plugin.workload"):
                yield home, api, marks
        finally:
            api.process.terminate()
            api.process.wait()


@pytest.fixture(autouse=True)
def _wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """No database knows these tasks: one that a busy machine lets wait for seconds would count as unwanted."""
    monkeypatch.setattr(tending, "INTERVAL", float("inf"))


@pytest.fixture
def api_server(stage: tuple[Home, Api, Path]) -> Api:
    stage[1].play({})
    return stage[1]


@pytest.fixture
def marks(stage: tuple[Home, Api, Path]) -> Path:
    for mark in stage[2].iterdir():
        mark.unlink()
    return stage[2]


@pytest.fixture
def home(stage: tuple[Home, Api, Path], monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("AIRFLOW__AIR_EXECUTOR__BASE_PATH", str(stage[0].root))
    monkeypatch.setenv("AIRFLOW__AIR_EXECUTOR__START_RUNNER", "False")
    monkeypatch.setenv(
        "AIRFLOW__AIR_EXECUTOR__SYNC_WAIT", "0"
    )  # or a quick end is collected before a test looks for it
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", stage[1].url)
    return stage[0]


def start(executor: AirExecutor, work: Any) -> str:
    """Hand a workload over; returns its job's name."""
    before = set(store.names(executor._door.site.home)) if executor._door.site else set()
    fleet.hand_over(executor, work)
    [name] = set(store.names(executor._door.site.home)) - before if executor._door.site else [""]
    return name


def finish(executor: AirExecutor, home: Home, name: str) -> model.Job:
    """Wait for the end of a job, and report it."""
    wait_for(lambda: executor.sync() or not executor.running, SECONDS, f"the end of {name}")
    wait_for(lambda: not home.job(name).workload.exists(), what="the last steps of the end")
    return store.read(home, name)


def run(executor: AirExecutor, home: Home, work: Any) -> model.Job:
    return finish(executor, home, start(executor, work))


def sample(task_id: str, **changes: Any) -> Any:
    return fleet.make_task(dag_id="samples", task_id=task_id, **changes).model_copy(
        update={"dag_rel_path": "samples.py"}
    )


def log_of(home: Home, job: model.Job) -> str:
    return home.job(job.name).log("workload").read_text()


# --- Tasks ---


def test_success(executor: AirExecutor, home: Home, api_server: Api) -> None:
    work = sample("succeeds")
    job = run(executor, home, work)
    assert (job.state, job.exit) == (JobState.COMPLETED, model.Exit(ExitKind.SUCCESS, "success", code=0))
    assert executor.get_event_buffer() == {work.key: (fleet.SUCCESS, None)}
    assert api_server.requests("PATCH", f"{work.ti.id}/state")[0]["state"] == "success"
    assert not home.job(job.name).workload.exists()


@pytest.mark.parametrize(
    ("task_id", "state", "told"),
    [
        ("skips", "skipped", True),
        ("defers", "deferred", False),
        ("reschedules", "up_for_reschedule", False),
    ],
)
def test_other_good_ends(
    executor: AirExecutor, home: Home, api_server: Api, task_id: str, state: str, told: bool
) -> None:
    work = sample(task_id)
    job = run(executor, home, work)
    assert job.exit == model.Exit(ExitKind.SUCCESS, state, code=0)
    assert bool(dict(executor.get_event_buffer())) is told


def test_a_failure_says_why(executor: AirExecutor, home: Home, api_server: Api) -> None:
    work = sample("raises")
    job = run(executor, home, work)
    reason = "ValueError: the reason of the body (failed)"
    assert job.exit == model.Exit(ExitKind.EXIT_CODE, reason, code=ExitCode.TASK_FAILED)
    assert store.read_tasks(home, job.name)[0].error == reason
    assert executor.get_event_buffer() == {work.key: (fleet.FAILED, reason)}
    log = log_of(home, job)
    assert "ERROR   task: Task failed with exception\n  File " in log
    assert "samples.py" in log and log.endswith(f"{reason}\n")


def test_nobody_waits_for_what_a_failed_task_leaves(
    executor: AirExecutor, home: Home, api_server: Api, marks: Path
) -> None:
    job = run(executor, home, sample("fails_and_leaves_a_child"))
    assert job.exit is not None and job.exit.reason == "ValueError: the reason of the body (failed)"
    assert job.usage["wall_s"] < 45  # Airflow would wait a minute for the output to be closed
    assert processes.start_time(int((marks / "child").read_text())) is None


def test_a_killed_task_says_by_what(executor: AirExecutor, home: Home, api_server: Api) -> None:
    job = run(executor, home, sample("dies"))
    assert job.exit is not None
    assert job.exit.reason == "its process was killed by SIGKILL (9) (failed)"


def test_a_task_that_is_not_in_the_file_says_so(executor: AirExecutor, home: Home, api_server: Api) -> None:
    job = run(executor, home, sample("nowhere"))
    assert job.exit is not None
    assert job.exit.reason == "Task not found in Dag during start up (failed)"


def test_secrets_are_masked(executor: AirExecutor, home: Home, api_server: Api) -> None:
    work = sample("leaks")
    job = run(executor, home, work)
    assert job.exit is not None and job.exit.reason == "ValueError: cannot log in with *** (failed)"
    written = [path.read_text(errors="replace") for path in home.job(job.name).root.rglob("*") if path.is_file()]
    assert all("hunter2" not in text and work.token not in text for text in written)
    assert "the password is ***" in log_of(home, job)


def test_the_environment_of_a_task(executor: AirExecutor, home: Home, api_server: Api) -> None:
    work = sample("shows_environment", executor_config={"env": {"MODE": "slow"}})
    log = log_of(home, run(executor, home, work))
    assert "MODE is slow" in log
    assert "variables: []" in log


def test_the_log_of_a_job_is_for_people(executor: AirExecutor, home: Home, api_server: Api) -> None:
    log = log_of(home, run(executor, home, sample("succeeds")))
    assert "\na line of the task\n" in log
    assert "::group::" not in log and "multi-threaded" not in log and "Traceback" not in log


def test_a_file_that_cannot_be_imported_says_why(executor: AirExecutor, home: Home, api_server: Api) -> None:
    (conftest.AIRFLOW_HOME / "dags" / "broken.py").write_text("import no_such_module\n")
    work = fleet.make_task(dag_id="broken").model_copy(update={"dag_rel_path": "broken.py"})
    job = run(executor, home, work)
    assert job.exit is not None
    assert "Dag not found during start up" in job.exit.reason and "no_such_module" in job.exit.reason


def test_what_tasks_import_is_preloaded(executor: AirExecutor, home: Home, api_server: Api) -> None:
    for _ in range(2):
        assert "there already: False" in log_of(home, run(executor, home, sample("imports")))
    path = preloads.own_file(home)
    known = wait_for(lambda: (m := preloads.read(path).of("airflow_plugin.workload").modules) and "imaplib" in m and m)
    assert "there already: True" in log_of(home, run(executor, home, sample("imports")))
    assert not [name for name in known if "samples" in name], "nothing of DAG files"


# --- What Airflow answers ---


def refusal(status: int, **detail: str) -> list[Any]:
    return [status, {"detail": {"message": "no", **detail}}]


@pytest.mark.parametrize(
    ("answer", "code", "reason"),
    [
        (
            refusal(409, reason="invalid_state", previous_state="running"),
            ExitCode.ALREADY_RUNNING,
            "this task instance is already running elsewhere",
        ),
        (
            refusal(409, reason="invalid_state", previous_state="failed"),
            ExitCode.START_REFUSED,
            "Airflow refused the start: no; its state is failed",
        ),
        (refusal(404, reason="not_found"), ExitCode.START_REFUSED, "Airflow refused the start: no"),
        ([403, {"detail": "Forbidden"}], ExitCode.START_REFUSED, "Airflow refused the start: Forbidden (403)"),
    ],
)
def test_a_refused_start(
    executor: AirExecutor, home: Home, api_server: Api, answer: list[Any], code: ExitCode, reason: str
) -> None:
    api_server.play({"PATCH /run": answer})
    work = sample("sleeps")
    job = run(executor, home, work)
    assert job.exit == model.Exit(ExitKind.EXIT_CODE, reason, code=code)
    assert bool(dict(executor.get_event_buffer())) is (code is not ExitCode.ALREADY_RUNNING)


@pytest.mark.parametrize(("life", "code"), [(-1, ExitCode.TOKEN_OUT_OF_DATE), (60, ExitCode.START_REFUSED)])
def test_a_start_refused_for_an_old_token_is_no_failure_of_the_task(
    executor: AirExecutor, home: Home, api_server: Api, life: float, code: ExitCode
) -> None:
    api_server.play({"PATCH /run": [403, {"detail": "Invalid auth token"}]})
    token = BaseExecutor().jwt_generator.generate({"sub": "1", "scope": "workload"}, valid_for=life)
    job = run(executor, home, sample("succeeds").model_copy(update={"token": token}))
    assert job.exit is not None and job.exit.code == code
    assert bool(dict(executor.get_event_buffer())) is (code is ExitCode.START_REFUSED)
    assert not executor.running


def test_a_server_in_trouble_at_the_start(executor: AirExecutor, home: Home, api_server: Api) -> None:
    api_server.play({"PATCH /run": [503, {"detail": "too busy"}]})
    job = run(executor, home, sample("sleeps"))
    assert job.exit is not None and job.exit.code == ExitCode.NOT_STARTED
    assert "too busy" in job.exit.reason


def test_a_server_that_is_not_there(
    executor: AirExecutor, home: Home, api_server: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", "http://127.0.0.1:9/execution/")
    job = run(fleet.start_executor(), home, sample("sleeps"))
    assert job.exit is not None and job.exit.code == ExitCode.NOT_STARTED
    assert "Airflow's API server at http://127.0.0.1:9/execution/ did not answer (ConnectError" in job.exit.reason


@pytest.mark.parametrize(
    ("answer", "code", "told"),
    [
        (refusal(409, reason="not_running", current_state="restarting"), ExitCode.STOPPED_BY_AIRFLOW, True),
        (refusal(410, reason="gone"), ExitCode.STOPPED_BY_AIRFLOW, True),
        (refusal(409, reason="running_elsewhere"), ExitCode.ALREADY_RUNNING, False),
    ],
)
def test_a_task_that_shall_not_run_any_more(
    executor: AirExecutor, home: Home, api_server: Api, marks: Path, answer: list[Any], code: ExitCode, told: bool
) -> None:
    work = sample("sleeps")
    name = start(executor, work)
    wait_for((marks / "began").exists, SECONDS)
    api_server.play({"PUT /heartbeat": answer})
    job = finish(executor, home, name)
    assert job.exit is not None and job.exit.code == code
    assert executor.get_event_buffer() == ({work.key: (fleet.SUCCESS, None)} if told else {})
    assert (marks / "killed").exists()


@pytest.mark.parametrize("task_id", ["succeeds", "raises"])
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (refusal(409, reason="invalid_state", previous_state="restarting"), ExitCode.STOPPED_BY_AIRFLOW),
        ([500, {"detail": "oops"}], ExitCode.NOT_DELIVERED),
    ],
)
def test_an_end_that_airflow_does_not_take(
    executor: AirExecutor, home: Home, api_server: Api, task_id: str, answer: list[Any], code: ExitCode
) -> None:
    api_server.play({"PATCH /state": answer})
    job = run(executor, home, sample(task_id))
    assert job.exit is not None and job.exit.code == code


def test_cancelling_the_job_lets_the_task_clean_up(
    executor: AirExecutor, home: Home, api_server: Api, marks: Path, api: AirExecutorClient
) -> None:
    work = sample("sleeps")
    name = start(executor, work)
    wait_for((marks / "began").exists, SECONDS)
    api.cancel(name, by="user ana")
    job = finish(executor, home, name)
    assert job.state is JobState.CANCELLED
    assert (marks / "killed").exists()
    assert executor.get_event_buffer() == {work.key: (fleet.FAILED, "cancelled by user ana")}


# --- Callbacks and connection tests ---


def test_a_callback(executor: AirExecutor, home: Home, api_server: Api, marks: Path) -> None:
    callback = fleet.make_callback("tests.plugin.samples.notify")
    callback.callback.data["kwargs"] = {"text": "hello"}
    job = run(executor, home, callback)
    assert job.state is JobState.COMPLETED
    assert (marks / "notified").read_text() == "hello"
    assert executor.get_event_buffer() == {callback.key: (fleet.CALLBACK_SUCCESS, None)}


def test_a_callback_that_raises(executor: AirExecutor, home: Home, api_server: Api) -> None:
    callback = fleet.make_callback("tests.plugin.samples.raise_alarm")
    job = run(executor, home, callback)
    assert job.exit is not None and job.exit.code == ExitCode.TASK_FAILED
    [(state, output)] = executor.get_event_buffer().values()
    assert state == fleet.CALLBACK_FAILED and "nobody is there" in output


def test_a_connection_test(executor: AirExecutor, home: Home, api_server: Api) -> None:
    test = fleet.make_connection_test()
    api_server.play({"GET /connection": refusal(404, reason="not_found")})
    job = run(executor, home, test)
    assert job.state is JobState.COMPLETED
    [told] = api_server.requests("PATCH", f"connection-tests/{test.connection_test_id}")
    assert told["state"] == "failed"


# --- By hand ---


def command(home: Home, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "airflow_plugin.workload", *arguments]
    return subprocess.run(program, env={**os.environ, **variables}, capture_output=True, text=True)


def test_anyone_can_run_a_workload_by_hand(api_server: Api, home: Home, tmp_path: Path) -> None:
    file, reason = tmp_path / "workload.json", tmp_path / "reason"
    file.write_text(sample("raises").model_dump_json())
    ran = command(home, "--server", api_server.url, str(file), AIR_EXECUTOR_REASON_FILE=str(reason))
    assert ran.returncode == ExitCode.TASK_FAILED
    assert reason.read_text() == "ValueError: the reason of the body (failed)"
    assert "ValueError: the reason of the body" in ran.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        ("", "holds no workload of this Airflow"),
        ("[]", "holds no workload of this Airflow"),
        ('{"type": "RunTrigger", "token": "secret-token"}', "(union_tag_invalid)"),
        ('{"type": "ExecuteTask", "token": "secret-token"}', "ExecuteTask.ti (missing)"),
    ],
)
def test_an_invalid_file_is_named_and_not_shown(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "workload.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(workload.InvalidWorkloadError) as caught:
        workload.read(file)
    assert str(file) in str(caught.value) and message in str(caught.value)
    assert "secret-token" not in str(caught.value)


def test_an_invalid_file_has_an_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert workload.main(["--server", "http://x", str(tmp_path / "none")]) == ExitCode.INVALID_WORKLOAD
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "cannot be read" in capsys.readouterr().err


def test_a_reason_that_cannot_be_written_leaves_the_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(workload.REASON_VARIABLE, str(tmp_path / "reason"))
    assert workload._end(ExitCode.TASK_FAILED, "no file \udcff") == ExitCode.TASK_FAILED
    assert (tmp_path / "reason").read_text() == "no file \\udcff"
    monkeypatch.setenv(workload.REASON_VARIABLE, "/dev/full")
    assert workload._end(ExitCode.TASK_FAILED, "it failed") == ExitCode.TASK_FAILED


def test_every_kind_of_workload_survives_the_file(tmp_path: Path) -> None:
    file = tmp_path / "workload.json"
    for work in (fleet.make_task(), fleet.make_callback(), fleet.make_connection_test()):
        file.write_bytes(work.model_dump_json().encode())
        read = workload.read(file)
        assert (type(read), read.key, read.token) == (type(work), work.key, work.token)


# --- As a template ---

PRELOAD = """
import os, socket, threading
from airflow_plugin import workload
workload.preload()
assert threading.active_count() == 1, threading.enumerate()
assert len(os.listdir("/proc/self/task")) == 1
for fd in os.listdir("/proc/self/fd"):
    path = f"/proc/self/fd/{fd}"
    assert not (os.path.lexists(path) and os.readlink(path).startswith("socket")), path
from airflow import settings
assert settings.engine is None
pid = os.fork()
if pid == 0:
    workload.after_fork()
    os._exit(0 if settings.engine is None else 1)
assert os.waitpid(pid, 0)[1] == 0
"""


def test_preloading_starts_no_thread_and_opens_no_connection() -> None:
    ran = subprocess.run([sys.executable, "-c", PRELOAD], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
