"""What a job, a task and their names must be. Pure functions; they run before anything is written.

User text never becomes a path unchecked: a name that somebody chose is checked, a name made from other text is spelled
with safe characters and told apart by a hash.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from air_executor import model
from air_executor.errors import InvalidJobError, InvalidNameError
from air_executor.slurm import options as slurm_options

MAX_NAME_BYTES = 200
MAX_ID_BYTES = 120
MAX_QUEUE_BYTES = 100
MAX_VARIANT_BYTES = 400
MAX_WEBHOOK_BYTES = 40
MAX_WEBHOOKS = 20
LIMITS = {"timeout": False, "memory_mb": True, "output_mb": True}
"""The limits that a job and a task may have, and whether each is a whole number."""
_ID_NUMBER = re.compile(r"[0-9a-f]{8}\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_UNSAFE = re.compile(r"[^A-Za-z0-9_]+")
_ENV_NAME = re.compile(r"[^=\0]+\Z")


def check_name(kind: str, name: object, limit: int = MAX_NAME_BYTES) -> str:
    """Return `name` if it is safe as a file name on every filesystem.

    Raises:
        InvalidNameError: it is not; the message says why.
    """
    if not isinstance(name, str) or not name:
        raise InvalidNameError(f"{kind} must be a text that is not empty, not {_show(name)}")
    if len(name) > limit:
        raise InvalidNameError(f"{kind} {name[:40]!r}... is {len(name)} characters long; at most {limit} are allowed")
    if not _NAME.match(name):
        raise InvalidNameError(
            f"{kind} {_show(name)} must start with a letter or digit and hold only ASCII letters, digits, '.', '_', '-'"
        )
    return name


def is_name(text: str) -> bool:
    """Whether `check_name` would take it."""
    return len(text) <= MAX_NAME_BYTES and _NAME.match(text) is not None


def is_id_number(text: str) -> bool:
    """Whether it is what a job's id has after the name and a dot."""
    return _ID_NUMBER.match(text) is not None


def make_name(*parts: str, key: str) -> str:
    """A readable name from any text, at most 200 bytes; the hash of `key` keeps two long or odd names apart."""
    import hashlib

    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    room = MAX_NAME_BYTES - len(digest) - len(parts)
    slugs = [_UNSAFE.sub("_", part).strip("_") or "x" for part in parts]
    return "-".join([*_shorten(slugs, room), digest])


def _shorten(slugs: Sequence[str], room: int) -> list[str]:
    """Cut the longest first, so that a short task keeps its whole name beside a long run."""
    limit = max(map(len, slugs), default=0)
    while sum(min(len(slug), limit) for slug in slugs) > room:
        limit -= 1
    return [slug[:limit] for slug in slugs]


def check_tasks(tasks: Sequence[model.Task], others: Container[str] = ()) -> None:
    """Raise `InvalidJobError` unless the tasks make a job: commands, unique ids, known dependencies, no cycle.

    Args:
        others: the ids of tasks that the job has already; they depend on none of these.
    """
    if not tasks:
        raise InvalidJobError("a job needs at least one task")
    for task in tasks:
        _check_task(task)
    known: set[str] = set()
    for task in tasks:
        if task.id in known or task.id in others:
            raise InvalidJobError(f"two tasks have the id {task.id!r}; ids are unique in a job")
        known.add(task.id)
    for task in tasks:
        for dependency in task.dependencies:
            if dependency not in known and dependency not in others:
                raise InvalidJobError(
                    f"task {task.id!r} depends on {_show(dependency)}, which is not a task of this job"
                )
    _check_acyclic({task.id: [name for name in task.dependencies if name in known] for task in tasks})


