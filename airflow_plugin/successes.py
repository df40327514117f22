"""When the scheduler is woken for the success of a task.

A supervisor announces it twice: as it tells the API server, and when that has answered. The scheduler needs longer to
come round to the task's run than the API server to note the success, so where little is going on it is woken for the
first; if nothing of the run was handed over then, it looks again after the second. The end of the job, which comes a
moment later, is no news after that.
"""

from __future__ import annotations

from airflow_plugin import keys
from airflow_plugin.ledger import Entry


class Successes:
    """Those that were announced, of jobs that are not over."""

    def __init__(self) -> None:
        self._early: dict[str, Entry] = {}
        """For which the scheduler was woken before Airflow had noted them."""

    def hear(self, entry: Entry, *, quiet: bool, may_follow: bool) -> bool:
        """Take an announcement; returns whether the scheduler shall look.

        Args:
            quiet: whether little is going on.
            may_follow: whether there is a free slot for what follows.
        """
        if not entry.announced:
            entry.announced = True
            if quiet and may_follow:
                self._early[entry.name] = entry
            return quiet and may_follow
        self.forget(entry)
        entry.known = may_follow
        return may_follow and not entry.followed

    def handed_over(self, key: keys.Key) -> None:
        """What the scheduler found when it looked."""
        for entry in self._early.values():
            entry.followed |= keys.are_of_one_run(entry.key, key)

    def nothing_handed_over(self) -> None:
        """A round of the scheduler found nothing: what followed in one before it was of others."""
        for entry in self._early.values():
            entry.followed = False

    def forget(self, entry: Entry) -> None:
        """The job is over."""
        self._early.pop(entry.name, None)
