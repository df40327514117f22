"""The DAG of these tests, and what they use as callbacks."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, BaseOperator, task
from airflow.sdk.exceptions import AirflowRescheduleException, AirflowSkipException
from airflow.sdk.log import mask_secret


class Defers(BaseOperator):
    def execute(self, context: Any) -> None:
        from airflow.triggers.testing import SuccessTrigger

        self.defer(trigger=SuccessTrigger(), method_name="execute")


class Sleeps(BaseOperator):
    """Sleeps until somebody stops it; says in files that it began, and that it was told to end."""

    def execute(self, context: Any) -> None:
        Path(os.environ["MARKS"], "began").touch()
        time.sleep(120)

    def on_kill(self) -> None:
        Path(os.environ["MARKS"], "killed").touch()
        sys.exit(5)


def notify(text: str = "") -> None:
    Path(os.environ["MARKS"], "notified").write_text(text)


def raise_alarm() -> None:
    raise RuntimeError("nobody is there")


with DAG("samples"):

    @task
    def succeeds() -> None:
        print("a line of the task")

    @task
    def raises() -> None:
        raise ValueError("the reason of the body")

    @task
    def fails_and_leaves_a_child() -> None:
        child = subprocess.Popen(["sleep", "90"], start_new_session=True)  # with the output of the task
        Path(os.environ["MARKS"], "child").write_text(str(child.pid))
        raise ValueError("the reason of the body")

    @task
    def skips() -> None:
        raise AirflowSkipException("nothing to do")

    @task
    def reschedules() -> None:
        raise AirflowRescheduleException(datetime.now(timezone.utc) + timedelta(minutes=1))

    @task
    def dies() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @task
    def leaks() -> None:
        mask_secret("hunter2")
        print("the password is hunter2")
        raise ValueError("cannot log in with hunter2")

    @task
    def shows_environment() -> None:
        print("MODE is", os.environ.get("MODE"))
        print("variables:", sorted(name for name in os.environ if "COORDINATOR" in name or "PROCESS_CONTEXT" in name))

    @task
    def imports() -> None:
        print("there already:", "imaplib" in sys.modules)
        importlib.import_module("imaplib")

    succeeds()
    raises()
    imports()
    fails_and_leaves_a_child()
    skips()
    reschedules()
    dies()
    leaks()
    shows_environment()
    Defers(task_id="defers")
    Sleeps(task_id="sleeps")
