"""What a job used. The ephemeral runner measures it; what is known beside, or without it, is added here."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from typing import Any

from air_executor import _files, model, processes
from air_executor.errors import CorruptFileError
from air_executor.paths import JobPaths


def complete(job: model.Job, paths: JobPaths, measured: dict[str, Any] | None) -> dict[str, Any] | None:
    """What was measured, or what is known of a job whose ephemeral runner came to no measuring; and the noted peak."""
    if measured is None and job.runner is None:
        return None
    used = dict(measured) if measured is not None else {"wall_s": round(working_for(job), 3)}
    if peak := max(used.pop("max_tree_rss_mb", 0), read_peak(paths)):
        used["max_tree_rss_mb"] = peak
    return used


def note_peak(paths: JobPaths, mebibytes: int) -> None:
    """Keep the most memory that a job was seen with, for whoever writes its end.

    Raises:
        OSError: the home refused.
    """
    _files.replace(paths.peak, f"{mebibytes}\n".encode())


def read_peak(paths: JobPaths) -> int:
    """What was noted; 0 if nothing was, or nothing that can be read."""
    if not os.path.lexists(paths.peak):  # mostly, and quick
        return 0
    try:
        return max(0, int(_files.read_bytes(paths.peak)[:20]))
    except (OSError, ValueError, CorruptFileError):
        return 0


def working_for(job: model.Job) -> float:
    """Seconds since a job started, by the age that its process has or would have: a clock that was set does not show.

    Of another host, by the clock.
    """
    seconds = processes.age(job.runner) if job.runner is not None else None
    if seconds is None:
        started = model.parse_time(job.started_at or model.now())
        seconds = max(0.0, (datetime.now(timezone.utc) - started).total_seconds())
    return seconds
