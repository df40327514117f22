"""Pipelines: what a file may say, what becomes of parameters, and that mistakes are said before anything is done."""

from __future__ import annotations

import math
import pickle
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from air_executor import blueprints, client, definitions, errors, model, parameters, pipelines, placeholders, store
from air_executor.paths import Home

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
SECRET = "hunter2-hunter2"

TASKS = """
[[tasks]]
command = "true"
"""


def write(home: Home, text: str, name: str = "p") -> Path:
    path = home.pipelines / f"{name}.toml"
    path.write_text(textwrap.dedent(text))
    return path


def problems(text: str) -> list[str]:
    return list(blueprints.read(tomllib.loads(textwrap.dedent(text))).problems)


def render(home: Home, text: str, environment: str | None = None, **params: Any) -> store.Submission:
    write(home, text)
    return pipelines.load(home, "p").render(params, environment)


# --- Placeholders ---

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True)
values = st.one_of(st.text(), st.integers(), st.booleans(), st.floats(allow_nan=False))


@given(st.text())
def test_text_whose_dollars_are_doubled_stays_as_it_is(text: str) -> None:
    doubled = text.replace("$", "$$")
    assert placeholders.find(doubled) == [] and placeholders.expand(doubled, {}) == text


@given(st.lists(st.one_of(st.text().map(lambda text: (text, None)), st.tuples(names, values))))
def test_placeholders_become_their_values_once_and_nothing_else_changes(parts: list[tuple[str, Any]]) -> None:
    """Also values that look like placeholders: what is put in is not looked at again."""
    known = {name: value for name, value in parts if value is not None}
    written = "".join(text.replace("$", "$$") if value is None else f"${{{text}}}" for text, value in parts)
    wanted = "".join(text if value is None else placeholders.to_text(known[text]) for text, value in parts)
    assert set(placeholders.find(written)) == known.keys()
    assert placeholders.expand(written, known) == wanted
    assert placeholders.expand({"k${x": [written, 7]}, known) == {"k${x": [wanted, 7]}


@given(st.text())
def test_any_text_is_either_refused_or_replaced(text: str) -> None:
    try:
        found = placeholders.find(text)
    except ValueError as error:
        assert "$$" in str(error)
        return
    placeholders.expand(text, dict.fromkeys(found, "x"))


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("$HOME", "$HOME"),
        ("a$", "a$"),
        ("$$", "$"),
        ("$$$", "$$"),
        ("$${x}", "${x}"),
        ("$$${x}", "$X"),
        ("${x}${x}", "XX"),
        ("{x}", "{x}"),
        ("$ {x}", "$ {x}"),
    ],
)
def test_dollars(text: str, becomes: str) -> None:
    assert placeholders.expand(text, {"x": "X"}) == becomes


@pytest.mark.parametrize("text", ["${", "a${x", "${}", "${a b}", "${a-b}", "${1}", "${x\n}", "${${x}}", "${é}"])
def test_malformed_placeholders(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape("$$")):
        placeholders.find(text)


@given(values)
def test_a_placeholder_alone_becomes_the_value_itself_where_no_text_is_expected(value: Any) -> None:
    assert placeholders.expand("${x}", {"x": value}, typed=True) is value
    assert placeholders.expand("${x}", {"x": value}) == placeholders.to_text(value)


