"""The documentation is true: its commands run, its links lead somewhere, its tables name what there is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from air_executor import blueprints, clients, doctor, model, parameters, pipelines, settings
from air_executor.paths import Home
from air_executor.slurm import options
from air_executor.testing import end_everything

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*/*.md")]
)
BLOCK = re.compile(r"^```(\w+)( skip)?\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for kind, skip, text in BLOCK.findall(page.read_text()):
            if kind == language and not skip:
                found.append((page.name, text))
    return found


SHELL = [(name, text) for name, text in blocks("sh") if "air-executor" in text]


@pytest.mark.parametrize(("page", "script"), SHELL, ids=[f"{page}-{n}" for n, (page, _) in enumerate(SHELL)])
def test_commands_run(page: str, script: str, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "AIR_EXECUTOR_HOME": str(home.root)}
    try:
        if "runner start" not in script:
            subprocess.run(["air-executor", "runner", "start", "--detach"], env=environment, check=True, timeout=60)
        done = subprocess.run(
            ["sh", "-e", "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{page}: {done.stdout}\n{done.stderr}"
    finally:
        end_everything(home)


@pytest.mark.parametrize(("page", "source"), blocks("python"))
def test_python_compiles(page: str, source: str) -> None:
    compile(source, page, "exec")


OF_PIPELINES = "pipelines.md"


@pytest.mark.parametrize("text", [text for page, text in blocks("toml") if page == OF_PIPELINES])
def test_examples_of_pipelines_are_sound(text: str, tmp_path: Path) -> None:
    (tmp_path / "example.toml").write_text(text)
    found = pipelines.examine(tmp_path / "example.toml")
    assert (found.blueprint.problems, found.blueprint.warnings, found.rehearse()) == ((), (), [])


def test_every_key_of_a_pipeline_is_documented() -> None:
    text = (ROOT / "docs" / OF_PIPELINES).read_text()
    for key in (*blueprints.OPTION_TYPES, *blueprints.TASK_TYPES, *parameters.KEYS, *parameters.TYPES):
        assert f"`{key}`" in text, key


@pytest.mark.parametrize(("page", "text"), [found for found in blocks("toml") if found[0] != OF_PIPELINES])
def test_config_examples_load(page: str, text: str, tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.config.write_text(text)
    settings.load(home, {})


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?://)([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_key_of_the_files_is_documented() -> None:
    text = (ROOT / "docs" / "file-formats.md").read_text()
    for kind in (model.Job, model.Task, model.Exit):
        for item in fields(kind):
            assert item.name == "extra" or f"`{item.name}`" in text, f"{kind.__name__}.{item.name}"
    for exit_kind in model.ExitKind:
        assert f"`{exit_kind}`" in text, exit_kind


def test_every_option_of_a_runner_is_documented() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    for item in fields(settings.RunnerSettings):
        assert f"AIR_EXECUTOR_RUNNER_{item.name.upper()}" in text, item.name
    for item in fields(settings.RetentionSettings):
        assert f"AIR_EXECUTOR_RETENTION_{item.name.upper()}" in text, item.name
    for item in fields(settings.HttpSettings):
        assert f"AIR_EXECUTOR_HTTP_{item.name.upper()}" in text, item.name
    for item in fields(settings.SlurmSettings):
        assert f"AIR_EXECUTOR_SLURM_{item.name.upper()}" in text, item.name
    for name in {item.name for item in fields(settings.QueueSettings)} - {"slurm"} | set(options.NAMES):
        assert f"`{name}`" in text, name


def test_every_request_and_refusal_of_the_api_is_documented() -> None:
    from air_executor.http import problems
    from air_executor.http.app import PREFIX, build
    from air_executor.http.service import Service

    text = (ROOT / "docs" / "http.md").read_text()
    document = build(Service(Home(Path("nowhere")), settings.HttpSettings())).openapi()
    for path in document["paths"]:
        short = path.removeprefix(PREFIX)
        assert short in text or f"/{short.rpartition('/')[2]}`" in text, path
    for word in problems.TITLES:
        assert f"`{word}`" in text, word


def test_every_method_of_a_client_is_documented() -> None:
    text = (ROOT / "docs" / "python.md").read_text()
    named = re.findall(r"^\| `(\w+)", text, re.MULTILINE)
    assert sorted(named) == sorted(name for name in vars(clients.Client) if not name.startswith("_"))


def test_every_option_of_a_webhook_is_documented() -> None:
    text = (ROOT / "docs" / "webhooks.md").read_text()
    for item in fields(settings.WebhookSettings):
        assert f"`{item.name}`" in text, item.name


def test_every_option_of_slurm_is_documented() -> None:
    text = (ROOT / "docs" / "slurm.md").read_text()
    for name in options.NAMES:
        assert f"`{name}`" in text, name


def test_every_check_of_doctor_is_documented() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    table = text[text.index("| check |") :].partition("\n\n")[0]
    named = [name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(named) == sorted(check.value for check in doctor.Check)
