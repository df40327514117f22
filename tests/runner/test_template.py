"""The template: replaced when what it has loaded changes, and taught by its jobs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from air_executor import AirExecutorClient, preloads, runners
from air_executor.model import Job, JobState, Task
from air_executor.paths import Home
from air_executor.preloads import Verdict
from air_executor.store import Submission
from air_executor.testing import RunnerProcess, wait_for
from air_runner import freshness, template
from tests.runner.conftest import StartRunner
from tests.runner.test_lifecycle import ended

MAIN = """
    import importlib, os, sys, time
    from pathlib import Path
    CONFIG = Path(__file__).with_name("thing.cfg")
    SETTING = CONFIG.read_text()
    LOADED_IN = os.getpid()
    def watched_paths():
        return [CONFIG, CONFIG.with_name("plugins")]
    def main(argv):
        print(json(argv))
        return 0
    def json(names):
        import json
        before = set(sys.modules)
        for name in names:
            importlib.import_module(name)
        new = sorted(set(names) - before)
        return json.dumps({"setting": SETTING, "template": os.getppid(), "loaded in": LOADED_IN,
            "forked": os.getpid() != LOADED_IN, "new": new})
    if __name__ == "__main__":
        main(sys.argv[1:])
    """


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the module `thing` is, which templates preload, with its configuration."""
    (tmp_path / "thing.py").write_text(textwrap.dedent(MAIN))
    (tmp_path / "thing.cfg").write_text("first")
    (tmp_path / "plugins").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    wait_until_old(tmp_path)
    return tmp_path


def wait_until_old(directory: Path) -> None:
    """What is changed while a template loads it counts as changed: be done before."""
    newest = max(path.stat().st_mtime for path in directory.rglob("*"))
    wait_for(lambda: time.time() > newest + 0.1)


class Jobs:
    """Runs `thing`, and tells what its jobs said."""

    def __init__(self, client: AirExecutorClient) -> None:
        self.client = client
        self.count = 0

    def start(self, *imports: str) -> str:
        self.count += 1
        name = f"job-{self.count}"
        task = Task(command=sys.executable, args=["-m", "thing", *imports])
        self.client.submit(Submission(Job(name=name, template="thing"), [task]))
        return name

    def say(self, *imports: str) -> dict[str, Any]:
        name = self.start(*imports)
        assert ended(self.client, name).state is JobState.COMPLETED, self.client.logs(name)
        said: dict[str, Any] = json.loads(self.client.logs(name))
        return said


@pytest.fixture
def jobs(client: AirExecutorClient) -> Jobs:
    return Jobs(client)


def log_of(home: Home) -> str:
    return home.runner_log.read_text()


def templates(runner: RunnerProcess) -> list[psutil.Process]:
    children = psutil.Process(runner.popen.pid).children()
    return [child for child in children if "thing" in child.cmdline()]


# --- Replacement ---


def rewrite_config(place: Path) -> None:
    (place / "thing.cfg").write_text("second")


def rewrite_module(place: Path) -> None:
    module = place / "thing.py"
    module.write_text(module.read_text().replace("CONFIG.read_text()", "'second'"))


def add_plugin(place: Path) -> None:
    rewrite_config(place)
    (place / "plugins" / "new.py").touch()


def install_package(place: Path) -> None:
    (place / "thing-2.dist-info").mkdir()


@pytest.mark.parametrize("change", [rewrite_config, rewrite_module, add_plugin, install_package])
def test_a_job_after_a_change_runs_with_what_is_new(
    home: Home, jobs: Jobs, start_runner: StartRunner, place: Path, change: Callable[[Path], None]
) -> None:
    start_runner("--preload", "thing")
    first = jobs.say()
    assert jobs.say()["loaded in"] == first["loaded in"]
    change(place)
    changed_at = time.monotonic()
    wait_for(lambda: time.monotonic() > changed_at + freshness.LOOK_INTERVAL)
    then = jobs.say()
    assert then["loaded in"] != first["loaded in"]
    assert then["forked"]
    assert then["setting"] == ("first" if change is install_package else "second")
    assert len(re.findall("template for thing is replaced: .*(changed|installed)", log_of(home))) == 1