# --- Values ---


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("string", " 7 ", " 7 "),
        ("string", "", ""),
        ("integer", "-7", -7),
        ("integer", "007", 7),
        ("number", "7", 7),
        ("number", "-.5e1", -5.0),
        ("boolean", "True", True),
        ("boolean", "0", False),
        ("boolean", "no", False),
    ],
)
def test_texts_become_values_of_their_type(kind: str, text: str, value: Any) -> None:
    found = parameters.Parameter("x", kind).from_text(text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *(("integer", text) for text in ("", "7.0", "0x7", "1_000", " 7", "seven", "\u0667", "9" * 5000, "7\n")),
        *(("number", text) for text in ("", "nan", "inf", "-Infinity", "1_0", "1e", "7s", ".")),
        *(("boolean", text) for text in ("", "2", "on", "t")),
    ],
)
def test_texts_that_are_none_of_that_type(kind: str, text: str) -> None:
    with pytest.raises(errors.InvalidParameterError, match="the parameter x must be") as caught:
        parameters.Parameter("x", kind).from_text(text)
    assert not text.strip(".2t ") or text not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *(("string", value) for value in (7, True, None, b"a", ["a"])),
        *(("integer", value) for value in ("7", True, 7.0, None, 2**63)),
        *(("number", value) for value in ("7", False, math.nan, -math.inf, 2**63)),
        *(("boolean", value) for value in (1, "true", None)),
    ],
)
def test_values_from_python_must_have_the_type(kind: str, value: Any) -> None:
    with pytest.raises(errors.InvalidParameterError, match=r"the parameter x must be (a|true)"):
        parameters.bind({"x": parameters.Parameter("x", kind)}, {"x": value}, {})


def test_a_number_that_is_too_large_for_a_float_is_none() -> None:
    assert parameters.Parameter("x", "number").why_not(10**400) == "must be a number"


@given(st.sampled_from(sorted(parameters.TYPES)), values)
def test_what_is_written_as_text_is_read_as_the_same_value(kind: str, value: Any) -> None:
    parameter = parameters.Parameter("x", kind)
    if parameter.why_not(value) is None and isinstance(value, (str, bool, int)):
        assert parameter.from_text(placeholders.to_text(value)) == value


LIMITED = {
    "choice": parameters.Parameter("choice", choices=("eu", "us")),
    "low": parameters.Parameter("low", "integer", min=1),
    "high": parameters.Parameter("high", "number", max=9.5),
    "like": parameters.Parameter("like", pattern="[a-z]+"),
}


@pytest.mark.parametrize(
    ("name", "good", "bad", "says"),
    [
        ("choice", "eu", SECRET, "must be one of eu, us"),
        ("low", 1, 0, "must be at least 1"),
        ("high", 9.5, 77777, "must be at most 9.5"),
        ("like", "abc", SECRET, re.escape("must match [a-z]+")),
        ("like", "abc", "abc\n", re.escape("must match [a-z]+")),
    ],
)
def test_limits_of_values(name: str, good: Any, bad: Any, says: str) -> None:
    declared = {name: LIMITED[name]}
    assert parameters.bind(declared, {name: good}, {}) == {name: good}
    with pytest.raises(errors.InvalidParameterError, match=f"the parameter {name} {says}") as caught:
        parameters.bind(declared, {name: bad}, {})
    assert SECRET not in str(caught.value) and "77777" not in str(caught.value)


def test_what_is_given_goes_before_the_environment_and_that_before_the_default() -> None:
    declared = {name: parameters.Parameter(name, default="own") for name in ("a", "b", "c")}
    assert parameters.bind(declared, {"a": "given"}, {"a": "env", "b": "env"}) == {"a": "given", "b": "env", "c": "own"}


# --- Files ---

FULL = """
description = "everything"
default_environment = "dev"
queue = "${queue}"
priority = 2
timeout = "${limit}"
max_parallel = "${parallel}"
labels = { day = "${day}", fixed = "$$x" }
env = { A = "top", B = "top-${day}" }
cwd = "data"

[params.day]
[params.queue]
default = "default"
[params.limit]
type = "number"
default = 1.5
[params.parallel]
type = "integer"
default = 2
[params.dry]
type = "boolean"
default = true

[environments.dev]
[environments.prod]
queue = "big"
params = { limit = 60 }
labels = { fixed = "prod" }
env = { B = "prod", C = "prod" }

[[tasks]]
id = "first"
command = "${day}"
args = ["-n", "${parallel}", "--dry=${dry}", "$HOME $$1 ${environment}"]
timeout = "${limit}"
env = { B = "task" }

[[tasks]]
id = "second-${day}"
command = "true"
dependencies = ["first"]
cwd = "/abs/${day}"
memory_mb = "${parallel}"
"""


