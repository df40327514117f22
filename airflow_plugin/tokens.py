"""The token of a workload: made to live as long as a job may wait. It allows one call, and only while a task is queued.

Airflow makes it with the executor's generator and lets it live `[scheduler] task_queued_timeout`, because after that
Airflow takes a queued task back. Here a task that only waits is not taken back (`patience`): its token has to live
longer. And while it waits it gets another one now and then (`tending`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.executors import workloads

from air_executor.errors import SettingsError
from airflow_plugin import config

SCOPE = "workload"
"""What the token of a workload is for; tokens of any other scope keep the life that Airflow gives them."""


class PatientGenerator:
    """Airflow's generator of tokens, but for how long those of workloads live."""

    def __init__(self, generator: Any, lifetime: float) -> None:
        self._generator = generator
        self.lifetime = lifetime
        """Seconds that a token of a workload lives at least."""

    def generate(
        self,
        extras: Mapping[str, Any] | None = None,
        headers: Mapping[str, Any] | None = None,
        valid_for: float | None = None,
    ) -> str:
        """A token; one of a workload lives at least as long as configured."""
        if (extras or {}).get("scope") == SCOPE:
            valid_for = max(valid_for or 0.0, self.lifetime)
        token: str = self._generator.generate(extras=extras, headers=headers, valid_for=valid_for)
        return token

    def make(self, subject: object) -> str:
        """Another token of a workload, as Airflow makes the first."""
        return str(workloads.ExecuteTask.generate_token(str(subject), self))  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)


def patient(generator: Any, source: config.Source) -> Any:
    """A generator whose tokens of workloads live as long as configured."""
    try:
        airflows = float(source.get("scheduler", "task_queued_timeout") or 0)
        return PatientGenerator(generator, max(airflows, config.load(source).token_lifetime))
    except SettingsError:  # told when the home is opened; until then no task is handed over
        return generator


def is_out_of_date(token: str, now: float) -> bool:
    """Whether a token is not valid any more, or, after the clock was set back, not yet; its signature aside."""
    import jwt

    try:
        claims = jwt.decode(token, options={"verify_signature": False})
        return not float(claims["nbf"]) <= now < float(claims["exp"])
    except (jwt.InvalidTokenError, KeyError, TypeError, ValueError):
        return False