def test_jobs_that_were_asked_of_a_template_that_ends_are_launched_by_the_next(
    home: Home, jobs: Jobs, start_runner: StartRunner, place: Path
) -> None:
    runner = start_runner("--preload", "thing")
    jobs.say()
    [old] = templates(runner)
    old.suspend()
    names = [jobs.start() for _ in range(5)]
    wait_for(lambda: len(list(home.claims(runner.id).iterdir())) == 5)
    old.kill()
    for name in names:
        assert ended(jobs.client, name).state is JobState.COMPLETED
        assert json.loads(jobs.client.logs(name))["forked"]
    assert log_of(home).count("template for thing is replaced: it") == 1


def test_a_template_is_renewed_when_somebody_asks(
    home: Home, jobs: Jobs, start_runner: StartRunner, place: Path
) -> None:
    runner = start_runner("--preload", "thing")
    first = jobs.say()
    runners.tell(home, runner.id, "renew")
    wait_for(lambda: not psutil.pid_exists(first["template"]), what="the end of the old template")
    assert jobs.say()["loaded in"] != first["loaded in"]
    assert "template for thing is replaced: somebody asked for it" in log_of(home)


def test_what_changes_all_the_time_is_left_to_exec(
    home: Home, jobs: Jobs, start_runner: StartRunner, place: Path
) -> None:
    module = place / "thing.py"
    module.write_text(module.read_text().replace("SETTING =", "CONFIG.write_text(str(os.getpid()))\nSETTING ="))
    start_runner("--preload", "thing")
    for _ in range(3):
        said = jobs.say()
        assert not said["forked"]
    assert log_of(home).count("no template for thing") == 1
    assert "thing.cfg was changed as it was loaded" in log_of(home)


def test_freshness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "plugins"
    (folder / "below").mkdir(parents=True)
    for path in (folder / "a.py", folder / "below" / "b.py", tmp_path / "settings"):
        path.write_text("1")
    missing = tmp_path / "missing"
    wait_until_old(tmp_path)
    monkeypatch.setattr(freshness, "LOOK_INTERVAL", 0.0)

    def after(change: Callable[[], object]) -> str | None:
        fresh = freshness.Freshness(time.time())
        fresh.note([folder, tmp_path / "settings", missing])
        assert fresh.change() is None
        change()
        found = fresh.change()
        wait_until_old(tmp_path)
        return found

    def compile_it() -> None:
        (folder / "__pycache__").mkdir()
        (folder / "notes.txt").touch()

    assert after(compile_it) is None
    assert after(lambda: (folder / "below" / "b.py").write_text("22")) == f"{folder}/below/b.py has changed"
    assert after(lambda: (folder / "below" / "c.py").touch()) == f"{folder}/below has changed"
    assert after(lambda: (folder / "a.py").unlink()) == f"{folder} has changed"
    assert after(lambda: (tmp_path / "settings").write_text("3")) == f"{tmp_path}/settings has changed"
    assert after(missing.touch) == f"{missing} has changed"


def test_a_change_during_the_load_counts(tmp_path: Path) -> None:
    began = time.time()
    (tmp_path / "settings").write_text("1")
    fresh = freshness.Freshness(began)
    fresh.note([tmp_path / "settings"])
    assert fresh.change() == f"{tmp_path}/settings was changed as it was loaded"


# --- Learning ---