def test_a_pipeline_becomes_a_job(home: Home) -> None:
    made = render(home, FULL, day="mon")
    job, (first, second) = made.job, made.tasks
    assert (job.name, job.trigger, job.queue, job.priority) == ("", "pipeline", "default", 2)
    assert (job.timeout, job.max_parallel) == (1.5, 2)
    assert job.labels == {"day": "mon", "fixed": "$x", "pipeline": "p", "environment": "dev"}
    assert first.argv == ["mon", "-n", "2", "--dry=true", "$HOME $1 dev"] and first.timeout == 1.5
    assert first.env == {"A": "top", "B": "task"} and second.env == {"A": "top", "B": "top-mon"}
    assert (first.cwd, second.cwd) == (str(home.root / "data"), "/abs/mon")
    assert (second.id, second.dependencies, second.memory_mb) == ("second-mon", ["first"], 2)


ON_SLURM = """
environments.prod.slurm = { partition = "big", extra = ["--nice=${nice}"] }
params.cpus = { type = "integer", default = 4 }
params.hours = { type = "integer", default = 2 }
params.nice = { default = "5" }

[slurm]
partition = "p-${nice}"
cpus = "${cpus}"
memory = "${cpus}G"
time = "${hours}:00:00"
array = 10
extra = ["--exclusive"]

[[tasks]]
command = "true"
"""


def test_what_a_pipeline_asks_of_slurm(home: Home) -> None:
    expected = {"partition": "p-5", "cpus": 4, "memory": "4G", "time": "2:00:00", "array": 10, "extra": ["--exclusive"]}
    assert render(home, ON_SLURM).job.slurm == expected
    both = {"partition": "big", "cpus": 8, "memory": "8G", "extra": ["--exclusive", "--nice=5"]}
    assert render(home, ON_SLURM, "prod", cpus=8).job.slurm == expected | both
    given = pipelines.submission(home, "p", slurm={"partition": "mine", "extra": ["--comment=x"]}).job.slurm
    assert given == expected | {"partition": "mine", "extra": ["--exclusive", "--comment=x"]}
    assert render(home, TASKS).job.slurm is None


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"cpus": 0}, "slurm cpus must be a whole number of at least 1, and ${cpus} makes it something else"),
        ({"nice": f"a {SECRET}"}, "slurm partition must be a text without blanks"),
        ({"hours": -1}, "slurm time must be minutes, or one of Slurm's forms"),
    ],
)
def test_parameters_that_make_no_option_of_slurm(home: Home, given: dict[str, Any], says: str) -> None:
    with pytest.raises(errors.InvalidParameterError) as caught:
        render(home, ON_SLURM, **given)
    assert says in str(caught.value) and SECRET not in str(caught.value)


def test_an_environment_changes_what_it_names(home: Home) -> None:
    made = render(home, FULL, "prod", day="mon")
    assert (made.job.queue, made.job.priority, made.job.timeout) == ("big", 2, 60)
    assert made.job.labels == {"day": "mon", "fixed": "prod", "pipeline": "p", "environment": "prod"}
    assert made.tasks[0].env == {"A": "top", "B": "task", "C": "prod"} and made.tasks[1].env["B"] == "prod"
    assert made.tasks[0].args[-1] == "$HOME $1 prod"
    assert render(home, FULL, "prod", day="mon", limit=7).job.timeout == 7


