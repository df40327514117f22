"""`pipeline list | show | run | validate`: named, parameterised jobs from `<home>/pipelines/<name>.toml`.

`--json` prints for `list` a list of {"name", "path", "description", "params": [names], "environments": [names],
"problems"}; for `show` {"name", "path", "description", "params": [{"name", "type", "default", "required",
"description", "choices", "min", "max", "pattern"}], "environments": [{"name", "default", "params", "options"}],
"options", "tasks", "problems", "warnings"}; for `validate` a list of {"name", "path", "problems", "warnings"}; for
`run` what `submit` prints, or with `--dry-run` {"job", "tasks"}. No value of an environment variable is ever printed.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from air_executor.cli import arguments, lookup, output, submit
from air_executor.errors import AirExecutorError, InvalidInputError, InvalidPipelineError, NotFoundError

if TYPE_CHECKING:
    from air_executor import store
    from air_executor.client import AirExecutorClient
    from air_executor.parameters import Parameter
    from air_executor.pipelines import Pipeline

HIDDEN = "***"
"""Stands for the value of an environment variable."""

_RUN_TEXT = """\
Submit a job from a pipeline. Prints the job's name.

Parameters are given as NAME=VALUE and read as the types that the pipeline
declares; in a JSON file, an object, they have the types already. --param goes
before the file, both before the environment's defaults and the parameter's own.

