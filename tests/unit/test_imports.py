"""What is not imported: a command line that starts slowly is not used, and the core knows no Airflow."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import pytest

HEAVY = ("airflow", "fastapi", "pydantic", "sqlalchemy", "psutil", "watchdog", "asyncio", "subprocess", "dataclasses")
OF_THE_CORE = ("airflow", "airflow_plugin", "air_runner", "fastapi", "pydantic", "sqlalchemy", "asyncio", "watchdog")


def modules_after(program: str) -> set[str]:
    """What a fresh interpreter has loaded at the end of a program, beyond what it has at its start."""
    tail = "\nimport json, sys\nprint('\\n' + json.dumps(sorted(set(sys.modules) - before)))"
    head = "import sys\nbefore = set(sys.modules)\n"
    done = subprocess.run([sys.executable, "-c", head + program + tail], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_package_alone_imports_nothing_of_itself() -> None:
    loaded = modules_after("import air_executor")
    assert {name for name in loaded if name.startswith("air_executor")} == {"air_executor"}
    assert not loaded & set(HEAVY)


def test_help_loads_the_parser_and_nothing_else() -> None:
    loaded = modules_after("from air_executor import cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass")
    assert not loaded & set(HEAVY)
    ours = {name for name in loaded if name.startswith("air_executor.") and not name.startswith("air_executor.cli")}
    assert ours == {"air_executor.errors"}


@pytest.mark.parametrize(
    "module", ["client", "runners", "repair", "status", "doctor", "components", "settings", "cli.submit", "testing"]
)
def test_the_core_knows_no_airflow(module: str) -> None:
    assert not modules_after(f"import air_executor.{module}") & set(OF_THE_CORE)


def test_submitting_loads_no_airflow(tmp_path: object) -> None:
    program = f"from air_executor import cli\ncli.main(['--home', '{tmp_path}/h', 'submit', '--', 'true'])"
    assert not modules_after(program) & set(OF_THE_CORE)


def test_the_time_for_help_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Told, not judged: other tests may be using the processor. What counts is judged above."""

    def cpu(program: str) -> float:
        def spent() -> float:
            usage = resource.getrusage(resource.RUSAGE_CHILDREN)
            return usage.ru_utime + usage.ru_stime

        before = spent()
        subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
        return spent() - before

    help_program = "from air_executor import cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass"
    bare, imported, helped = (
        min(cpu(each) for _ in range(3)) for each in ("pass", "import air_executor", help_program)
    )
    with capsys.disabled():
        print(
            f"\nCPU: python {bare * 1000:.0f} ms, import air_executor {imported * 1000:.0f}, --help {helped * 1000:.0f}"
        )