@given(value=st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_any_text_reaches_the_task_as_it_is(value: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    blueprint = blueprints.read({"params": {"x": {}}, "tasks": [{"command": "echo", "args": ["${x}", "-${x}-"]}]})
    made = pipelines.Pipeline("p", Path("/home/pipelines/p.toml"), blueprint).render({"x": value})
    assert made.tasks[0].args == [value, f"-{value}-"]


@pytest.mark.parametrize("key", sorted({*definitions.TASK_KEYS}))
def test_a_task_may_have_every_key_that_a_submitted_one_may(key: str) -> None:
    assert key in blueprints.TASK_TYPES


@pytest.mark.parametrize("key", definitions.JOB_OPTIONS)
def test_a_pipeline_may_have_every_option_that_a_submitted_file_may(key: str) -> None:
    assert key in blueprints.OPTION_TYPES


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "tasks: a pipeline needs tasks"),
        ("tasks = []", "tasks: a pipeline needs tasks"),
        ("tasks = ['true']", "tasks: a pipeline needs tasks"),
        ("[tasks]\ncommand = 'true'", "tasks: a pipeline needs tasks; write each as [[tasks]]"),
        ("descripton = 'x'" + TASKS, "descripton: is unknown; did you mean description?"),
        ("description = 7" + TASKS, "description: must be a text"),
        ("name = 'x'" + TASKS, "name: is unknown"),
        ("queue = 'a b'" + TASKS, "queue: the queue 'a b' must start"),
        ("queue = 7" + TASKS, "queue: 'queue' should be str, is int"),
        ("timeout = -1" + TASKS, "timeout: timeout must be a positive number"),
        ("timeout = nan" + TASKS, "timeout: timeout must be a positive number"),
        ("timeout = 2026-01-01" + TASKS, "timeout: 'timeout' should be float, is date"),
        ("nice = 99" + TASKS, "nice: nice must be from -20 to 19"),
        ("env = { A = 7 }" + TASKS, "env: 'env' should hold text only"),
        ("env = { '' = 'x' }" + TASKS, "is not the name of an environment variable"),
        ("labels = { a = 1 }" + TASKS, "labels: 'labels' should hold text only"),
        ("labels = { pipeline = 'x' }" + TASKS, "labels.pipeline: is always set"),
        ("params = 7" + TASKS, "params: should be tables; write [params.NAME]"),
        ("params.x = 7" + TASKS, "params.x: should be a table; write [params.x]"),
        ("params.a-b = {}" + TASKS, "[params.a-b]: a parameter's name is"),
        ("params.environment = {}" + TASKS, "[params.environment]: a parameter cannot have that name"),
        ("params.x = { typ = 'string' }" + TASKS, "[params.x] typ: is unknown; did you mean type?"),
        ("params.x = { type = 'integr' }" + TASKS, "[params.x] type: is not a type; did you mean integer?"),
        ("params.x = { type = ['string'] }" + TASKS, "[params.x] type: is not a type"),
        ("params.x = { type = 'integer', default = '7' }" + TASKS, "[params.x] default: must be a whole number"),
        ("params.x = { default = 7 }" + TASKS, "[params.x] default: must be a text"),
        ("params.x = { default = 'c', choices = ['a', 'b'] }" + TASKS, "[params.x] default: must be one of a, b"),
        ("params.x = { choices = [] }" + TASKS, "[params.x] choices: must be a list"),
        ("params.x = { choices = [1] }" + TASKS, "[params.x] choices: must be a list, each a text"),
        ("params.x = { min = 1 }" + TASKS, "[params.x] min: is for numbers only, and the type is string"),
        ("params.x = { type = 'integer', max = 'a' }" + TASKS, "[params.x] max: must be a number"),
        ("params.x = { type = 'number', min = 2, max = 1 }" + TASKS, "[params.x] min: is more than max"),
        ("params.x = { pattern = '(' }" + TASKS, "[params.x] pattern: is not a regular expression"),
        ("params.x = { pattern = 7 }" + TASKS, "[params.x] pattern: is not a regular expression"),
        ("params.x = { type = 'integer', pattern = '7' }" + TASKS, "[params.x] pattern: is for texts only"),
        ("params.x = { description = 7 }" + TASKS, "[params.x] description: must be a text"),
        ("environments.'a b' = {}" + TASKS, "[environments.a b]: an environment 'a b' must start"),
        ("environments.x = 7" + TASKS, "environments.x: should be a table"),
        ("environments.x.tasks = []" + TASKS, "[environments.x] tasks: is unknown"),
        ("environments.x.params = 7" + TASKS, "[environments.x] params: should be a table"),
        ("environments.x.params.y = 7" + TASKS, "[environments.x] params.y: there is no such parameter"),
        ("environments.x.nice = 99" + TASKS, "[environments.x] nice: nice must be from -20 to 19"),
        ("environments.x.queue = '${y}'" + TASKS, "[environments.x] queue: ${y} is no declared parameter"),
        (
            "environments.x.params.y = 7\nparams.y = {}" + TASKS,
            "[environments.x] params.y: must be a text",
        ),
        ("default_environment = 'x'" + TASKS, "default_environment: there is no such environment; none is known"),
        (
            "default_environment = 'pord'\nenvironments.prod = {}" + TASKS,
            "default_environment: there is no such environment; did you mean prod?",
        ),
        (TASKS + "args = ['${environment}']", "args: ${environment} needs a table [environments.NAME]"),
        (TASKS + "args = ['${x}']", "task 1: args: ${x} is no declared parameter; none is known"),
        ("params.day = {}" + TASKS + "args = ['${dya}']", "${dya} is no declared parameter; did you mean day?"),
        (TASKS + "args = ['${x']", "task 1: args: there is a '${' without its '}'"),
        (TASKS + "args = [7]", "task 1: args: 'args' should hold text only"),
        (TASKS + "args = 'x'", "task 1: args: 'args' should be list[str], is str"),
        (TASKS + "comand = 'x'", "task 1: comand: is unknown; did you mean command?"),
        (TASKS + "timeout = '30'", "task 1: timeout: 'timeout' should be float, is str"),
        (TASKS + "timeout = 0", "task 1: timeout: timeout of task 'task-1' must be a positive number"),
        ("params.x = {}" + TASKS + "timeout = '${x}'", "timeout: needs a parameter of the type integer or number"),
        ("params.x.type = 'number'" + TASKS + "memory_mb = '${x}'", "memory_mb: needs a parameter of the type integer"),
        (
            "params.x.type = 'number'" + TASKS + "timeout = '${x}0'",
            "should be a number, or one placeholder and nothing",
        ),
        ("slurm = 7" + TASKS, "slurm: 'slurm' should be dict[str, Any], is int"),
        ("slurm.cpu = 7" + TASKS, "slurm: cpu is unknown; did you mean cpus?"),
        ("slurm.cpus = '4'" + TASKS, "slurm: cpus must be a whole number of at least 1, not '4'"),
        ("slurm.extra = ['--wrap=x']" + TASKS, "slurm: extra may not hold --wrap"),
        ("slurm.qos = '${x}'" + TASKS, "slurm: ${x} is no declared parameter"),
        ("params.x = {}\nslurm.cpus = '${x}'" + TASKS, "slurm: cpus needs a parameter of the type integer"),
        ("params.x = {}\nslurm.extra = '${x}'" + TASKS, "slurm: extra must be a list of flags for sbatch"),
        ("params.x = {}\nslurm.qos = ['${x}']" + TASKS, "slurm: qos must be a text"),
        (
            "params.x = {}\nslurm.qos = '${x}'\nslurm.memory = 'x'" + TASKS,
            "slurm: memory must be MiB as a whole number",
        ),
        ("environments.x.slurm.array = 0" + TASKS, "[environments.x] slurm: array must be a whole number"),
        (TASKS + "id = '../x'", "task ../x: id: the task id '../x' must start"),
        (TASKS + "id = 'a'\ndependencies = ['b']", "task a: dependencies: 'b' is not a task of this pipeline"),
        (TASKS + "dependencies = ['${x}', '${y}']", "${y} is no declared parameter"),
        ("[[tasks]]\nid = 'a'", "task a: command: is missing"),
        ("[[tasks]]\ncommand = ' '", "task 1: command: task 'task-1' has an empty command"),
        (TASKS + "id = 'a'" + TASKS + "id = 'a'", "task a: there are two tasks of that id"),
        (
            TASKS + "id = 'a'\ndependencies = ['b']" + TASKS + "id = 'b'\ndependencies = ['a']",
            "tasks: the tasks wait for each other: a -> b -> a",
        ),
    ],
)
def test_mistakes_in_a_file(text: str, says: str, home: Home) -> None:
    assert any(says in problem for problem in problems(text)), problems(text)
    path = write(home, text)
    with pytest.raises(errors.InvalidPipelineError) as caught:
        pipelines.load(home, "p")
    assert str(path) in str(caught.value) and caught.value.exit_code == 2 and len(caught.value.problems) >= 1
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301
    assert list(store.names(home)) == []


