"""`pipeline list | show | run | validate`: the real command, with a real runner where jobs shall run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from air_executor import store
from tests.cli.conftest import Cli

EXAMPLE = Path(__file__).parents[2] / "examples" / "pipelines" / "nightly.toml"
SECRET = "hunter2-hunter2"

ECHO = """
description = "says it"
env = { PASSWORD = "hunter2-hunter2" }
[params.word]
[params.times]
type = "integer"
default = 1
[environments.prod]
params = { times = 3 }
[[tasks]]
id = "say"
command = "sh"
args = ["-c", 'for i in $(seq "$2"); do echo "$1"; done; test "$1" != fail', "say", "${word}", "${times}"]
"""


def put(cli: Cli, text: str = ECHO, name: str = "echo") -> Path:
    cli.home.pipelines.mkdir(parents=True, exist_ok=True)
    path = cli.home.pipelines / f"{name}.toml"
    path.write_text(text)
    return path


# --- run ---


def test_a_pipeline_is_run_to_its_end(with_runner: Cli) -> None:
    put(with_runner)
    done = with_runner("pipeline", "run", "echo", "--param", "word=a  b; $HOME", "--name", "j", "--follow")
    assert done.stdout == "j\na  b; $HOME\n"
    job = with_runner.api.get_job("j")
    assert (job.state, job.trigger, job.labels) == ("completed", "pipeline", {"pipeline": "echo"})
    facts = with_runner.json(
        "pipeline", "run", "echo", "--param", "word=fail", "--environment", "prod", "--wait", code=1
    )
    assert facts["state"] == "failed" and facts["exit"]["code"] == 1
    assert with_runner.api.logs(facts["job_name"]) == "fail\n" * 3
    labels = with_runner.api.get_job(facts["job_name"]).labels
    assert labels == {"pipeline": "echo", "environment": "prod"}


def test_the_example_runs(with_runner: Cli) -> None:
    with_runner.home.pipelines.mkdir(exist_ok=True)
    shutil.copy(EXAMPLE, with_runner.home.pipelines)
    done = with_runner("pipeline", "run", "nightly", "--param", "day=2026-01-31", "--label", "who=me", "--wait")
    (job,) = with_runner.json("list", "--label", "environment=dev")
    assert done.stdout == f"{job['name']}\n" and job["name"].startswith("nightly-")
    assert job["labels"] == {"day": "2026-01-31", "who": "me", "pipeline": "nightly", "environment": "dev"}
    log = with_runner.api.logs(job["name"])
    assert "fetching orders of 2026-01-31 in dev\n" in log and "the report of 2026-01-31 goes to /tmp/rep" in log


def test_waiting_is_that_of_submit(cli: Cli) -> None:
    put(cli)
    words = ["pipeline", "run", "echo", "--param", "word=x", "--name"]
    done = cli(*words, "a", "--wait-timeout", "0", code=124)
    assert done.stdout == "a\n" and "no live runner serves the queue default" in done.stderr
    assert cli.json(*words, "b").keys() == {"job_name", "id", "queue", "state"}
    assert "there is a job named a already" in cli.refused(*words, "a", code=5)


def test_parameters_come_from_a_file_and_from_words(cli: Cli) -> None:
    put(cli)
    (cli.cwd / "p.json").write_text(json.dumps({"word": "file", "times": 2}))
    cli("pipeline", "run", "echo", "--params-file", "p.json", "--param", "word=word=1", "--name", "a")
    assert cli.api.get_tasks("a")[0].args[2:] == ["say", "word=1", "2"]
    cli("pipeline", "run", "echo", "--params-file", "-", "--name", "b", stdin='{"word": "stdin"}')
    assert cli.api.get_tasks("b")[0].args[2:] == ["say", "stdin", "1"]


def test_a_dry_run_shows_the_job_and_submits_nothing(cli: Cli) -> None:
    put(cli)
    words = ["pipeline", "run", "echo", "--param", "word=the word", "--environment", "prod", "--dry-run"]
    text = cli(*words, "--name", "j").stdout
    for shown in ("j", "environment=prod", "say", "'the word' 3", "PASSWORD=***"):
        assert shown in text
    facts = cli.json(*words)
    assert facts["job"]["labels"] == {"pipeline": "echo", "environment": "prod"}
    assert facts["tasks"][0]["args"][-2:] == ["the word", "3"] and facts["tasks"][0]["env"] == {"PASSWORD": "***"}
    assert SECRET not in text + json.dumps(facts)
    assert list(store.names(cli.home)) == []


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["echo"], 2, "the pipeline needs a value for word (a text)"),
        (["ecko", "--param", "word=x"], 4, "ecko.toml does not exist; did you mean echo?"),
        (["../echo"], 2, "the pipeline '../echo'"),
        (["echo", "--param", f"wrod={SECRET}"], 2, "there is no parameter 'wrod'; did you mean word?"),
        (["echo", "--param", SECRET], 2, "--param: give it as NAME=VALUE"),
        (["echo", "--param", "word=x", "--param", f"times={SECRET}"], 2, "the parameter times must be a whole number"),
        (["echo", "--param", "word=x", "--environment", "prd"], 2, "no environment 'prd'; did you mean prod?"),
        (["echo", "--param", "word=x", "--label", "pipeline=x"], 2, "the label pipeline is always set"),
        (["echo", "--param", "word=x", "--name", "../x"], 2, "the job name '../x'"),
        (["echo", "--params-file", "missing.json"], 2, "missing.json: cannot be read"),
        (["broken", "--param", f"x={SECRET}"], 2, "broken.toml: tasks: a pipeline needs tasks"),
        ([], 2, "PIPELINE"),
    ],
)
@pytest.mark.parametrize("dry", [True, False])
def test_nothing_is_submitted_where_something_is_wrong(
    cli: Cli, words: list[str], code: int, says: str, dry: bool
) -> None:
    put(cli)
    put(cli, "", "broken")
    line = cli.refused("pipeline", "run", *words, *(["--dry-run"] if dry else []), code=code)
    assert says in line and SECRET not in line
    assert not cli.home.jobs.exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "standard input: is not JSON"),
        ("[1]", "standard input: should hold an object"),
        (f'{{"word": ["{SECRET}"]}}', "the parameter word must be a text"),
        ('{"word": "x", "times": "1"}', "the parameter times must be a whole number; what was given is a text"),
        ('{"word": "x", "times": true}', "the parameter times must be a whole number; what was given is a truth value"),
        ('{"word": "x", "times": NaN}', "the parameter times must be a whole number; what was given is a number"),
        ('{"word": null}', "the parameter word must be a text"),
    ],
)
def test_parameters_of_a_file_must_have_their_type(cli: Cli, content: str, says: str) -> None:
    put(cli)
    line = cli.refused("pipeline", "run", "echo", "--params-file", "-", code=2, stdin=content)
    assert says in line and SECRET not in line


# --- list, show, validate ---


def test_pipelines_are_listed_also_broken_ones(cli: Cli) -> None:
    put(cli)
    put(cli, "queue = 7", "broken")
    lines = cli("pipeline", "list").stdout.splitlines()
    assert lines[0].split() == ["NAME", "PARAMETERS", "ENVIRONMENTS", "DESCRIPTION"]
    assert lines[1].split()[0] == "broken" and "2 problems: queue" in lines[1]
    assert lines[2].split() == ["echo", "word", "(required),", "times", "prod", "says", "it"]
    first, second = cli.json("pipeline", "list")
    assert len(first["problems"]) == 2 and second["problems"] == []
    assert (second["name"], second["params"], second["environments"]) == ("echo", ["word", "times"], ["prod"])


def test_a_pipeline_is_shown_without_its_environment(cli: Cli) -> None:
    path = put(cli)
    text = cli("pipeline", "show", "echo").stdout
    for shown in (str(path), "says it", "word", "(required)", "integer", "times=3", "say", "${word}", "PASSWORD=***"):
        assert shown in text
    facts = cli.json("pipeline", "show", "echo")
    assert [item["required"] for item in facts["params"]] == [True, False]
    assert facts["environments"] == [{"name": "prod", "default": False, "params": {"times": 3}, "options": {}}]
    assert facts["options"]["env"] == {"PASSWORD": "***"} and SECRET not in text + json.dumps(facts)


def test_a_broken_pipeline_is_shown_as_far_as_it_goes(cli: Cli) -> None:
    put(cli, "description = 'half'\n[params.x]\ntype = 'integr'\n", "broken")
    done = cli("pipeline", "show", "broken")
    assert "half" in done.stdout and "type: is not a type; did you mean integer?" in done.stderr


def test_every_problem_is_printed(cli: Cli) -> None:
    good, bad = put(cli), put(cli, "quue = 'x'\n[params.x]\ntype = 'integr'\n", "broken")
    odd = put(cli, ECHO + "dependencies = []\n[params.unused]\ndefault = 'x'", "odd")
    done = cli("pipeline", "validate", code=2)
    assert done.stdout.splitlines() == [
        f"{bad}: quue: is unknown; did you mean queue?",
        f"{bad}: [params.x] type: is not a type; did you mean integer?",
        f"{bad}: tasks: a pipeline needs tasks; write each as [[tasks]]",
        f"{good}: ok",
        f"{odd}: warning: [params.unused]: nothing uses it",
        f"{odd}: ok",
    ]
    found = {
        item["name"]: (len(item["problems"]), len(item["warnings"]))
        for item in cli.json("pipeline", "validate", code=2)
    }
    assert found == {"broken": (3, 0), "echo": (0, 0), "odd": (0, 1)}


def test_names_and_files_are_validated(cli: Cli) -> None:
    put(cli)
    (cli.cwd / "here.toml").write_text(ECHO.replace("${times}", "${tims}"))
    assert cli("pipeline", "validate", "echo").stdout.endswith("echo.toml: ok\n")
    done = cli("pipeline", "validate", "here.toml", "ecko", "./missing.toml", "../x", "echo", code=2)
    assert "${tims} is no declared parameter; did you mean times?" in done.stdout and "echo.toml: ok" in done.stdout
    assert [line.split(" ", 1)[1] for line in done.stderr.splitlines()] == [
        f"there is no pipeline ecko: {cli.home.pipelines}/ecko.toml does not exist; did you mean echo?",
        "there is no file ./missing.toml",
        "there is no file ../x",
    ]
    cli("pipeline", "validate", str(EXAMPLE), env={"AIR_EXECUTOR_HOME": str(cli.cwd / "nowhere")})


def test_what_the_defaults_make_is_validated(cli: Cli) -> None:
    put(cli, "queue = '${q}'\n[params.q]\ndefault = 'a b'\n[[tasks]]\ncommand = 'true'\n")
    assert "with the defaults: queue must be" in cli("pipeline", "validate", code=2).stdout


def test_a_home_without_pipelines(cli: Cli) -> None:
    for words in (["list"], ["show", "x"], ["run", "x"], ["validate"], ["validate", "x"]):
        assert f"{cli.home.root} does not exist" in cli("pipeline", *words, code=3).stderr
    cli("submit", "--", "true")
    cli.home.pipelines.rmdir()
    assert "there are no pipelines in" in cli("pipeline", "list").stderr
    assert cli.json("pipeline", "list") == cli.json("pipeline", "validate") == []
    assert "there is none yet" in cli.refused("pipeline", "run", "x", code=4)


def test_a_home_that_is_a_file(cli: Cli) -> None:
    cli.home.root.write_text("mine")
    assert "is not a directory" in cli.refused("pipeline", "list", code=3)


def test_a_job_in_the_home_of_pipelines_alone(cli: Cli) -> None:
    """Somebody has written a pipeline before anything was ever submitted there."""
    put(cli)
    assert cli("pipeline", "run", "echo", "--param", "word=x", "--name", "first").stdout == "first\n"
    assert list(store.names(cli.home)) == ["first"]