def _check_task(task: model.Task) -> None:
    check_name("the task id", task.id, MAX_ID_BYTES)
    if not isinstance(task.command, str) or not task.command.strip():
        raise InvalidJobError(f"task {task.id!r} has an empty command; give a program to run")
    if not isinstance(task.args, list) or not isinstance(task.dependencies, list):
        raise InvalidJobError(f"task {task.id!r}: args and dependencies are lists of texts")
    for word in [*task.argv, *task.dependencies, *([] if task.cwd is None else [task.cwd])]:
        if not _is_passable(word):  # it may be a secret: never in the message
            raise InvalidJobError(f"task {task.id!r}: command, args and cwd must be text that a program can be given")
    check_env(f"task {task.id!r}", task.env)
    for what, whole in LIMITS.items():
        if (limit := getattr(task, what)) is not None:
            check_number(f"{what} of task {task.id!r}", limit, positive=True, whole=whole)
    check_number(f"retries of task {task.id!r}", task.retries, whole=True)
    check_number(f"retry_delay of task {task.id!r}", task.retry_delay)
    if task.retries < 0 or task.retry_delay < 0:
        raise InvalidJobError(f"task {task.id!r}: retries and retry_delay are not negative")


def check_env(where: str, env: Mapping[Any, Any]) -> None:
    """Raise `InvalidJobError` unless `env` maps variable names to text."""
    if not isinstance(env, Mapping):
        raise InvalidJobError(f"{where}: env maps names to texts")
    for name, value in env.items():
        if not _is_passable(name) or not _ENV_NAME.match(name):
            raise InvalidJobError(f"{where}: {_show(name)} is not the name of an environment variable")
        if not _is_passable(value):  # the value may be a secret: never in the message
            raise InvalidJobError(f"{where}: the environment variable {name} must be text without NUL characters")


def _is_passable(value: object) -> bool:
    """Whether the system can hand it to a program: text without NUL, and no half of a character."""
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode("utf-8", "surrogateescape")  # a byte that is not UTF-8 can be handed over as it came
    except UnicodeEncodeError:
        return False
    return True


def check_number(what: str, value: object, *, positive: bool = False, whole: bool = False) -> None:
    """Raise `InvalidJobError` unless `value` is a finite number of the kind asked for."""
    kinds: tuple[type, ...] = (int,) if whole else (int, float)
    valid = isinstance(value, kinds) and not isinstance(value, bool) and abs(value) < 2**53  # type: ignore[arg-type]
    if not valid or (positive and not value > 0):  # type: ignore[operator]
        wanted = " ".join(["a", *(["positive"] if positive else []), *(["whole"] if whole else []), "number"])
        raise InvalidJobError(f"{what} must be {wanted}, not {_show(value)}")


def check_job(job: model.Job, *, stored: bool = False) -> None:
    """Raise `InvalidNameError` or `InvalidJobError` unless the job's own fields are in order.

    Args:
        stored: whether a newer version may have written it, with options of Slurm that are not known here.
    """
    check_name("the job name", job.name)
    check_name("the queue", job.queue, MAX_QUEUE_BYTES)
    check_number("priority", job.priority, whole=True)
    check_number("nice", job.nice, whole=True)
    if not -20 <= job.nice <= 19:
        raise InvalidJobError(f"nice must be from -20 to 19, not {job.nice}")
    for what, whole in {**LIMITS, "max_parallel": True}.items():
        if (limit := getattr(job, what)) is not None:
            check_number(what, limit, positive=True, whole=whole)
    if job.on_failure not in tuple(model.OnFailure):
        raise InvalidJobError(f"on_failure is {' or '.join(model.OnFailure)}, not {_show(job.on_failure)}")
    for what in ("trigger", "template", "variant", "external_id"):
        if not isinstance(getattr(job, what), (str, type(None))):
            raise InvalidJobError(f"{what} must be text, not {_show(getattr(job, what))}")
    if job.variant is not None and len(job.variant.encode(errors="surrogateescape")) > MAX_VARIANT_BYTES:
        raise InvalidJobError(f"variant is longer than {MAX_VARIANT_BYTES} bytes")
    _check_labels(job.labels)
    if job.slurm is not None:
        slurm_options.check(job.slurm, lenient=stored)
    _check_webhooks(job.webhooks)


def _check_labels(labels: object) -> None:
    if not isinstance(labels, Mapping):
        raise InvalidJobError(f"labels map text to text; {_show(labels)} does not")
    for key, value in labels.items():
        if not isinstance(key, str) or not isinstance(value, str) or not key:
            raise InvalidJobError(f"labels map text to text; {_show(key)} does not")


