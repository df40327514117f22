"""What start-dev.sh and status.sh refuse: one clear line, a non-zero exit code, and nothing left behind."""

from __future__ import annotations

import fcntl
import shutil
import socket
from pathlib import Path

import pytest

from tests.scripts.conftest import CheckoutCopy, free_port

TOOLS = ("bash", "cat", "chmod", "cmp", "dirname", "flock", "id", "mkdir", "tail")


@pytest.fixture
def port() -> str:
    return str(free_port())


def _tools(directory: Path) -> Path:
    """A PATH with what the script calls, and no Python."""
    directory.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found, name
        (directory / name).symlink_to(found)
    return directory


def _program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def _assert_refused(checkout: CheckoutCopy, *arguments: str, code: int = 1, says: str, **changes: str) -> None:
    done = checkout.run("start-dev.sh", *arguments, **changes)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("start-dev.sh: ")
    assert done.stderr.count("\n") == 1
    assert says in done.stderr
    assert checkout.left() == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--sideways"], "unknown option --sideways"),
        (["--demo", "--stop"], "--demo and --stop exclude each other"),
        (["--port"], "--port needs a number"),
        (["--port", "http"], "--port http is not a port"),
        (["--port=80"], "--port 80 is not a port from 1024 to 65535"),
        (["--port", "70000"], "--port 70000 is not a port from 1024 to 65535"),
    ],
)
def test_options(checkout: CheckoutCopy, arguments: list[str], says: str) -> None:
    _assert_refused(checkout, *arguments, code=2, says=says)
    assert checkout.made() == set()


def test_help_names_every_option(checkout: CheckoutCopy) -> None:
    done = checkout.run("start-dev.sh", "--help")
    assert (done.returncode, done.stderr, checkout.made()) == (0, "", set())
    for option in ("--background", "--demo", "--stop", "--port", "--dev"):
        assert option in done.stdout


@pytest.mark.parametrize(
    ("offset", "purpose"), [(0, "the web page"), (10_000, "the logs of workers"), (20_000, "the logs of the triggerer")]
)
def test_port_in_use(checkout: CheckoutCopy, port: str, offset: int, purpose: str) -> None:
    taken = int(port) + offset
    with socket.create_server(("127.0.0.1", taken)):
        says = f"port {taken} (for {purpose}) is in use by another program"
        _assert_refused(checkout, "--background", "--port", port, says=says)
    assert checkout.made() == set()


def test_port_that_follows_downwards_in_use(checkout: CheckoutCopy) -> None:
    port = free_port(range(61_000, 65_535), -10_000)
    with socket.create_server(("127.0.0.1", port - 20_000)):
        says = f"port {port - 20_000} (for the logs of the triggerer) is in use"
        _assert_refused(checkout, "--port", str(port), says=says)
    assert checkout.made() == set()


def test_port_that_only_binding_finds(checkout: CheckoutCopy, port: str) -> None:
    """A port that nobody listens on, but that another program has: the shell does not see that."""
    follows = int(port) + 10_000
    with socket.socket() as held:
        held.bind(("127.0.0.1", follows))
        _assert_refused(checkout, "--port", port, says=f"port {follows} (for the logs of workers) is in use")


def test_no_python(checkout: CheckoutCopy, port: str) -> None:
    path = str(_tools(checkout.root / "scripts" / "tools"))
    says = "no Python 3.10, 3.11, 3.12 or 3.13 on PATH: install one (apt install python3"
    _assert_refused(checkout, "--port", port, says=says, PATH=path, PYENV_ROOT="/nowhere", AIR_EXECUTOR_VENV="")
    assert checkout.made() == set()


def test_names_of_pythons_that_do_not_run(checkout: CheckoutCopy, port: str) -> None:
    tools = _tools(checkout.root / "scripts" / "tools")
    for name in ("python3.12", "python3", "python"):
        _program(tools / name, "echo 'command not found' >&2; exit 127")
    _assert_refused(
        checkout, "--port", port, says="no Python 3.10", PATH=str(tools), PYENV_ROOT="/nowhere", AIR_EXECUTOR_VENV=""
    )
    assert checkout.made() == set()


def test_python_without_venv(checkout: CheckoutCopy, port: str) -> None:
    tools = _tools(checkout.root / "scripts" / "tools")
    _program(tools / "python3", 'case "$2" in *ensurepip*) exit 1 ;; *print*) echo 3.11 ;; esac')
    says = "python3 has no venv module: install it (apt install python3.11-venv)"
    _assert_refused(checkout, "--port", port, says=says, PATH=str(tools), PYENV_ROOT="/nowhere", AIR_EXECUTOR_VENV="")
    assert checkout.made() == set()


def test_unsuitable_choice_of_python(checkout: CheckoutCopy, port: str) -> None:
    says = "AIR_EXECUTOR_PYTHON=/bin/false is not a complete Python 3.10, 3.11, 3.12 or 3.13"
    _assert_refused(checkout, "--port", port, says=says, AIR_EXECUTOR_PYTHON="/bin/false", AIR_EXECUTOR_VENV="")
    assert checkout.made() == set()


def test_environment_that_is_none(checkout: CheckoutCopy, port: str) -> None:
    says = "AIR_EXECUTOR_VENV=/nowhere has no bin/python that runs"
    _assert_refused(checkout, "--port", port, says=says, AIR_EXECUTOR_VENV="/nowhere")
    assert checkout.made() == set()


def test_directory_that_cannot_be_written(checkout: CheckoutCopy, port: str) -> None:
    (checkout.root / ".airflow").write_text("in the way, for root too\n")
    _assert_refused(checkout, "--port", port, says=f"cannot write to {checkout.root}/.airflow")
    assert checkout.made() == {".airflow"}


@pytest.mark.parametrize("arguments", [[], ["--background"]])
def test_second_start(checkout: CheckoutCopy, port: str, arguments: list[str]) -> None:
    lock = checkout.root / ".airflow" / "start-dev.lock"
    lock.parent.mkdir()
    with lock.open("w") as held:
        held.write("pid 4711, http://localhost:8080")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        says = "already running here (pid 4711, http://localhost:8080): stop it with ./start-dev.sh --stop"
        _assert_refused(checkout, *arguments, "--port", port, says=says)


def test_stop_when_nothing_runs(checkout: CheckoutCopy) -> None:
    done = checkout.run("start-dev.sh", "--stop")
    assert (done.returncode, done.stdout, done.stderr) == (0, "nothing runs here\n", "")
    assert checkout.made() == set()


def test_status_before_anything_is_installed(checkout: CheckoutCopy) -> None:
    done = checkout.run("status.sh", AIR_EXECUTOR_VENV="")
    assert (done.returncode, done.stdout) == (2, "")
    assert "not running: nothing is installed here yet (start it with ./start-dev.sh)" in done.stderr


def test_status_while_nothing_runs(checkout: CheckoutCopy) -> None:
    done = checkout.run("status.sh")
    assert done.returncode == 2
    assert "not running" in done.stdout and "with: ./start-dev.sh" in done.stdout
    assert "runner start" not in done.stdout
    assert checkout.made() == set()
