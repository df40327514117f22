"""start-dev.sh with real components: up, used, ended, and never a process left, however the end comes."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess

import pytest

from air_executor.testing import wait_for
from tests.scripts.conftest import CheckoutCopy, free_port

COMPONENTS = ("runner", "api-server", "scheduler", "dag-processor", "triggerer")
PRIVATE = ("airflow.cfg", "secrets.json", "passwords.json", "start-dev.json")


@pytest.fixture(scope="module")
def port() -> str:
    return str(free_port())


@pytest.fixture
def checkout(lasting_checkout: CheckoutCopy) -> CheckoutCopy:
    return lasting_checkout


def _state(checkout: CheckoutCopy) -> dict[str, dict[str, dict[str, int]]]:
    path = checkout.root / ".airflow" / "start-dev.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _wait_for_components(checkout: CheckoutCopy, process: subprocess.Popen[str]) -> dict[str, dict[str, int]]:
    def components() -> dict[str, dict[str, int]]:
        assert process.poll() is None
        found = _state(checkout).get("components", {})
        return found if "scheduler" in found else {}

    return wait_for(components, 60, "components")


def test_background_status_demo_stop(checkout: CheckoutCopy, port: str) -> None:
    started = checkout.run("start-dev.sh", "--background", "--port", port)
    assert started.returncode == 0, started.stderr
    assert f"http://localhost:{port}" in started.stdout
    assert re.search(r"User admin, password \S+", started.stdout)
    for name in COMPONENTS:
        assert f"{name} is up after" in started.stdout
        assert (checkout.root / ".airflow" / "logs" / f"{name}.log").exists()
    for name in PRIVATE:
        assert stat.S_IMODE((checkout.root / ".airflow" / name).stat().st_mode) == 0o600

    status = checkout.run("status.sh")
    assert status.returncode == 0, status.stdout
    assert "healthy" in status.stdout

    second = checkout.run("start-dev.sh", "--background", "--port", port)
    assert second.returncode == 1
    assert "already running here (pid" in second.stderr

    demo = checkout.run("start-dev.sh", "--demo")
    assert demo.returncode == 0, demo.stderr
    for task in ("print_date", "sleep", "print_hello"):
        assert re.search(rf"^  {task} +success", demo.stdout, re.MULTILINE)
    assert len(re.findall(r"^  completed +\.air-executor/jobs/", demo.stdout, re.MULTILINE)) == 3
    assert checkout.run("status.sh").returncode == 0, "a demo ends only what it started"

    stopped = checkout.run("start-dev.sh", "--stop")
    assert (stopped.returncode, stopped.stderr) == (0, "")
    for name in COMPONENTS:
        assert f"stopped {name} (pid" in stopped.stdout
    assert checkout.left() == []
    assert checkout.run("status.sh").returncode == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signal_in_the_foreground_ends_everything(checkout: CheckoutCopy, port: str, number: signal.Signals) -> None:
    process = checkout.start("start-dev.sh", "--port", port)
    _wait_for_components(checkout, process)
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == (0 if number is signal.SIGINT else 128 + number)
    assert "stopped scheduler" in out
    assert checkout.left() == []


def test_signal_to_a_background_start_ends_everything(checkout: CheckoutCopy, port: str) -> None:
    process = checkout.start("start-dev.sh", "--background", "--port", port)
    _wait_for_components(checkout, process)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert checkout.left() == []


def test_stop_after_the_supervisor_was_killed(checkout: CheckoutCopy, port: str) -> None:
    process = checkout.start("start-dev.sh", "--port", port)
    components = _wait_for_components(checkout, process)
    process.kill()
    process.communicate(timeout=60)
    stopped = checkout.run("start-dev.sh", "--stop")
    assert stopped.returncode == 0, stopped.stderr
    assert f"stopped scheduler (pid {components['scheduler']['pid']})" in stopped.stdout
    assert checkout.left() == []


def test_start_after_the_supervisor_was_killed(checkout: CheckoutCopy, port: str) -> None:
    assert checkout.run("start-dev.sh", "--background", "--port", port).returncode == 0
    content = json.loads((checkout.root / ".airflow" / "start-dev.json").read_text())
    os.kill(content["supervisor"], signal.SIGKILL)
    started = checkout.run("start-dev.sh", "--background", "--port", port)
    assert started.returncode == 0, started.stderr
    assert "scheduler is up after" in started.stdout, "what the old one said of itself must not count"
    assert checkout.run("status.sh").returncode == 0
    assert checkout.run("start-dev.sh", "--stop").returncode == 0
    assert checkout.left() == []


def test_component_that_dies_at_the_start_is_named(checkout: CheckoutCopy, port: str) -> None:
    done = checkout.run(
        "start-dev.sh", "--background", "--port", port, AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC="no number"
    )
    assert done.returncode == 1
    assert "start-dev.sh: triggerer ended with exit code 1; the last lines of" in done.stderr
    assert "JOB_HEARTBEAT_SEC" in done.stderr
    assert checkout.left() == []


def test_killed_component_is_started_again(checkout: CheckoutCopy, port: str) -> None:
    assert checkout.run("start-dev.sh", "--background", "--port", port).returncode == 0
    first = _state(checkout)["components"]["triggerer"]["pid"]
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: _state(checkout)["components"]["triggerer"]["pid"] != first, 20, "a new triggerer")
    assert "starting triggerer again" in (checkout.root / ".airflow" / "logs" / "start-dev.log").read_text()
    assert checkout.run("start-dev.sh", "--stop").returncode == 0
    assert checkout.left() == []
