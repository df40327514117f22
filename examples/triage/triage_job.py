"""The triage of a day as a job of Air-Executor: a task for each issue, added when the first task knows them.

    python triage_job.py submit 2026-03-02 --max-parallel 8

A task that fails is tried again alone; what is completed stays so (`air-executor retry --keep-completed`).

::

    list ──┬──> issue-0 ───┬──> gather
           ├──> issue-1 ───┤
           └──> ...     ───┘
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import triage_items
from triage_errors import TriageError
from triage_settings import PREFIX, Settings, checked, settings_from

from air_executor.errors import AirExecutorError

RETRIES = 2


def submit(day: str, max_parallel: int, name: str = "") -> str:
    """Create the job of a day; its name. What is configured here is what its tasks are given."""
    from air_executor import AirExecutorClient

    settings_from(os.environ)
    name = name or f"triage-{checked(day)}"
    variables = {key: value for key, value in os.environ.items() if key.startswith(PREFIX)}
    variables[f"{PREFIX}OUTPUT"] = str(_settings().output)
    first = {**_task("list", day), "id": "list", "env": variables}
    AirExecutorClient().create_job(name, [first], max_parallel=max_parallel)
    return name


def list_issues(day: str) -> None:
    """The first task: add one for each issue, and one that waits for them all."""
    from air_executor import AirExecutorClient

    client = AirExecutorClient()
    job = os.environ.get("AIR_EXECUTOR_JOB")
    if job and any(task.id == "gather" for task in client.get_tasks(job)):
        return  # a try before this one was killed after it had added them
    directory = _directory(day)
    texts = triage_items.listed(day, _settings())
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True, mode=0o700)
    for number, text in enumerate(texts):
        (directory / f"{number}.issue").write_text(text)
    variables = {key: value for key, value in os.environ.items() if key.startswith(PREFIX)}
    issues = [
        {**_task("issue", day, str(number)), "id": f"issue-{number}", "env": variables} for number in range(len(texts))
    ]
    gather = {**_task("gather", day), "id": "gather", "env": variables}
    client.add_tasks([*issues, {**gather, "dependencies": [issue["id"] for issue in issues]}])


def handle_issue(day: str, number: str) -> None:
    file = _directory(day) / f"{number}.issue"
    end = triage_items.handled(day, _settings(), file.read_text())
    file.with_suffix(".end").write_text(json.dumps(end))


def gather(day: str) -> None:
    """The last task: the summary is the result of the job."""
    directory = _directory(day)
    ends = (json.loads(file.read_bytes()) for file in directory.glob("*.end"))
    summary = triage_items.gathered(day, _settings(), ends)
    Path(os.environ["AIR_EXECUTOR_OUTPUT"]).write_text(json.dumps(summary))
    shutil.rmtree(directory)


def _settings() -> Settings:
    settings = settings_from(os.environ)
    return Settings(**{**vars(settings), "output": settings.output.resolve()})


def _directory(day: str) -> Path:
    """What the tasks of a job hand to each other."""
    return _settings().output / f".{checked(day)}.job"


def _task(step: str, *arguments: str) -> dict[str, Any]:
    return {"command": sys.executable, "args": [str(Path(__file__).resolve()), step, *arguments], "retries": RETRIES}


def main() -> int:
    parser = argparse.ArgumentParser(prog="triage_job.py", description=(__doc__ or "").partition("\n")[0])
    steps = parser.add_subparsers(dest="step", required=True)
    for step, arguments in (("submit", ()), ("list", ()), ("issue", ("number",)), ("gather", ())):
        added = steps.add_parser(step)
        added.add_argument("day")
        for name in arguments:
            added.add_argument(name)
        if step == "submit":
            added.add_argument("--name", default="", help="of the job (default: triage-<day>)")
            added.add_argument("--max-parallel", type=int, default=8, help="tasks at once (default: %(default)s)")
    options = parser.parse_args()
    try:
        if options.step == "submit":
            print(submit(options.day, options.max_parallel, options.name))
        elif options.step == "issue":
            handle_issue(options.day, options.number)
        else:
            {"list": list_issues, "gather": gather}[options.step](options.day)
    except (TriageError, AirExecutorError) as error:
        print(f"triage_job.py: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