def test_all_problems_are_found_and_the_first_is_said(home: Home) -> None:
    write(home, "quue = 'x'\n[params.x]\ntype = 'txt'\n" + TASKS + "args = ['${a}', '${b}']\nid = '.'")
    with pytest.raises(errors.InvalidPipelineError, match=r"quue.* \(and 4 more; see air-executor pipeline") as caught:
        pipelines.load(home, "p")
    assert len(caught.value.problems) == 5
    assert [item.blueprint.problems for item in pipelines.find_all(home)] == [caught.value.problems]


def test_a_secret_in_the_environment_is_in_no_problem() -> None:
    text = f"env = {{ A = '{SECRET}', '' = '{SECRET}' }}\ntimeout = -1" + TASKS + f"env = {{ B = '{SECRET}\\u0000' }}"
    assert len(problems(text.replace("'" + SECRET + "\\u0000'", '"' + SECRET + '\\u0000"'))) == 3
    assert SECRET not in str(problems(text.replace("'" + SECRET + "\\u0000'", '"' + SECRET + '\\u0000"')))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a = ", "not valid TOML: Invalid value (at end of document)"),
        (b"\xff", "not valid TOML"),
        (b"a = 1\na = 2", "not valid TOML: Cannot overwrite a value"),
        (b"a = " + b"[" * 100_000, "not valid TOML"),
        (b"a = " + b"9" * 10_000, "not valid TOML"),
        (None, "cannot be read: it is not a file"),
    ],
)
def test_files_that_cannot_be_read(home: Home, content: bytes | None, says: str) -> None:
    path = home.pipelines / "p.toml"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(errors.InvalidPipelineError, match=re.escape(f"{path}: {says}")):
        pipelines.load(home, "p")