With --wait or --follow the exit code is the job's: 0 completed, 1 failed,
9 cancelled, 124 not over after --wait-timeout. Ctrl-C ends the waiting,
not the job."""

_VALIDATE_TEXT = """\
Check pipelines, given by name or as files; all of the home if none is given.
Prints every problem, and what looks like a mistake but is none. The exit code
is 2 if there is a problem."""


def add(commands: arguments.Commands) -> None:
    """Add the commands."""
    parser = commands.add_parser("pipeline", help="run and look at pipelines", description="Pipelines.")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, dest="action")
    arguments.add_command(
        actions, "list", run_list, help="show the pipelines", examples=("air-executor pipeline list",)
    )
    show = arguments.add_command(
        actions,
        "show",
        run_show,
        help="show one pipeline: its parameters, environments and tasks",
        examples=("air-executor pipeline show nightly",),
    )
    show.add_argument("pipeline", metavar="PIPELINE", help="its name")
    _add_run(actions)
    validate = arguments.add_command(
        actions,
        "validate",
        run_validate,
        help="check the files of pipelines",
        text=_VALIDATE_TEXT,
        examples=("air-executor pipeline validate", "air-executor pipeline validate ./nightly.toml"),
    )
    validate.add_argument("pipelines", nargs="*", metavar="PIPELINE", help="a name, or a file: with / or .toml")


def _add_run(actions: arguments.Commands) -> None:
    parser = arguments.add_command(
        actions,
        "run",
        run,
        help="submit a job from a pipeline",
        text=_RUN_TEXT,
        examples=(
            "air-executor pipeline run nightly --param day=2026-01-31 --wait",
            "air-executor pipeline run nightly --environment prod --dry-run",
        ),
    )
    parser.add_argument("pipeline", metavar="PIPELINE", help="its name")
    parser.add_argument(
        "--param",
        type=arguments.pair,
        action="append",
        default=[],
        metavar="K=V",
        help="a parameter; may be repeated",
    )
    parser.add_argument("--params-file", metavar="FILE", help="a JSON object of parameters; - is standard input")
    parser.add_argument("--environment", metavar="NAME", help="one of those that the pipeline declares")
    parser.add_argument("--name", help="the job's name; made up if not given")
    parser.add_argument(
        "--label", type=arguments.pair, action="append", default=[], metavar="K=V", help="a label; may be repeated"
    )
    parser.add_argument("--dry-run", action="store_true", help="show the job and submit nothing")
    submit.add_webhook(parser)
    submit.add_waiting(parser)


def _client(args: argparse.Namespace) -> AirExecutorClient:
    """The client of a home that has pipelines, also before its first job."""
    from air_executor.client import AirExecutorClient

    home = lookup.find_home(args)
    return AirExecutorClient(home.root) if home.pipelines.is_dir() else lookup.open_client(args)


# --- list and show ---


def run_list(args: argparse.Namespace) -> int:
    """Print all, also those whose file has problems."""
    client = _client(args)
    found = client.pipelines()
    if args.json:
        output.say_json([_summary(pipeline) for pipeline in found])
    elif found:
        columns = ("NAME", "PARAMETERS", "ENVIRONMENTS", "DESCRIPTION")
        output.table(columns, [_row(pipeline) for pipeline in found], flexible=columns)
    else:
        output.note(f"there are no pipelines in {client.home.pipelines}; put a file NAME.toml there")
    return 0


def _summary(pipeline: Pipeline) -> dict[str, Any]:
    said = pipeline.blueprint
    return {
        "name": pipeline.name,
        "path": str(pipeline.path),
        "description": said.description,
        "params": list(said.params),
        "environments": list(said.environments),
        "problems": list(said.problems),
    }


def _row(pipeline: Pipeline) -> tuple[str, ...]:
    said = pipeline.blueprint
    params = ", ".join(name if item.default is not None else f"{name} (required)" for name, item in said.params.items())
    problems = f"{output.count(len(said.problems), 'problem')}: {said.problems[0]}" if said.problems else ""
    return pipeline.name, params, ", ".join(said.environments), problems or said.description


def run_show(args: argparse.Namespace) -> int:
    """Print what the file says."""
    from air_executor import pipelines

    pipeline = pipelines.find(_client(args).home, args.pipeline)
    said = pipeline.blueprint
    if args.json:
        output.say_json(_facts(pipeline))
        return 0
    output.pairs(
        {
            "name": pipeline.name,
            "file": pipeline.path,
            "description": said.description,
            **{name: _plain(value) for name, value in _without_values(said.options).items()},
        }
    )
    _table(("PARAMETER", "TYPE", "DEFAULT", "ALLOWED", "DESCRIPTION"), map(_param_row, said.params.values()))
    _table(("ENVIRONMENT", "PARAMETERS", "OPTIONS"), _environment_rows(pipeline))
    tasks = [
        (task.get("id"), ", ".join(task.get("dependencies", ())), _command(task), _other(task)) for task in said.tasks
    ]
    _table(("TASK", "AFTER", "COMMAND", "OPTIONS"), tasks)
    for problem in said.problems:
        output.note(f"{pipeline.path}: {problem}")
    return 0


def _facts(pipeline: Pipeline) -> dict[str, Any]:
    from dataclasses import asdict

    said = pipeline.blueprint
    environments = [
        {"name": each.name, "default": each.name == said.default_environment, "params": each.params}
        | {"options": _without_values(each.options)}
        for each in said.environments.values()
    ]
    return {
        **_summary(pipeline),
        "params": [asdict(item) | {"required": item.default is None} for item in said.params.values()],
        "environments": environments,
        "options": _without_values(said.options),
        "tasks": [_without_values(task) for task in said.tasks],
        "warnings": list(said.warnings),
    }


def _without_values(content: Mapping[str, Any]) -> dict[str, Any]:
    """The same, with the names of its environment variables only."""
    return {**content, "env": dict.fromkeys(content["env"], HIDDEN)} if content.get("env") else dict(content)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={_plain(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _param_row(item: Parameter) -> tuple[str, ...]:
    bounds = [("at least ", item.min), ("at most ", item.max), ("like ", item.pattern)]
    allowed = [", ".join(map(_plain, item.choices)), *(f"{word}{value}" for word, value in bounds if value is not None)]
    default = "(required)" if item.default is None else _plain(item.default)
    return item.name, item.type, default, "; ".join(filter(None, allowed)), item.description


def _environment_rows(pipeline: Pipeline) -> list[tuple[str, ...]]:
    default = pipeline.blueprint.default_environment
    return [
        (f"{each.name}{' (default)' if each.name == default else ''}", _plain(each.params), _other(each.options))
        for each in pipeline.blueprint.environments.values()
    ]


def _command(task: Mapping[str, Any]) -> str:
    return shlex.join([task.get("command", ""), *task.get("args", ())])


def _other(content: Mapping[str, Any]) -> str:
    """What else there is of a task or an environment, on one line."""
    known = ("id", "dependencies", "command", "args")
    options = {name: value for name, value in _without_values(content).items() if name not in known}
    return ", ".join(f"{name}={shlex.quote(_plain(value))}" for name, value in options.items())


def _table(headers: tuple[str, ...], rows: Any) -> None:
    """A table after an empty line, without the columns that have nothing in them."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    used = [i for i in range(len(headers)) if any(row[i] for row in cells)]
    if cells:
        output.say()
        shown = [headers[i] for i in used]
        output.table(shown, [[row[i] for i in used] for row in cells], flexible=shown)


