"""What is handed to `sbatch` for a job, or for several as a job array; and whose a submission is that Slurm has."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from air_executor import _files, model, store, temporaries
from air_executor.errors import CorruptFileError, NotFoundError
from air_executor.paths import Home
from air_executor.settings import Settings
from air_executor.slurm import options, record, states
from air_runner import taskloop
from air_runner.slurm import decisions
from air_runner.slurm.commands import Row
from air_runner.slurm.decisions import Tracked

AGENT = "air_runner.slurm.node"
OLD_ARRAY = 3600.0
"""Seconds after which the directory of a job array that Slurm does not know is nobody's any more."""
MAX_LAST_WORDS = 300
"""Characters of what the node said last."""


@dataclass(frozen=True)
class Order:
    """What `sbatch` is given, and what is noted of it."""

    flags: Sequence[str]
    script: str
    records: Sequence[record.Record]
    """One for each job, in the same order."""


def prepare(home: Home, runner_id: str, rules: taskloop.Rules, batch: Sequence[Tracked], chosen: Settings) -> Order:
    """Note in the jobs that they are about to be submitted, and how.

    Raises:
        OSError: the home refused.
    """
    first, many = batch[0], len(batch) > 1
    table = chosen.queue(first.job.queue)
    submission = record.name_submission(first.job.name, record.home_id(home))
    array = home.slurm_array(submission) if many else None
    names = [tracked.job.name for tracked in batch]
    if array is not None:
        _files.make_directory(array)
        _files.write_new(_names_file(array), json.dumps(names).encode(), durable=True)
    records = [
        record.Record(tracked.job.attempt, submission, model.now(), number if many else None)
        for number, tracked in enumerate(batch)
    ]
    for tracked, each in zip(batch, records, strict=True):
        record.write(home.job(tracked.job.name), each, durable=True)
    output = home.job(names[0]).slurm_log if array is None else array / "%a.log"
    flags = [f"--job-name={submission}", f"--output={_quote(output, array)}", "--open-mode=append", "--no-requeue"]
    flags += [f"--array=0-{len(batch) - 1}"] if many else []
    argv = [table.python or sys.executable, "-m", AGENT, "--home", str(home.root), "--runner", runner_id]
    argv += ["--submission", submission, *rules.flags]
    logs = [str(home.job(name).slurm_log) for name in names]
    return Order(
        [*flags, *options.arguments(first.options), "--"], decisions.script(table.setup, argv, names, logs), records
    )


def _quote(output: Path, array: Path | None) -> str:
    """Slurm replaces what stands behind a percent sign; of ours it shall be the element alone."""
    if array is None:
        return str(output).replace("%", "%%")
    return f"{str(array).replace('%', '%%')}/{output.name}"


def _names_file(array: Path) -> Path:
    return array / "names.json"


def number_of(number: str, element: int | None) -> str:
    """How Slurm calls what got a number: the job, or an element of the array."""
    return number if element is None else f"{number}_{element}"


def is_stray(home: Home, own: str, row: Row) -> bool:
    """Whether Slurm has a submission of this home that no job wants; not if that cannot be told.

    One that is missed does no harm: its agent finds that it is not wanted, and ends.

    Args:
        own: the home's id.

    Raises:
        OSError: the home refused.
    """
    first = record.parse_submission(row.name, own)
    if first is None:
        return False
    name = first if row.element is None else _element(home.slurm_array(row.name), row.element)
    if name is None or not _is_unwanted(home, name, row):
        return False
    temporaries.refresh(home.job(name).root)  # a runner of another host may have submitted it anew
    return _is_unwanted(home, name, row)


def _is_unwanted(home: Home, name: str, row: Row) -> bool:
    try:
        job = store.read(home, name)
    except NotFoundError:
        return True
    except (CorruptFileError, ValueError):
        return False
    if job.state.terminal:
        return True
    if job.state is model.JobState.WORKING and row.state.phase is not states.Phase.WAITING:
        return False  # it may be this one that runs it: what was given up may have begun after all
    wanted = record.read(home.job(name), job.attempt)
    if wanted is None:  # of one that works, the file is damaged
        return job.state is model.JobState.WAITING
    return wanted.submission != row.name or wanted.id not in (None, row.id)


def _element(array: Path, element: int) -> str | None:
    try:
        names = json.loads(_files.read_bytes(_names_file(array)))
        return str(names[element])
    except (FileNotFoundError, NotADirectoryError, CorruptFileError, ValueError, IndexError, TypeError):
        return None


def drop_arrays(home: Home, known: Collection[str]) -> None:
    """Remove the directories of job arrays that Slurm does not know any more.

    Args:
        known: the names of what it knows.
    """
    try:
        old = [path for path in home.slurm_arrays.iterdir() if path.name not in known]
    except FileNotFoundError:
        return
    for path in old:
        if time.time() - path.stat().st_mtime > OLD_ARRAY:
            shutil.rmtree(path, ignore_errors=True)


def explain(home: Home, tracked: Tracked) -> str:
    """Why a job ended of which its own files do not say it; one sentence, for people."""
    submitted = tracked.record
    if submitted is None:
        return "its submission to Slurm was not noted"
    where = submitted.where + (f" on {submitted.node}" if submitted.node else "")
    said = tracked.over.says if tracked.over is not None else "it is over"
    return f"{where}: {said}{_hint(home, tracked)}"


def _hint(home: Home, tracked: Tracked) -> str:
    """What helps with a job that no process of ours ever ran."""
    if _has_begun(home, tracked):
        return ""
    if words := _last_words(home, tracked):
        return f"; its last words on the node: {words}"
    node = (tracked.record and tracked.record.node) or "the node"
    if not tracked.record or not tracked.record.node:
        return ""
    return f"; it wrote nothing: does {node} see {home.root}, and may this user write there?"


def _has_begun(home: Home, tracked: Tracked) -> bool:
    try:
        return store.read(home, tracked.job.name).started_at is not None
    except (NotFoundError, CorruptFileError):
        return True


def _last_words(home: Home, tracked: Tracked) -> str:
    """The last line that the node wrote for this submission, which began at its end of the log."""
    submitted = tracked.record
    paths = [home.job(tracked.job.name).slurm_log]
    if submitted is not None and submitted.element is not None:
        paths.append(home.slurm_array(submitted.submission) / f"{submitted.element}.log")
    return next((line for path in paths if (line := last_line(path))), "")


def last_line(path: Path) -> str:
    """What a node wrote last; nothing if it did not."""
    try:
        lines = _files.read_bytes(path)[-4096:].decode("utf-8", "replace").strip().splitlines()
    except (OSError, CorruptFileError):
        return ""
    return lines[-1][:MAX_LAST_WORDS] if lines else ""
