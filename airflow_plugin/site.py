"""Where an executor works: its options, its home, and what goes with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow.executors.base_executor import get_execution_api_server_url

from air_executor.client import AirExecutorClient
from air_executor.paths import Home
from airflow_plugin import config, idling, jobs
from airflow_plugin.keeper import RunnerKeeper, start_options

if TYPE_CHECKING:
    from airflow.executors.base_executor import ExecutorConf


@dataclass
class Site:
    """Where an executor works."""

    options: config.Options
    home: Home
    client: AirExecutorClient
    keeper: RunnerKeeper
    server: str
    """URL of the execution API."""
    bell: idling.Bell

    @classmethod
    def of(cls, conf: ExecutorConf, parallelism: int) -> Site:
        """As configured for the executor of a team, or of all.

        Raises:
            SettingsError: an option is unknown or malformed.
        """
        options = config.load(conf)
        home = Home(options.base_path)
        start = start_options(options, parallelism, jobs.MODULE)
        keeper = RunnerKeeper(home, start, wanted=options.start_runner)
        client, server = AirExecutorClient(home.root), get_execution_api_server_url(conf)
        return cls(options, home, client, keeper, server, idling.Bell(home))