# --- run ---


def run(args: argparse.Namespace) -> int:
    """Submit, or only show what would be submitted."""
    client = _client(args)
    submission = client.pipeline(
        args.pipeline,
        params=_params(client, args),
        environment=args.environment,
        job_name=args.name,
        labels=dict(args.label),
        webhooks=args.webhooks,
    )
    if not args.dry_run:
        return submit.start(client, submission, args)
    if args.json:
        output.say_json(_preview(submission))
    else:
        _show_preview(submission)
    return 0


def _params(client: AirExecutorClient, args: argparse.Namespace) -> dict[str, Any]:
    from air_executor import pipelines

    pipeline = pipelines.load(client.home, args.pipeline)
    given: dict[str, Any] = {}
    if args.params_file is not None:
        where, given = submit.read_json(args.params_file)
        if not isinstance(given, dict):
            raise InvalidInputError(f"{where}: should hold an object: names and values of parameters")
    return {**given, **pipeline.convert(dict(args.param))}


def _preview(submission: store.Submission) -> dict[str, Any]:
    from air_executor import blueprints, model

    job, tasks = model.to_dict(submission.job), [model.to_dict(task) for task in submission.tasks]
    shown = ("name", "trigger", *(key for key in blueprints.OPTION_TYPES if key in job))
    return {
        "job": {key: job[key] for key in shown},
        "tasks": [_without_values({key: task[key] for key in blueprints.TASK_TYPES}) for task in tasks],
    }


def _show_preview(submission: store.Submission) -> None:
    from air_executor import model

    preview, usual = _preview(submission), model.to_dict(model.Task(""))
    output.pairs({name: _plain(value) for name, value in preview["job"].items() if value not in (None, {})})
    rows = []
    for task in preview["tasks"]:
        said = {name: value for name, value in task.items() if value != usual[name]}
        rows.append((task["id"], ", ".join(task["dependencies"]), _command(task), _other(said)))
    _table(("TASK", "AFTER", "COMMAND", "OPTIONS"), rows)


# --- validate ---


def run_validate(args: argparse.Namespace) -> int:
    """Check what is given, or all; what cannot be found does not keep the others from being checked."""
    code = 0
    facts = []
    for pipeline in _chosen(args):
        if isinstance(pipeline, AirExecutorError):
            output.note_error(pipeline)
            code = code or pipeline.exit_code
            continue
        fact = _check(pipeline)
        facts.append(fact)
        code = code or (InvalidPipelineError.exit_code if fact["problems"] else 0)
        if not args.json:
            _say_check(fact)
    if args.json:
        output.say_json(facts)
    return code


def _chosen(args: argparse.Namespace) -> list[Pipeline | AirExecutorError]:
    if args.pipelines:
        return [_look_at(text, args) for text in args.pipelines]
    client = _client(args)
    found = client.pipelines()
    if not found:
        output.note(f"there are no pipelines in {client.home.pipelines}")
    return [*found]


def _look_at(text: str, args: argparse.Namespace) -> Pipeline | AirExecutorError:
    from air_executor import pipelines

    try:
        if "/" not in text and not text.endswith(".toml"):
            return pipelines.find(_client(args).home, text)
        return pipelines.examine(Path(text))
    except FileNotFoundError:
        return NotFoundError(f"there is no file {text}")
    except AirExecutorError as error:
        return error


def _check(pipeline: Pipeline) -> dict[str, Any]:
    return {
        "name": pipeline.name,
        "path": str(pipeline.path),
        "problems": [*pipeline.blueprint.problems, *pipeline.rehearse()],
        "warnings": list(pipeline.blueprint.warnings),
    }


def _say_check(fact: Mapping[str, Any]) -> None:
    for problem in fact["problems"]:
        output.say(output.clean(f"{fact['path']}: {problem}"))
    for warning in fact["warnings"]:
        output.say(output.clean(f"{fact['path']}: warning: {warning}"))
    if not fact["problems"]:
        output.say(output.clean(f"{fact['path']}: ok"))
