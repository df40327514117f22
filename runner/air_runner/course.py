"""Where a runner is heading: whether it goes on, and if not, what becomes of its jobs. No I/O.

==========  ========  ======================================================
it          claims    and its jobs
==========  ========  ======================================================
serves      yes
drains      no        run on, and it stays
stops       no        run to their end, then it ends
leaves      no        go on without it: it ends at once, the next takes over
aborts      no        are stopped, then it ends
==========  ========  ======================================================
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Course:
    """What was asked for last, as far as what was asked for before lets it."""

    draining: bool = False
    """Nothing is claimed; true of everything but serving."""
    stopping: bool = False
    """It ends; true of leaving and aborting, too."""
    leaving: bool = False
    aborting: bool = False

    def follow(self, action: str) -> None:
        """Somebody asked to resume, drain, stop, hand over or abort. One that ends does not stay because of `drain`."""
        self.draining = action != "resume"
        self.stopping = action in ("stop", "handover", "abort") or (self.stopping and action == "drain")
        self.leaving = action == "handover" or (self.leaving and action == "drain")
        self.aborting = self.aborting or action == "abort"
