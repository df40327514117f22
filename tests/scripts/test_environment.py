"""Which Python the scripts take."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FIND = 'die() { echo "$@"; exit 1; }; . scripts/lib/environment.sh; find_python; echo "$python"'


def _install(path: Path) -> Path:
    """A name for the Python of these tests."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    path.chmod(0o755)
    return path


def _find(tmp_path: Path, **variables: str) -> str:
    environment = {"root": str(ROOT), "PATH": str(tmp_path / "bin"), "HOME": str(tmp_path / "home"), **variables}
    shell = ["/bin/bash", "-euo", "pipefail", "-c", FIND]
    found = subprocess.run(shell, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return found.stdout.strip()


def test_a_python_of_pyenv_is_found_that_nobody_has_chosen(tmp_path: Path) -> None:
    _install(tmp_path / "bin/python3.11")
    _install(tmp_path / "home/.pyenv/versions/3.11.9/bin/python3.11")
    best = _install(tmp_path / "home/.pyenv/versions/3.12.4/bin/python3.12")
    assert _find(tmp_path) == str(best)
    elsewhere = _install(tmp_path / "manager/versions/3.12.1/bin/python3.12")
    assert _find(tmp_path, PYENV_ROOT=str(tmp_path / "manager")) == str(elsewhere)


def test_a_free_threaded_python_of_pyenv_is_not_taken(tmp_path: Path) -> None:
    _install(tmp_path / "bin/python3.11")
    _install(tmp_path / "home/.pyenv/versions/3.13.1t/bin/python3.13")
    assert _find(tmp_path) == "python3.11"


def test_what_is_named_is_taken_and_names_that_refuse_to_run_are_not(tmp_path: Path) -> None:
    refuses = _install(tmp_path / "bin/python3.12")
    refuses.write_text("#!/bin/sh\nexit 127\n")
    _install(tmp_path / "bin/python3.10")
    assert _find(tmp_path) == "python3.10"
    assert _find(tmp_path, AIR_EXECUTOR_PYTHON=sys.executable) == sys.executable
    refused = f"AIR_EXECUTOR_PYTHON={refuses} is not a complete Python"
    assert _find(tmp_path, AIR_EXECUTOR_PYTHON=str(refuses)).startswith(refused)
