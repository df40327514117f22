"""Waking a scheduler that waits for the end of a task when somebody has asked Airflow for something else.

A part of the API server: after it has created, cleared or un-paused something, a scheduler of ours finds that at once
rather than at the end of its wait.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, MutableMapping
from functools import cached_property
from typing import Any

from airflow.configuration import conf

from air_executor import _files
from air_executor.paths import Home
from airflow_plugin import config

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
PUBLIC_API = "/api/v2/"
"""Tasks talk to another API: what they tell of themselves makes no work but by their ends."""
BAD = 400

log = logging.getLogger(__name__)


class WakeMiddleware:
    """Touches the wake file of the home after each request that has changed something.

    Of the home that the API server is configured with: with homes of teams, their schedulers find it in their own time.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in CHANGING or PUBLIC_API not in scope["path"]:
            await self._app(scope, receive, send)
            return
        status = BAD

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        await self._app(scope, receive, note)
        if status < BAD:
            await asyncio.to_thread(self._ring)

    def _ring(self) -> None:
        """Nobody may ever have used the home, and then nobody waits."""
        try:
            if self._home.spool.is_dir():
                os.close(os.open(self._home.wake, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, _files.PRIVATE_FILE))
        except Exception:
            log.debug("No scheduler can be woken", exc_info=True)

    @cached_property
    def _home(self) -> Home:
        return Home(config.load(conf).base_path)
