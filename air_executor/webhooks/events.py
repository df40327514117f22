"""What a webhook tells: plain JSON that holds no environment, no command line and no result. Pure functions."""

from __future__ import annotations

import binascii
from typing import Any

from air_executor import model, sentences, validation
from air_executor.paths import Home

PING = "ping"
MAX_TEXT = 2000
"""Characters of a text for a chat."""


def file_stem(job: model.Job) -> str:
    """What tells the end of one attempt of a job from all others: the name of its file in an outbox."""
    return f"{job_id(job)},{job.attempt}"


def job_id(job: model.Job) -> str:
    """The id of a job; in place of one that a damaged file has, and that could be no part of a path, another."""
    name, _, number = job.id.rpartition(".")
    sound = name == job.name and validation.is_id_number(number)
    return job.id if sound else f"{job.name}.{binascii.crc32(job.id.encode('utf-8', 'replace')):08x}"


def event_id(webhook: str, stem: str) -> str:
    """The id of an event: the same at each delivery."""
    return f"{webhook}/{stem}"


def of_job(home: Home, webhook: str, job: model.Job, state: model.JobState) -> dict[str, Any]:
    """The event that a job has come to a state."""
    reason = (
        None if job.exit is None else sentences.without_home(home, sentences.without_command(job.exit.reason) or "")
    )
    return {
        "id": event_id(webhook, file_stem(job)),
        "event": f"job.{state}",
        "at": job.finished_at,
        "job": {
            "name": job.name,
            "id": job_id(job),
            "attempt": job.attempt,
            "state": str(state),
            "queue": job.queue,
            "trigger": job.trigger,
            "labels": dict(job.labels),
            "pipeline": job.labels.get("pipeline"),
            "exit": None if job.exit is None else {"kind": str(job.exit.kind), "reason": reason},
            "created_at": job.created_at,
            "started_at": job.started_at,
            "finished_at": job.finished_at,
        },
    }


def ping(webhook: str, number: str) -> dict[str, Any]:
    """An event that says only that events arrive."""
    return {"id": event_id(webhook, f"ping,{number}"), "event": PING, "at": model.now(), "job": None}


def as_text(event: dict[str, Any]) -> str:
    """One line for a chat, in which nothing of the job can be a link or a mention."""
    job = event.get("job")
    if job is None:
        return f"Air-Executor: {event['event']}"
    tried = f" (attempt {job['attempt']})" if job["attempt"] > 1 else ""
    why = f": {job['exit']['reason']}" if job["exit"] and job["state"] != model.JobState.COMPLETED.value else ""
    text = f"{job['name']}{tried} {job['state']}{why}"[:MAX_TEXT]
    for character, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, escaped)
    return text