def _check_webhooks(names: object) -> None:
    if not names and isinstance(names, list):  # mostly
        return
    if not isinstance(names, (list, tuple)) or len(names) > MAX_WEBHOOKS:
        raise InvalidJobError(f"webhooks is a list of at most {MAX_WEBHOOKS} names, not {_show(names)}")
    for name in names:
        check_name("the webhook", name, MAX_WEBHOOK_BYTES)


def check_stored_job(job: model.Job) -> None:
    """Raise `ValueError` unless what was read of a job can be worked with, whatever became of its file.

    It would fail much later otherwise, in whoever computes with a time, or makes a path of a name.
    """
    check_job(job, stored=True)
    for what in ("created_at", "updated_at", "queued_at", "started_at", "finished_at"):
        check_time(what, getattr(job, what))
    for what in ("attempt", "crashes", "losses"):
        check_number(what, getattr(job, what), whole=True)
    if job.runner is not None:
        check_process(job.runner)
    for value in (job.usage, job.slurm, job.extra, job.runner and job.runner.extra, job.exit and job.exit.extra):
        check_depth("a value that this version does not know", value)


def check_stored_tasks(tasks: Sequence[model.Task]) -> None:
    """Raise `ValueError` unless what was read of a job's tasks can be worked with; as `check_stored_job`."""
    check_tasks(tasks)
    for task in tasks:
        for what in ("created_at", "started_at", "completed_at"):
            check_time(f"{what} of task {task.id}", getattr(task, what) or None)
        check_number(f"tries of task {task.id}", task.tries, whole=True)
        check_depth("a value that this version does not know", task.extra)


def check_process(process: model.Process) -> None:
    """Raise `ValueError` unless it can be a process: to signal the number 0 or -1 would be to signal many."""
    check_number("pid", process.pid, positive=True, whole=True)
    check_number("start_time", process.start_time, whole=True)
    check_number("waited", process.waited)
    if not process.pid < 2**31:
        raise ValueError(f"pid must be the number of a process, not {process.pid}")
    if process.runner is not None:
        check_name("the runner", process.runner)


def check_time(what: str, value: str | None) -> None:
    """Raise `ValueError` unless it is None or a time that `model.parse_time` reads."""
    try:
        if value is not None:
            model.parse_time(value)
    except ValueError:
        raise ValueError(f"{what!r} is not a time: {value!r:.60}") from None


def check_depth(what: str, value: object, limit: int = 50) -> None:
    """Raise `ValueError` if it is nested too deeply to be written again."""
    level: list[object] = [value]
    for _ in range(limit):
        level = [child for item in level for child in _children(item)]
        if not level:
            return
    raise ValueError(f"{what} is nested more than {limit} levels deep")


def _children(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, (list, tuple)) else ()


def number_tasks(tasks: Iterable[model.Task]) -> None:
    """Give tasks without an id one: `task-1`, `task-2`, ..., past the ids that are taken."""
    tasks = list(tasks)
    taken = {task.id for task in tasks}
    for position, task in enumerate(tasks, 1):
        if not task.id:
            task.id = next(
                name for n in range(position, position + len(tasks) + 1) if (name := f"task-{n}") not in taken
            )
            taken.add(task.id)


def _check_acyclic(dependencies: Mapping[str, Sequence[str]]) -> None:
    """Raise `InvalidJobError` that names the tasks of a cycle. Iterative: a chain may be 10,000 tasks long."""
    done: set[str] = set()
    for start in dependencies:
        path: dict[str, None] = {}
        stack: list[tuple[str, int]] = [(start, 0)]
        while stack:
            node, position = stack.pop()
            if position == 0:
                if node in done:
                    continue
                path[node] = None
            if position < len(dependencies[node]):
                stack.append((node, position + 1))
                child = dependencies[node][position]
                if child in path:
                    names = list(path)
                    raise InvalidJobError(
                        "the tasks wait for each other: " + " -> ".join([*names[names.index(child) :], child])
                    )
                stack.append((child, 0))
            else:
                del path[node]
                done.add(node)


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"
