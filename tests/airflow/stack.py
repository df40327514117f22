"""A throw-away Airflow: its own home, ports and database; every component a real process.

What a component is, how it starts and ends, and where its log is, lives here. What one asks of a running Airflow is in
`rest`, what the executor leaves on disk is in `home`.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from tests.airflow import databases, processes, rest, waiting
from tests.airflow import home as homes

BIN = Path(sys.executable).parent
DAGS = Path(__file__).parent / "dags"
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
HEALTH_NAMES = ("metadatabase", "scheduler", "dag_processor", "triggerer")
# A stack that is still coming up after this long on two busy cores will not come up.
START_SECONDS = 120
# What an operator of Airflow would call an exception in a component's log.
TRACEBACK = re.compile(r"Traceback \(most recent call last\)")
LIVE: list[Stack] = []


class Stack:
    """One Airflow installation in `root`. Use as a context manager, or call start() and stop()."""

    def __init__(
        self,
        root: Path,
        database: databases.Database,
        *,
        executor: str,
        dags: Path = DAGS,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.root, self.database, self.dags = root, database, dags
        self.home = homes.Home(root / "air")
        self.api_port, self.log_port, self.triggerer_log_port = free_ports(3)
        self.rest = rest.Rest(f"http://127.0.0.1:{self.api_port}")
        self.environment = self._environment({"CORE__EXECUTOR": executor, **(settings or {})})
        self._components: dict[str, subprocess.Popen[bytes]] = {}
        self._read_to: dict[str, int] = {}
        self._scheduler_settings: dict[str, str] = {}

    def __enter__(self) -> Stack:
        LIVE.append(self)
        try:
            self.start()
        except BaseException:
            self.stop(check=False)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # What a failure leaves running is no news, and must not hide the failure.
        self.stop(check=kind is None)

    def start(self) -> None:
        for directory in ("tmp", "log", "marks"):
            (self.root / directory).mkdir(parents=True, exist_ok=True)
        self.airflow("db", "migrate")
        for name in COMPONENTS:
            self.start_component(name, **self._knows_every_executor(name))
        waiting.until(self.rest.log_in, "the API server to give a token", START_SECONDS)
        self.wait_healthy()
        waiting.until(lambda: self.rest.dag_ids() >= self.own_dags(), "the DAG files to be parsed", START_SECONDS)

    def stop(self, check: bool = True) -> None:
        """End everything that belongs to this stack; with `check`, fail if something outlived its own shutdown."""
        with contextlib.suppress(ValueError):
            LIVE.remove(self)
        # A server that is told to end waits for its clients.
        self.rest.close()
        components = [psutil.Process(popen.pid) for popen in self._components.values() if popen.poll() is None]
        log_servers = [server for component in components for server in _log_servers(component)]
        processes.end(components, 30)
        processes.end(log_servers, 5)
        for popen in self._components.values():
            popen.wait(10)
        self._components.clear()
        self.end_runners()
        left = self._left_over()
        processes.end(processes.belonging(self.root), 5)
        if check and left:
            raise AssertionError("processes outlived the stack:\n" + "\n".join(left))

    def wait_healthy(self) -> None:
        waiting.until(lambda: self.rest.healthy(*HEALTH_NAMES), "all components to be healthy", START_SECONDS, 0.3)

    def airflow(self, *arguments: str) -> None:
        """Run an `airflow` command to its end."""
        with self.log_file("commands").open("ab") as log:
            command = [str(BIN / "airflow"), *arguments]
            subprocess.run(command, env=self.environment, cwd=self.root, stdout=log, stderr=log, check=True)

    # Components

    @staticmethod
    def _knows_every_executor(name: str) -> dict[str, str]:
        """The DAG processor refuses a DAG that names an executor it does not know; some tests add one later."""
        return {"CORE__EXECUTOR": "airflow_plugin.AirExecutor,LocalExecutor"} if name == "dag-processor" else {}

    def start_component(self, name: str, **settings: str) -> None:
        arguments = ["--host", "127.0.0.1", "--port", str(self.api_port)] if name == "api-server" else []
        self.spawn(name, [str(BIN / "airflow"), name, *arguments], **settings)

    def spawn(self, name: str, command: list[str], **settings: str) -> psutil.Process:
        environment = {**self.environment, **airflow_variables(settings)}
        with self.log_file(name).open("ab") as log:
            popen = subprocess.Popen(
                command, env=environment, cwd=self.root, stdout=log, stderr=log, start_new_session=True
            )
        self._components[name] = popen
        return psutil.Process(popen.pid)

    def component(self, name: str) -> psutil.Process:
        return psutil.Process(self._components[name].pid)

    def running(self, name: str) -> bool:
        return name in self._components and self._components[name].poll() is None

    def live_components(self) -> list[str]:
        return [name for name in self._components if self.running(name)]

    def end_component(self, name: str, number: signal.Signals = signal.SIGTERM, seconds: float = 60) -> None:
        popen = self._components.pop(name)
        popen.send_signal(number)
        popen.wait(seconds)

    def kill_scheduler(self, name: str = "scheduler") -> None:
        """kill -9, the scheduler's process alone: what it started is on its own from now on."""
        log_servers = _log_servers(self.component(name))
        self.end_component(name, signal.SIGKILL)
        processes.end(log_servers, 5)

    def start_scheduler(self, **settings: str) -> None:
        """Start the scheduler and wait until it has told the database that it is there."""
        jobs = "select count(*) from job where job_type = 'SchedulerJob'"
        before = self.sql(jobs)[0][0]
        self._scheduler_settings = settings
        self.start_component("scheduler", **settings)
        waiting.until(lambda: self.sql(jobs)[0][0] > before, "the scheduler to start", START_SECONDS)

    def use_scheduler(self, **settings: str) -> None:
        """Have a running scheduler with these settings on top of the stack's own; restart it only if it has others."""
        if self.running("scheduler") and settings == self._scheduler_settings:
            return
        if "scheduler" in self._components:
            self.end_component("scheduler")
        self.start_scheduler(**settings)

    # Runners

    def air_executor(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the command line tool as the owner of this home does."""
        command = [str(BIN / "air-executor"), *arguments]
        return subprocess.run(
            command, env=self.environment, cwd=self.root, capture_output=True, text=True, check=check, timeout=60
        )

    @contextlib.contextmanager
    def runner(self, queue: str, *arguments: str) -> Iterator[str]:
        """One more runner, which serves that queue; its id, once it is registered."""
        command = ["runner", "start", "--queues", queue, "--preload", "airflow_plugin.workload", *arguments]
        self.spawn(f"runner-{queue}", [str(BIN / "air-executor"), *command])
        try:
            found = waiting.until(lambda: self.home.runners_for(queue), "the runner to register", 30)
            yield str(found[0]["id"])
        finally:
            self.end_component(f"runner-{queue}")

    def end_runners(self) -> None:
        """End the runners that the executor started: they outlive a scheduler on purpose."""
        found = [found for runner in self.home.runners() if (found := _process(runner["process"]["pid"])) is not None]
        processes.end(found, 20)

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        return self.database.query(statement)

    # What the bodies of tasks and the tests tell each other (dags/marks.py)

    def marks(self, name: str) -> list[str]:
        file = self.root / "marks" / name
        return file.read_text().splitlines() if file.exists() else []

    def release(self, name: str) -> None:
        (self.root / "marks" / f"{name}.release").touch()

    # Logs

    def log_file(self, name: str) -> Path:
        return self.root / "log" / f"{name}.log"

    def tails(self, characters: int = 4000) -> Iterator[tuple[str, str]]:
        for file in sorted((self.root / "log").glob("*.log")):
            lines = file.read_text(errors="replace").splitlines(keepends=True)
            yield file.stem, "".join(line for line in lines if "[http.access]" not in line)[-characters:]

    def new_output(self, name: str) -> str:
        """What a component has written since this was last asked."""
        text = self.log_file(name).read_text(errors="replace")
        start = self._read_to.get(name, 0)
        self._read_to[name] = len(text)
        return text[start:]

    def assert_no_exception(self, *names: str) -> None:
        """No component has logged an exception since this was last asked."""
        for name in names or COMPONENTS:
            text = self.new_output(name)
            found = TRACEBACK.search(text)
            assert not found, f"{name} logged an exception:\n{text[max(0, found.start() - 1500) : found.end() + 3000]}"

    def _left_over(self) -> list[str]:
        """LocalExecutor's workers do not count: they wait for ever for a lock that one of them was ended with."""

        def left() -> list[str]:
            found = map(processes.describe, processes.belonging(self.root))
            return [each for each in found if "airflow worker -- LocalExecutor" not in each]

        try:
            waiting.until(lambda: not left(), "the stack's processes to end", 10)
        except TimeoutError:
            return left()
        return []

    def own_dags(self) -> set[str]:
        """Every DAG id that the DAG files below `dags` name in full."""
        texts = (file.read_text() for file in self.dags.glob("*.py"))
        return {name for text in texts for name in re.findall(r"^(?:with DAG|@dag)\(\s*\"([\w.-]+)\"", text, re.M)}

    def _environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        """Nothing of the caller's environment but what measures coverage: it must not decide a test's outcome."""
        kept = {name: value for name, value in os.environ.items() if name.startswith(("COVERAGE_", "COV_CORE_"))}
        return {
            **kept,
            "PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.root),
            "TMPDIR": str(self.root / "tmp"),
            "LANG": "C.UTF-8",
            "AIRFLOW_HOME": str(self.root),
            "AIR_EXECUTOR_HOME": str(self.home.path),
            # Offline on every machine, so that examples which install packages fail everywhere alike.
            "PIP_NO_INDEX": "1",
            "UV_OFFLINE": "1",
            "NO_PROXY": "*",
            processes.MARK: str(self.root),
            **airflow_variables({**self._settings(), **settings}),
        }

    def _settings(self) -> dict[str, str]:
        return {
            "API__BASE_URL": f"http://127.0.0.1:{self.api_port}",
            "API__SECRET_KEY": secrets.token_hex(16),
            "API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "CORE__DAGS_FOLDER": str(self.dags),
            "CORE__DEFAULT_POOL_TASK_SLOT_COUNT": "256",
            "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{self.api_port}/execution/",
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__PLUGINS_FOLDER": str(self.root / "plugins"),
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "CORE__TEST_CONNECTION": "Enabled",
            "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
            "DAG_PROCESSOR__REFRESH_INTERVAL": "3600",
            "DATABASE__SQL_ALCHEMY_CONN": self.database.url,
            "LOGGING__BASE_LOG_FOLDER": str(self.root / "logs"),
            "LOGGING__COLORED_CONSOLE_LOG": "False",
            "LOGGING__TRIGGER_LOG_SERVER_PORT": str(self.triggerer_log_port),
            "LOGGING__WORKER_LOG_SERVER_PORT": str(self.log_port),
            "USAGE_DATA_COLLECTION__ENABLED": "False",
            # A busy machine: what Airflow asks a second time it may answer otherwise (a connection is told but once).
            "WORKERS__EXECUTION_API_TIMEOUT": "30",
        }


def airflow_variables(settings: Mapping[str, str]) -> dict[str, str]:
    return {f"AIRFLOW__{name}": value for name, value in settings.items()}


def _log_servers(component: psutil.Process) -> list[psutil.Process]:
    """Airflow's own does not notice the death of its parent, and would keep the port from the next one."""
    try:
        return [child for child in component.children() if processes.describe(child).rstrip().endswith("serve-logs")]
    except psutil.NoSuchProcess:
        return []


def free_ports(count: int) -> list[int]:
    """Ports nobody uses now; they are held together so that they differ."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for bound in sockets:
            bound.bind(("127.0.0.1", 0))
        return [bound.getsockname()[1] for bound in sockets]


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None
