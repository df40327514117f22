"""What the keys mean: from what is on the screen and a key to what is on the screen then, and what is to be done. Pure.

::

    list ──Enter──> job ──l──> log        ? shows the help from anywhere; Escape goes back; q ends
      └──────l─────────────────^          an action asks first; / types a filter
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from air_executor.cli import output
from air_executor.cli.arguments import STATES
from air_executor.cli.top import facts

PANELS = ("jobs", "runners", "queues")
_MOST_TYPED = 200
_STEPS = {"up": -1, "k": -1, "down": 1, "j": 1}
_ACTIONS = {"c": "cancel", "r": "retry", "d": "drain", "u": "resume", "p": "pause", "+": "set", "-": "set"}
_LARGE_STEPS = {"page up": -1, "page down": 1, " ": 1, "b": -1}
_ENDS = {"home": -1, "g": -1, "end": 1, "G": 1}


@dataclass(frozen=True)
class Action:
    """Something to do, and to ask for before."""

    kind: str
    """cancel or retry a job; drain, resume or set a runner; pause or continue a queue."""
    target: str
    slots: int = 0
    """What a runner is set to."""

    @property
    def question(self) -> str:
        """What is asked before it is done."""
        what = {
            "cancel": f"cancel the job {self.target}",
            "retry": f"run the job {self.target} again",
            "drain": f"let the runner {self.target} take no more jobs",
            "resume": f"let the runner {self.target} take jobs again",
            "set": f"let the runner {self.target} have {output.count(self.slots, 'slot')}",
            "pause": f"let no job of the queue {self.target} start",
            "continue": f"let jobs of the queue {self.target} start again",
        }[self.kind]
        return f"{what}? (y/n{', + and - change it' if self.kind == 'set' else ''})"


@dataclass(frozen=True)
class State:
    """What somebody looks at."""

    view: str = "list"
    """list, job, log or help."""
    back: tuple[str, ...] = ()
    """The views that Escape goes back to."""
    panel: str = "jobs"
    """Where the cursor is."""
    rows: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """For each panel the name of the row that the cursor is on, and where it was when last seen."""
    subject: str = ""
    """The job of the views job and log."""
    scroll: int = 0
    """The first line that is shown of the views job, log and help."""
    follow: bool = True
    """Whether the log is shown to its end as it grows."""
    filter: str = ""
    state: str = ""
    """The only state that is shown; empty for all."""
    typed: str | None = None
    """The filter as it is being typed."""
    question: Action | None = None
    message: str = ""
    ended: bool = False

    @property
    def wanted(self) -> facts.Filter:
        """Which jobs are shown."""
        return facts.parse_filter(self.filter if self.typed is None else self.typed, self.state)


def names(state: State, panel: str, found: facts.Snapshot) -> list[str]:
    """The rows of a panel."""
    if panel == "runners":
        return [runner.id for runner in found.status.runners]
    if panel == "queues":
        return [queue.name for queue in found.status.queues]
    return [job.name for job in facts.jobs_of(found, state.wanted)]


def position(state: State, panel: str, rows: Sequence[str]) -> int:
    """Where the cursor of a panel is: on the same row as before; if that is gone, and at the top, in the same place."""
    name, index = state.rows.get(panel, ("", 0))
    return rows.index(name) if index and name in rows else max(0, min(index, len(rows) - 1))


def chosen(state: State, panel: str, found: facts.Snapshot) -> str:
    """The name of the row that the cursor of a panel is on; empty if there is none."""
    rows = names(state, panel, found)
    return rows[position(state, panel, rows)] if rows else ""


def press(state: State, key: str, found: facts.Snapshot, page: int, length: int = 0) -> tuple[State, Action | None]:
    """What a key does.

    Args:
        page: how many lines a large step has.
        length: how many lines the view has that is shown as text.
    """
    if state.question is not None:
        return _answer(state, key)
    if state.typed is not None:
        return _type(state, key), None
    state = dataclasses.replace(state, message="")
    if key == "q":
        return dataclasses.replace(state, ended=True), None
    if key == "?" and state.view != "help":
        return _open(state, "help", state.subject), None
    if key in ("escape", "left", "backspace"):
        return _go_back(state), None
    if key in _ACTIONS:
        return _ask(state, key, found), None
    if state.view == "list":
        return _press_in_list(state, key, found, page), None
    return _press_in_text(state, key, page, length), None


def _answer(state: State, key: str) -> tuple[State, Action | None]:
    if state.question and state.question.kind == "set" and key in ("+", "-"):
        return dataclasses.replace(state, question=_one_more(state.question, key)), None
    if key in ("y", "Y"):
        return dataclasses.replace(state, question=None), state.question
    return dataclasses.replace(state, question=None, message="nothing was done"), None


def _type(state: State, key: str) -> State:
    typed = state.typed or ""
    if key == "enter":
        return dataclasses.replace(state, filter=typed.strip(), typed=None)
    if key == "escape":
        return dataclasses.replace(state, typed=None)
    if key == "clear":
        return dataclasses.replace(state, typed="")
    if key == "backspace":
        return dataclasses.replace(state, typed=typed[:-1])
    return dataclasses.replace(state, typed=typed + key) if len(key) == 1 and len(typed) < _MOST_TYPED else state


def _open(state: State, view: str, subject: str) -> State:
    return dataclasses.replace(
        state, view=view, back=(*state.back, state.view), subject=subject, scroll=0, follow=view == "log"
    )


def _go_back(state: State) -> State:
    """To the view before; from the list, to all jobs."""
    if not state.back:
        return dataclasses.replace(state, filter="", state="")
    return dataclasses.replace(
        state, view=state.back[-1], back=state.back[:-1], scroll=0, follow=state.back[-1] == "log"
    )


# --- Actions ---


def _ask(state: State, key: str, found: facts.Snapshot) -> State:
    kind = _ACTIONS[key]
    if kind in ("cancel", "retry"):
        target, why_not = _job_for(state, kind, found)
    else:
        panel = "queues" if kind == "pause" else "runners"
        target, why_not = _target_in(state, panel, found)
        why_not = why_not or _runner_refuses(target, kind, found)
    if why_not:
        return dataclasses.replace(state, message=why_not)
    action = Action(kind, target)
    if kind == "pause" and any(queue.paused for queue in found.status.queues if queue.name == target):
        action = Action("continue", target)
    if kind == "set":
        slots = next(runner.slots for runner in found.status.runners if runner.id == target)
        action = _one_more(Action("set", target, slots), key)
    return dataclasses.replace(state, question=action)


def _one_more(action: Action, key: str) -> Action:
    return dataclasses.replace(action, slots=max(1, action.slots + (1 if key == "+" else -1)))


def _job_for(state: State, kind: str, found: facts.Snapshot) -> tuple[str, str]:
    name = chosen(state, "jobs", found) if state.view == "list" else state.subject
    if not name:
        return "", "there is no job here"
    now = state_of(name, found)
    if kind == "cancel" and now in ("completed", "failed", "cancelled"):
        return "", f"the job {name} is over already: {now}"
    if kind == "retry" and now in ("waiting", "working"):
        return "", f"the job {name} is {now}: only one that is over can be run again"
    return name, ""


def state_of(name: str, found: facts.Snapshot) -> str:
    """The state of a job as far as it was looked at; empty if it was not."""
    for job in (*found.live, *found.over):
        if job.name == name:
            return job.state
    return found.details.job.state.value if found.details and found.details.job.name == name else ""


def _target_in(state: State, panel: str, found: facts.Snapshot) -> tuple[str, str]:
    """The runner or queue that is meant: the one with the cursor; from elsewhere the only one."""
    if state.view != "list":
        return "", "go back to the list first (Escape)"
    noun, there = panel.removesuffix("s"), names(state, panel, found)
    if not there:
        return "", f"no {noun} is there"
    if state.panel != panel and len(there) > 1:
        return "", f"which {noun}? choose it with Tab and the arrows"
    return chosen(state, panel, found), ""


def _runner_refuses(name: str, kind: str, found: facts.Snapshot) -> str:
    wrong = {"drain": ("draining", "dead"), "resume": ("alive", "dead"), "set": ("dead",)}.get(kind, ())
    now = next((runner.state for runner in found.status.runners if runner.id == name), "")
    return f"the runner {name} is {now}" if now in wrong else ""


# --- Moving ---


def _press_in_list(state: State, key: str, found: facts.Snapshot, page: int) -> State:
    if key in ("tab", "back tab"):
        step = 1 if key == "tab" else -1
        return dataclasses.replace(state, panel=PANELS[(PANELS.index(state.panel) + step) % len(PANELS)])
    if key == "/":
        return dataclasses.replace(state, typed=state.filter, panel="jobs")
    if key == "s":
        states = ("", *STATES)
        return dataclasses.replace(state, state=states[(states.index(state.state) + 1) % len(states)], panel="jobs")
    if key in ("enter", "right", "l"):
        return _enter(state, key, found)
    rows = names(state, state.panel, found)
    index = position(state, state.panel, rows)
    return _put_cursor(state, rows, _moved(index, key, page, len(rows)))


def _enter(state: State, key: str, found: facts.Snapshot) -> State:
    """The row in full: a job's details; of a runner or a queue its jobs."""
    name = chosen(state, state.panel, found)
    if not name:
        return dataclasses.replace(state, message="there is nothing here")
    if state.panel == "jobs":
        return _open(state, "log" if key == "l" else "job", name)
    return dataclasses.replace(state, filter=f"{state.panel.removesuffix('s')}={name}", panel="jobs")


