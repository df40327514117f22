"""What the index keeps of a job."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

from air_executor import model, spool
from air_executor.index.filters import storable


class JobRow(NamedTuple):
    """A job as the index has it. Times are seconds since the epoch, None where there is none."""

    name: str
    id: str
    state: str
    queue: str
    trigger: str
    attempt: int
    priority: int
    created: float
    queued: float
    """When the current attempt was queued; so are the times that follow."""
    started: float | None
    finished: float | None
    wait: float | None
    """Seconds from the queue to the start, once it has started."""
    run: float | None
    """Seconds from the start to the end, as measured where that is known, once it is over."""
    exit_kind: str | None
    reason: str | None
    exit_code: int | None
    exit_signal: int | None
    runner: str | None
    """The runner that had it."""
    wall: float | None
    cpu: float | None
    max_rss: float | None
    """MiB."""
    max_tree_rss: float | None
    """MiB."""
    labels_json: str

    @property
    def labels(self) -> dict[str, str]:
        """The labels of the job."""
        found: dict[str, str] = json.loads(self.labels_json)
        return found

    @property
    def peak(self) -> float | None:
        """The most memory that it was seen with, MiB."""
        return max((each for each in (self.max_rss, self.max_tree_rss) if each is not None), default=None)


_SQL_NAMES = {"id": "job_id", "labels_json": "labels"}
COLUMNS = ", ".join(_SQL_NAMES.get(name, name) for name in JobRow._fields)
"""What to select for a `JobRow`."""


def row_of(job: model.Job) -> JobRow:
    """What is kept of a job that was read, and is therefore sound, or stands for one that is damaged."""
    created, queued = _time(job.created_at) or 0.0, _time(job.queued_at) or 0.0
    started, finished = _time(job.started_at), _time(job.finished_at)
    used = job.usage or {}
    wall = number(used.get("wall_s"))
    ran = None
    if started is not None and finished is not None:
        ran = max(0.0, finished - started) if wall is None else wall
    return JobRow(
        name=job.name,
        id=storable(job.id),
        state=job.state.value,
        queue=job.queue,
        trigger=storable(job.trigger),
        attempt=job.attempt,
        priority=job.priority,
        created=created,
        queued=queued,
        started=started,
        finished=finished,
        wait=None if started is None else round(max(0.0, started - queued), 6),
        run=None if ran is None else round(ran, 6),
        exit_kind=job.exit.kind.value if job.exit else None,
        reason=storable(job.exit.reason) if job.exit else None,
        exit_code=_small(job.exit.code) if job.exit else None,
        exit_signal=_small(job.exit.signal) if job.exit else None,
        runner=job.runner.runner if job.runner else None,
        wall=wall,
        cpu=number(used.get("cpu_s")),
        max_rss=number(used.get("max_rss_mb")),
        max_tree_rss=number(used.get("max_tree_rss_mb")),
        labels_json=json.dumps(job.labels, separators=(",", ":")),
    )


def place_of(job: model.Job) -> str | None:
    """Where the marker of a waiting job stands: as long as it does, the job has not changed."""
    if job.state is not model.JobState.WAITING:
        return None
    return place(spool.marker_of(job))


def place(marker: spool.Marker) -> str:
    """A marker's place as text."""
    return f"{marker.queue}/{marker.order}"


def _time(text: str | None) -> float | None:
    return model.parse_time(text).timestamp() if text else None


def number(value: Any) -> float | None:
    """A number that can be computed with; None for anything else that a file may say."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if abs(value) < 1e15 and math.isfinite(value) else None


def _small(value: int | None) -> int | None:
    return value if value is not None and abs(value) < 2**63 else None
