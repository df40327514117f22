"""Tasks whose processes do not end when they are told to. Each runs its tree once; when it is repeated, it just ends.

The tree is a shell, another one in a session of its own, and a daemon whose parent is gone. All ignore TERM, and all
have the task's name as their last argument. The first two hold the task's output open.
"""

from __future__ import annotations

import subprocess
from datetime import timedelta

import marks
from airflow.sdk import DAG, get_current_context, task

TIMEOUT = 3
DEAF = 'trap "" TERM INT HUP; while :; do sleep 1; done'
TREE = f"""
trap '' TERM INT HUP
setsid bash -c '{DEAF}' "$0" &
(setsid bash -c '{DEAF}' "$0" </dev/null >/dev/null 2>&1 &)
while :; do sleep 1; done
"""


def live() -> None:
    context = get_current_context()
    name = f"{context['ti'].task_id}-{context['run_id']}"
    if marks.lines(name):
        return
    shell = subprocess.Popen(["bash", "-c", TREE, name])
    marks.note(name, "began")
    shell.wait()


with DAG("stubborn", schedule=None, max_active_tasks=64):
    for task_id in ("failed", "cleared", "silent"):
        task(task_id=task_id)(live)()

with DAG("stubborn_run", schedule=None):
    task(task_id="deleted")(live)()

with DAG("stubborn_late", schedule=None):
    task(task_id="late", execution_timeout=timedelta(seconds=TIMEOUT))(live)()