def test_a_pipeline_that_is_not_there(home: Home) -> None:
    with pytest.raises(errors.NotFoundError, match="there is none yet"):
        pipelines.load(home, "nightly")
    write(home, TASKS, "nightly")
    with pytest.raises(errors.NotFoundError, match=r"nightli.toml does not exist; did you mean nightly\?") as caught:
        pipelines.load(home, "nightli")
    assert str(home.pipelines) in str(caught.value)


@pytest.mark.parametrize("name", ["../p", "/etc/passwd", "", "a b", ".p", "p\0", 7, None])
def test_a_name_never_becomes_a_path_unchecked(home: Home, name: Any) -> None:
    write(home, TASKS, "../p")
    with pytest.raises(errors.InvalidNameError, match="the pipeline"):
        pipelines.load(home, name)


def test_only_files_of_pipelines_are_listed_and_odd_names_are_said(home: Home) -> None:
    for name in ("b", "a", ".#a", "a b"):
        write(home, TASKS, name)
    (home.pipelines / "notes.txt").write_text("x")
    found = pipelines.find_all(home)
    assert [item.name for item in found] == ["a b", "a", "b"]
    assert [bool(item.blueprint.problems) for item in found] == [True, False, False]
    (home.root / "elsewhere").mkdir()
    assert pipelines.find_all(Home(home.root / "elsewhere")) == []