@pytest.fixture
def site(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that counts as one of installed packages."""
    packages = place / "site-packages"
    packages.mkdir()
    (place / "sitecustomize.py").write_text(
        f"import site, sys\nsys.path.append({str(packages)!r})\nsite.getusersitepackages = lambda: {str(packages)!r}\n"
    )
    (packages / "costly.py").write_text("import time\nfrom cheap import X\ntime.sleep(0.02)\n")
    (packages / "cheap.py").write_text("X = 1\n")
    (packages / "threaded.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    (packages / "connected.py").write_text("import socket\nFIRST = socket.socketpair()\n")
    (packages / "meddling.py").write_text("import os\nos.environ['MEDDLED'] = 'secret'\n")
    (packages / "forking.py").write_text("import os, time\nif os.fork() == 0:\n    time.sleep(300)\n")
    (packages / "big.py").write_text("X = bytearray(b'x') * (150 * 2**20)\n")
    (place / "mine.py").write_text("")
    wait_until_old(place)
    return packages


def known_of(home: Home) -> dict[str, preloads.Module]:
    found = [preloads.read(path) for path in preloads.all_files(home)]
    return found[0].of("thing").modules if found else {}


def test_what_jobs_import_again_and_again_is_preloaded(
    home: Home, jobs: Jobs, start_runner: StartRunner, site: Path
) -> None:
    runner = start_runner("--preload", "thing")
    first = jobs.say("costly", "mine")
    assert first["new"] == ["costly", "mine"]
    assert not known_of(home), "it may have been the only one"
    assert jobs.say("costly", "mine")["new"] == ["costly", "mine"]
    wait_for(lambda: known_of(home))  # a job that came before would not wait long for it
    third = jobs.say("costly", "mine")
    assert third["new"] == ["mine"], "modules of one's own are never preloaded"
    assert third["loaded in"] == first["loaded in"], "nothing was loaded twice"
    wait_for(lambda: [template.pid for template in templates(runner)] == [third["template"]])
    [(name, module)] = known_of(home).items()
    assert (name, module.verdict) == ("costly", Verdict.PRELOADED)
    assert module.cost_ms is not None and module.cost_ms >= 20


def test_a_template_leaves_when_its_variants_have_answered(home: Home) -> None:
    """Else nobody would hear of what they launched."""
    left: list[object] = []
    process = template.Template(home, "r", "json", None, None, None, None)  # type: ignore[arg-type]
    process.channel = SimpleNamespace(between_lines=True)  # type: ignore[assignment]
    open_end = SimpleNamespace(closed=False)
    process.trial = SimpleNamespace(  # type: ignore[assignment]
        done=True, holds=False, refused=None, channel=open_end, give_up_if_late=lambda: None
    )
    process.variants = SimpleNamespace(owe=True)  # type: ignore[assignment]
    process._hand_over = left.append  # type: ignore[method-assign]
    assert process._is_about_to_hand_over(), "nobody is asked anything more"
    process._watch_trial()
    assert not left
    process.variants.owe = False  # type: ignore[union-attr, misc]
    process._watch_trial()
    assert left == [process.trial]


def test_what_was_learned_outlives_runners_and_costs_nothing_then(
    home: Home, jobs: Jobs, start_runner: StartRunner, site: Path
) -> None:
    runner = start_runner("--preload", "thing")
    for _ in range(2):
        jobs.say("costly")
    wait_for(lambda: known_of(home))
    runner.kill()
    start_runner("--preload", "thing")
    assert jobs.say("costly")["new"] == []
    [path] = preloads.all_files(home)
    before = path.stat()
    for _ in range(3):
        assert jobs.say("costly")["new"] == []
    assert path.stat() == before


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("threaded", "it started the threads Thread-"),
        ("connected", "it keeps a socket open"),
        ("meddling", "it changes the environment: MEDDLED"),
        ("forking", "it changes the child processes"),
        ("big", "it takes 15"),
    ],
)
def test_what_would_make_forking_unsafe_is_left_out(
    home: Home, jobs: Jobs, start_runner: StartRunner, site: Path, name: str, why: str
) -> None:
    start_runner("--preload", "thing")
    for _ in range(2):
        jobs.say(name, "costly")
    wait_for(lambda: {name, "costly"} <= set(known_of(home)))
    third = jobs.say(name, "costly")
    assert third["new"] == [name] and third["forked"]
    module = known_of(home)[name]
    assert module.verdict is Verdict.REFUSED
    assert module.why is not None and module.why.startswith(why) and "secret" not in module.why


@pytest.mark.parametrize(
    ("body", "why"), [("os._exit(3)", "the process that imported it died"), ("1 / 0", "it cannot be")]
)
def test_what_fails_in_the_template_alone_costs_nothing(
    home: Home, jobs: Jobs, start_runner: StartRunner, site: Path, body: str, why: str
) -> None:
    in_trial = "any(frame.function == 'load' for frame in inspect.stack())"
    (site / "peculiar.py").write_text(f"import inspect, os\nif {in_trial}:\n    {body}\n")
    wait_until_old(site)
    start_runner("--preload", "thing")
    first = jobs.say("peculiar")
    jobs.say("peculiar")
    wait_for(lambda: known_of(home).get("peculiar"))
    module = known_of(home)["peculiar"]
    assert module.verdict is Verdict.REFUSED and module.why is not None and module.why.startswith(why)
    third = jobs.say("peculiar")
    assert third["forked"] and third["template"] == first["template"], "it goes on as it was"


def test_a_damaged_file_is_put_aside(home: Home, jobs: Jobs, start_runner: StartRunner, site: Path) -> None:
    path = preloads.own_file(home)
    path.parent.mkdir()
    path.write_text('{"templates": {"thing": {"modules": {"costly": {"verdict": "adored"}}}}}')
    start_runner("--preload", "thing")
    for _ in range(2):
        assert jobs.say("costly")["new"] == ["costly"]
    wait_for(lambda: known_of(home))
    assert "adored" in path.with_name(f"{path.name}.damaged-1").read_text()


def test_a_home_that_cannot_be_written_stops_no_learning(
    home: Home, jobs: Jobs, start_runner: StartRunner, site: Path
) -> None:
    home.preload.write_text("a file where a directory should be")
    start_runner("--preload", "thing")
    for _ in range(2):
        jobs.say("costly")
    wait_for(lambda: jobs.say("costly")["new"] == [])


# --- The command ---


def command(home: Home, *words: str, code: int = 0) -> str:
    argv = [str(Path(sys.executable).with_name("air-executor")), "--home", str(home.root), "runner", "preload", *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_a_person_sees_and_decides(home: Home, jobs: Jobs, start_runner: StartRunner, site: Path) -> None:
    assert "no template has learned anything" in command(home)
    assert "start a runner first" in command(home, "--refuse", "costly", code=4)
    start_runner("--preload", "thing")
    for _ in range(2):
        jobs.say("costly", "connected")
    wait_for(lambda: len(known_of(home)) == 2)
    said = jobs.say("costly", "connected")
    shown = [line.split() for line in command(home).splitlines()]
    assert [row[:2] for row in shown if row[0] in known_of(home)] == [["costly", "preloaded"], ["connected", "refused"]]
    [facts] = json.loads(command(home, "--json"))
    assert (facts["template"], facts["prefix"]) == ("thing", sys.prefix)
    assert {each["name"]: each["why"] for each in facts["modules"]} == {
        "costly": None,
        "connected": "it keeps a socket open",
    }

    assert "'not one' is no name of a module" in command(home, "--refuse", "not one", code=2)
    assert "no template has refused costlier" in command(home, "--allow", "costly", "--allow", "costlier", code=4)
    command(home, "--refuse", "costly")
    wait_for(lambda: not psutil.pid_exists(said["template"]), what="the end of the old template")
    for _ in range(3):
        assert jobs.say("costly")["new"] == ["costly"]
    command(home, "--allow", "costly")
    wait_for(lambda: jobs.say("costly")["new"] == [], what="a template that has it again")
