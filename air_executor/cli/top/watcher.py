"""The thread that looks and acts, so that keys are answered meanwhile. What it found is replaced as a whole."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from air_executor import pauses, processes, runners, steering
from air_executor.cli import output
from air_executor.cli.top import facts
from air_executor.cli.top.look import Interest, Look, describe
from air_executor.cli.top.states import Action
from air_executor.client import AirExecutorClient
from air_executor.errors import AirExecutorError
from air_executor.paths import Home

_LAST_ACTION = 30.0
"""Seconds that an action may take that was confirmed before the end."""


class Watcher(threading.Thread):
    """Looks until it is closed, and does what it is asked for.

    Args:
        wake: called when there is something new.
    """

    def __init__(self, home: Home, wake: Callable[[], None]) -> None:
        super().__init__(name="watcher", daemon=True)
        self._look = Look(home)
        self._home = home
        self._wake = wake
        self._asked: queue.SimpleQueue[Action | Interest | None] = queue.SimpleQueue()
        self._actions: list[Action] = []
        """Those that were asked for and are not done."""
        self.found: facts.Snapshot = self._look.found
        self.messages: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.failure: BaseException | None = None
        """What ended it, should it be a fault of the program."""

    def ask(self, request: Action | Interest) -> None:
        """Have something done, or something else looked at."""
        if isinstance(request, Action):
            self._actions.append(request)
        self._asked.put(request)

    def close(self) -> None:
        """End it, after what was asked for; what only looks is not waited for."""
        self._asked.put(None)
        if self._actions and self.is_alive():
            self.join(_LAST_ACTION)

    def run(self) -> None:
        """Look and act."""
        try:
            while self._do_what_was_asked():
                self._look.look()
                self.found = self._look.found
                self._wake()
        except BaseException as error:  # told by the thread that has the terminal
            self.failure = error
            self._wake()
        finally:
            self._look.close()

    def _do_what_was_asked(self) -> bool:
        """Wait for requests until something is to be looked at; False if that was the last."""
        while True:
            pause = max(0.0, self._look.due - time.monotonic())
            try:
                request = self._asked.get(timeout=pause) if pause else self._asked.get_nowait()
            except queue.Empty:
                return True
            if request is None:
                return False
            if isinstance(request, Interest):
                self._look.turn_to(request)
            else:
                self._act(request)
                self._look.hurry()

    def _act(self, action: Action) -> None:
        try:
            said = act(self._home, action)
        except (AirExecutorError, OSError) as error:
            said = f"that could not be done: {describe(error)}"
        self.messages.put(said)
        self._actions.remove(action)


def act(home: Home, action: Action) -> str:
    """Do it, as the commands do; what came of it in a sentence."""
    if action.kind in ("cancel", "retry"):
        return _act_on_job(AirExecutorClient(home.root), action)
    if action.kind in ("pause", "continue"):
        change = pauses.pause if action.kind == "pause" else pauses.resume
        changed = change(home, action.target, by=asker())
        return f"the queue {action.target} is {_PAUSED[action.kind, changed]}"
    if action.kind == "set":
        steering.set_runner(home, action.target, slots=action.slots, by=asker())
        return f"the runner {action.target} is asked to have {output.count(action.slots, 'slot')}"
    runners.tell(home, action.target, action.kind, by=asker())
    return f"the runner {action.target} is asked to {action.kind}"


_PAUSED = {
    ("pause", True): "paused",
    ("pause", False): "paused already",
    ("continue", True): "resumed",
    ("continue", False): "not paused any more",
}


def _act_on_job(client: AirExecutorClient, action: Action) -> str:
    name = action.target
    if action.kind == "retry":
        return f"the job {name} waits for attempt {client.retry(name, by=asker()).attempt}"
    job = client.cancel(name, by=asker())
    return f"the job {name} is {job.state}" if job.state.terminal else f"the job {name} is asked to stop"


def asker() -> str:
    """Who sits before the screen, as it is kept in the history of jobs and in logs/steering.jsonl."""
    return f"{processes.user()} via top"
