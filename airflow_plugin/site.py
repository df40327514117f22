"""Where an executor works: its options, its home, and what goes with them. And whether it can work there now."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow.executors.base_executor import get_execution_api_server_url

from air_executor import store
from air_executor.client import AirExecutorClient
from air_executor.paths import Home
from airflow_plugin import config, idling, jobs
from airflow_plugin.keeper import RunnerKeeper, start_options

if TYPE_CHECKING:
    from airflow.executors.base_executor import ExecutorConf


RETRY_INTERVAL = 1.0
"""Seconds between two looks whether the home can be used again."""


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
        keeper = RunnerKeeper(home, start, wanted=options.start_runner, queues=lambda: config.served(options))
        client, server = AirExecutorClient(home.root), get_execution_api_server_url(conf)
        return cls(options, home, client, keeper, server, idling.Bell(home))


class Door:
    """The way to a site. It is shut while the home cannot be used, and tried again now and then.

    Args:
        find: what finds the site, the first time.
        on_refusal: told why it cannot be used, each time that was tried.
    """

    def __init__(self, find: Callable[[], Site], on_refusal: Callable[[Exception], None]) -> None:
        self._find, self._on_refusal = find, on_refusal
        self.site: Site | None = None
        """Once it was found, also while the home cannot be used."""
        self.is_open = False
        self._next_try = 0.0

    def forget(self) -> None:
        """Find another one."""
        self.site, self.is_open, self._next_try = None, False, 0.0

    def shut(self, error: Exception) -> None:
        """The home refused something."""
        self.is_open = False
        self._on_refusal(error)

    def open(self) -> Site | None:
        """The site, if it can be used now."""
        now = time.monotonic()
        if self.site is not None and self.is_open:
            return self.site
        if now < self._next_try:
            return None
        self._next_try = now + RETRY_INTERVAL
        try:
            self.site = self.site or self._find()
            store.ensure_home(self.site.home)
        except Exception as error:
            self.shut(error)
            return None
        self.is_open = True
        return self.site
