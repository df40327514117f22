"""What all clients can do, whether the home is a directory or behind an HTTP API, and how one gets the right one."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from air_executor.model import Job, JobState, Task
    from air_executor.pipelines import Pipeline
    from air_executor.store import Submission


class Client(Protocol):
    """The methods are described in `AirExecutorClient`."""

    @property
    def address(self) -> str: ...

    def create_job(
        self,
        job_name: str | None = None,
        tasks: Sequence[Mapping[str, Any] | Task] = (),
        *,
        trigger: str = "api",
        **options: Any,
    ) -> str: ...

    def pipeline(
        self,
        name: str,
        *,
        params: Mapping[str, Any] | None = None,
        environment: str | None = None,
        job_name: str | None = None,
        labels: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Submission: ...

    def run_pipeline(self, name: str, **given: Any) -> str: ...

    def pipelines(self) -> list[Pipeline]: ...

    def find_pipeline(self, name: str) -> Pipeline: ...

    def submit(self, submission: Submission) -> Job: ...

    def ensure(
        self,
        submission: Submission,
        on_existing: str = "reuse",
        *,
        same: Collection[str] = (),
        keep_completed: bool = False,
        by: str | None = None,
    ) -> tuple[Job, str]: ...

    def add_tasks(self, tasks: Iterable[Mapping[str, Any] | Task], job: str | None = None) -> list[str]: ...

    def get_job(self, name: str) -> Job: ...

    def get_tasks(self, name: str) -> list[Task]: ...

    def get_result(self, name: str) -> dict[str, Any]: ...

    def list_jobs(
        self,
        *,
        state: JobState | None = None,
        queue: str | None = None,
        labels: Mapping[str, str] | None = None,
        trigger: str | None = None,
    ) -> Iterator[Job]: ...

    def outcome(self, name: str) -> dict[str, Any]: ...

    def failure(self, name: str, lines: int = 20) -> str: ...

    def logs(self, name: str, task_id: str | None = None) -> str: ...

    def events(self, name: str) -> list[dict[str, Any]]: ...

    def wait(self, name: str, timeout: float | None = None) -> Job: ...

    def yield_to(self, job: Job) -> None: ...

    def cancel(self, name: str, *, by: str | None = None, why: str = "") -> Job: ...

    def retry(self, name: str, *, by: str | None = None, why: str = "retried", keep_completed: bool = False) -> Job: ...


def connect(
    address: str | os.PathLike[str] | None = None,
    *,
    token: str | None = None,
    verify: bool | str | None = None,
    allow_plain: bool | None = None,
    poll_interval: float | None = None,
    jitter: float | None = None,
) -> Client:
    """The client for a home.

    Args:
        address: its directory, found as `paths.find_home` says if it is None; or the address of its HTTP API, such as
            `https://air.example.org:8470`. The others are for such an address: see `RemoteClient`.

    Raises:
        SettingsError: the address cannot be used, there is no token for it, or there is one for a directory.
    """
    from air_executor.client import AirExecutorClient

    return AirExecutorClient(
        address, token=token, verify=verify, allow_plain=allow_plain, poll_interval=poll_interval, jitter=jitter
    )
