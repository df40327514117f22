"""Where everything of one checkout is, and which ports it uses."""

from __future__ import annotations

import dataclasses
from pathlib import Path

WORKER_LOGS_OFFSET = 10_000
TRIGGERER_LOGS_OFFSET = 20_000
"""Far apart, so that checkouts started with neighbouring ports do not meet."""
LAST_PORT = 65_535


@dataclasses.dataclass(frozen=True)
class Checkout:
    """One checkout of the project."""

    root: Path

    @property
    def airflow_home(self) -> Path:
        return self.root / ".airflow"

    @property
    def home(self) -> Path:
        """The home of Air-Executor."""
        return self.root / ".air-executor"

    @property
    def dags(self) -> Path:
        return self.root / "examples" / "dags"

    @property
    def pipelines(self) -> Path:
        return self.root / "examples" / "pipelines"

    @property
    def logs(self) -> Path:
        return self.airflow_home / "logs"

    def log(self, component: str) -> Path:
        return self.logs / f"{component}.log"

    @property
    def config(self) -> Path:
        return self.airflow_home / "airflow.cfg"

    @property
    def secrets(self) -> Path:
        return self.airflow_home / "secrets.json"

    @property
    def passwords(self) -> Path:
        """In the format of Airflow's SimpleAuthManager."""
        return self.airflow_home / "passwords.json"

    @property
    def database(self) -> Path:
        return self.airflow_home / "airflow.db"

    @property
    def migrated(self) -> Path:
        """Names the version of Airflow that the database was last migrated to."""
        return self.airflow_home / "migrated"

    @property
    def state(self) -> Path:
        return self.airflow_home / "start-dev.json"

    @property
    def lock(self) -> Path:
        return self.airflow_home / "start-dev.lock"


@dataclasses.dataclass(frozen=True)
class Ports:
    """The ports of one checkout: all follow from the first."""

    web: int

    @property
    def worker_logs(self) -> int:
        return self._shifted(WORKER_LOGS_OFFSET)

    @property
    def triggerer_logs(self) -> int:
        return self._shifted(TRIGGERER_LOGS_OFFSET)

    def _shifted(self, offset: int) -> int:
        return self.web + offset if self.web + TRIGGERER_LOGS_OFFSET <= LAST_PORT else self.web - offset

    @property
    def url(self) -> str:
        return f"http://localhost:{self.web}"

    def named(self) -> dict[str, int]:
        """Every port with the words for it in a message."""
        return {
            "the web page": self.web,
            "the logs of workers": self.worker_logs,
            "the logs of the triggerer": self.triggerer_logs,
        }