def test_what_looks_like_a_mistake_is_a_warning() -> None:
    text = "params.a = {}\nparams.b = { default = '${a}' }" + TASKS + "args = ['${b}']"
    found = blueprints.read(tomllib.loads(text))
    assert found.problems == ()
    assert found.warnings == (
        "[params.a]: nothing uses it",
        "[params.b] default: placeholders are not replaced in values",
    )


def test_a_pipeline_of_10_000_tasks(home: Home) -> None:
    content = {
        "params": {"x": {"default": "v"}},
        "tasks": [
            {"id": f"t{n}", "command": "true", "args": ["${x}"], "dependencies": [f"t{n - 1}"] if n else []}
            for n in range(10_000)
        ],
    }
    made = pipelines.Pipeline("p", home.pipelines / "p.toml", blueprints.read(content)).render()
    assert len(made.tasks) == 10_000 and made.tasks[-1].args == ["v"]


# --- Values and what they make ---


@pytest.mark.parametrize(
    ("params", "environment", "says"),
    [
        ({}, None, r"the pipeline needs a value for day \(a text\)"),
        ({"lmit": SECRET}, None, "there is no parameter 'lmit'; did you mean limit?"),
        ({7: SECRET}, None, "there is no parameter 7"),
        ({"day": ["mon"]}, None, "the parameter day must be a text; what was given is of the type list"),
        ({"day": "mon", "parallel": "2"}, None, "the parameter parallel must be a whole number; what was given is a t"),
        ({"day": "mon", "parallel": True}, None, "the parameter parallel must be a whole number"),
        ([SECRET], None, "the parameters should map names to values, not be a list"),
        ({"day": "mon"}, "prd", "there is no environment 'prd'; did you mean prod?"),
        ({"day": "mon"}, "", "there is no environment ''; known are dev, prod"),
        ({"day": "mon"}, 7, "there is no environment 7"),
        ({"day": "mon", "queue": SECRET + "/"}, None, r"queue must be a letter or digit.*, and \$\{queue\} makes it"),
        ({"day": "mon", "limit": -77777}, None, r"timeout must be a positive number, and \$\{limit\} makes it"),
        ({"day": SECRET + "/"}, None, r"task second-\$\{day\}: id must be .*, and \$\{day\} makes it something else"),
        ({"day": SECRET + "\0"}, None, r"env must be text that a program can be given, and \$\{day\} makes"),
    ],
)
def test_values_that_a_pipeline_does_not_take(home: Home, params: Any, environment: Any, says: str) -> None:
    path = write(home, FULL)
    with pytest.raises(errors.InvalidParameterError, match=says) as caught:
        pipelines.load(home, "p").render(params, environment)
    assert str(path) in str(caught.value) and caught.value.exit_code == 2
    assert SECRET not in str(caught.value) and "77777" not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_values_that_make_tasks_which_do_not_fit_together(home: Home) -> None:
    text = "params.x = {}" + TASKS + "id = 'a'" + TASKS + "id = '${x}'\ndependencies = ['a']"
    assert [task.id for task in render(home, text, x="b").tasks] == ["a", "b"]
    with pytest.raises(errors.InvalidParameterError, match="the tasks do not fit together: an id is there twice"):
        render(home, text, x="a")