def _put_cursor(state: State, rows: Sequence[str], index: int) -> State:
    name = rows[index] if rows else ""
    return dataclasses.replace(state, rows={**state.rows, state.panel: (name, index)})


def _moved(index: int, key: str, page: int, length: int) -> int:
    """Where a key leads among `length` rows."""
    if key in _ENDS:
        index = 0 if _ENDS[key] < 0 else length - 1
    index += _STEPS.get(key, 0) + _LARGE_STEPS.get(key, 0) * max(1, page)
    return max(0, min(index, length - 1))


def _press_in_text(state: State, key: str, page: int, length: int) -> State:
    if key == "l" and state.view == "job":
        return _open(state, "log", state.subject)
    if key in ("enter", "right") and state.view == "log":
        return _open(state, "job", state.subject) if "job" not in state.back else state
    last = max(0, length - page)
    at = last if state.follow else min(state.scroll, last)
    moved = _moved(at, key, page, last + 1)
    follow = state.view == "log" and (key == "f" or (moved == last and (state.follow or moved > at or key in _ENDS)))
    return dataclasses.replace(state, scroll=moved, follow=follow)


def tell(state: State, message: str) -> State:
    """Say what became of an action, until the next key."""
    return dataclasses.replace(state, message=message)


def settle(state: State, found: facts.Snapshot) -> State:
    """Keep the cursors on the rows they are on, as these move."""
    rows = {}
    for panel in PANELS:
        there = names(state, panel, found)
        index = position(state, panel, there)
        rows[panel] = (there[index] if there else "", index)
    return dataclasses.replace(state, rows=rows)