def test_an_environment_is_asked_for_where_it_is_used(home: Home) -> None:
    text = "environments.dev = {}\nenvironments.prod = {}" + TASKS + "args = ['${environment}']"
    assert render(home, text, "dev").tasks[0].args == ["dev"]
    with pytest.raises(errors.InvalidParameterError, match="choose an environment: dev, prod"):
        render(home, text)
    unused = text.replace("${environment}", "")
    assert "environment" not in render(home, unused).job.labels
    with pytest.raises(errors.InvalidParameterError, match="there is no environment 'x'; none is known"):
        render(home, TASKS, "x")


def test_a_rehearsal_finds_what_the_defaults_make(home: Home) -> None:
    text = (
        "params.q = { default = 'a b' }\nqueue = '${q}'\nenvironments.good.params.q = 'c'\nenvironments.bad = {}"
        + TASKS
    )
    write(home, text)
    first, second = pipelines.find(home, "p").rehearse()
    assert first.startswith("with the defaults: queue must be")
    assert second.startswith("[environments.bad] with the defaults: queue must be")
    write(home, "params.q = {}\nqueue = '${q}'" + TASKS)
    assert pipelines.find(home, "p").rehearse() == []


# --- The client ---


def test_a_pipeline_is_run(home: Home, api: client.AirExecutorClient) -> None:
    write(home, FULL)
    job_id = api.run_pipeline("p", params={"day": "mon"}, environment="prod", job_name="j", labels={"who": "me"})
    job = api.get_job("j")
    assert job.id == job_id and job_id.startswith("j.") and job.trigger == "pipeline"
    assert job.labels == {"who": "me", "day": "mon", "fixed": "prod", "pipeline": "p", "environment": "prod"}
    assert [item.name for item in api.pipelines()] == ["p"]


def test_options_go_before_what_the_pipeline_says(home: Home, api: client.AirExecutorClient) -> None:
    write(home, FULL, "p" * 200)
    made = api.pipeline("p" * 200, params={"day": "mon"}, timeout=9.0, queue=None, trigger="operator", notify=True)
    assert (made.job.timeout, made.job.queue, made.job.trigger, made.job.notify) == (9.0, "default", "operator", True)
    assert len(made.job.name) <= 200 and made.job.id.startswith(made.job.name)
    assert made.job.name != api.pipeline("p" * 200, params={"day": "mon"}).job.name
    assert list(store.names(home)) == []


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"job_name": "../x"}, errors.InvalidNameError, "the job name"),
        ({"labels": {"pipeline": "x"}}, errors.InvalidJobError, "the label pipeline is always set"),
        ({"labels": {"environment": "x"}}, errors.InvalidJobError, "the label environment is always set"),
        ({"labels": {"a": 7}}, errors.InvalidJobError, "labels map text to text"),
        ({"labels": "a"}, errors.InvalidJobError, "labels map text to text"),
        ({"timeot": 7}, errors.InvalidJobError, "unknown option 'timeot'; did you mean timeout?"),
        ({"timeout": -7}, errors.InvalidJobError, "timeout must be a positive number"),
        ({"params": {"x": SECRET}}, errors.InvalidParameterError, "there is no parameter 'x'"),
    ],
)
def test_nothing_is_written_where_something_is_wrong(
    home: Home, api: client.AirExecutorClient, given: dict[str, Any], error: type[Exception], says: str
) -> None:
    write(home, TASKS)
    with pytest.raises(error, match=says) as caught:
        api.run_pipeline("p", **given)
    assert SECRET not in str(caught.value)
    assert list(store.names(home)) == []


# --- What is shipped ---


@pytest.mark.parametrize("path", sorted((ROOT / "examples" / "pipelines").glob("*.toml")), ids=lambda path: path.stem)
def test_examples_are_sound(path: Path) -> None:
    found = pipelines.examine(path)
    assert (found.blueprint.problems, found.blueprint.warnings, found.rehearse()) == ((), (), [])


def test_nothing_of_a_job_is_left_to_the_pipeline_by_mistake(home: Home) -> None:
    job = render(home, TASKS).job
    assert job == model.Job("", id=job.id, trigger="pipeline", labels={"pipeline": "p"})
