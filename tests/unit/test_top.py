"""What `top` shows and what its keys mean: decisions about plain data, and looks at a home without a runner."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich import cells

from air_executor import audit, model
from air_executor.cli.top import facts, look, page, states, texts, watcher
from air_executor.cli.top.keys import Keys
from air_executor.cli.top.logs import LogView, readable
from air_executor.cli.top.pace import Pace
from air_executor.cli.top.page import Size
from air_executor.cli.top.states import Action, State
from air_executor.health import QueueStatus, RunnerStatus, Status
from air_executor.paths import Home
from air_executor.pauses import Pause
from tests.unit.conftest import Submit, finish

# --- Keys ---


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"jk", ["j", "k"]),
        (b"\x1b[A\x1bOB\x1b[5~", ["up", "down", "page up"]),
        (b"\r\n\t\x1b[Z\x7f", ["enter", "enter", "tab", "back tab", "backspace"]),
        ("ä€".encode(), ["ä", "€"]),
        (b"\x1b[1;5Cx", ["x"]),
        (b"\x1bx", ["escape", "x"]),
        (b"\x00\x01\xff", ["�"]),
    ],
)
def test_keys(data: bytes, keys: list[str]) -> None:
    whole, pieces = Keys(), Keys()
    assert whole.feed(data) == keys and not whole.unsure
    assert [key for i in range(len(data)) for key in pieces.feed(data[i : i + 1])] == keys


def test_an_escape_is_a_key_when_nothing_follows() -> None:
    keys = Keys()
    assert keys.feed(b"\x1b") == [] and keys.unsure
    assert keys.flush() == ["escape"] and not keys.unsure and keys.flush() == []


@given(st.binary(max_size=60))
def test_whatever_is_typed_is_keys(data: bytes) -> None:
    keys = Keys()
    assert all(len(key) == 1 or key.replace(" ", "").isalpha() for key in (*keys.feed(data), *keys.flush()))


# --- Which jobs ---


def job(name: str, state: str = "completed", since: float = 0.0, **more: str) -> facts.JobFacts:
    return facts.JobFacts(name, state, more.pop("queue", "default"), since, **more)  # type: ignore[arg-type]


def runner(name: str, state: str = "alive") -> RunnerStatus:
    return RunnerStatus(name, state, "host", 1, ["default"], 4, 1, 0.5, "1", "fork", False)


def snapshot(
    *jobs: facts.JobFacts, runners: Sequence[RunnerStatus] = (), queues: Sequence[QueueStatus] = ()
) -> facts.Snapshot:
    seen = Status("/home", "", exists=True, start="start", runners=list(runners), queues=list(queues))
    live = [each for each in jobs if not each.over]
    return facts.Snapshot(seen, 1000.0, live, [each for each in jobs if each.over], total=len(jobs))


JOBS = (
    job("alpha", "working", 5, runner="r1"),
    job("beta", "waiting", 3, queue="Big"),
    job("gamma", "failed", 9, why="Exit code 3"),
    job("delta", "completed", 8),
)


@pytest.mark.parametrize(
    ("typed", "state", "names"),
    [
        ("", "", ["alpha", "beta", "gamma", "delta"]),
        ("LTA", "", ["delta"]),
        ("exit 3", "", ["gamma"]),
        ("queue=Big", "", ["beta"]),
        ("queue=big", "", []),
        ("runner=r1", "", ["alpha"]),
        ("state=failed", "", ["gamma"]),
        ("a", "working", ["alpha"]),
        ("x=y", "", []),
    ],
)
def test_filters(typed: str, state: str, names: list[str]) -> None:
    wanted = facts.parse_filter(typed, state)
    assert [each.name for each in facts.jobs_of(snapshot(*JOBS), wanted)] == names


def test_the_longest_running_job_is_the_first_and_waiting_ones_keep_their_order() -> None:
    jobs = [job("b", "waiting", 9), job("y", "working", 7), job("x", "working", 8), job("a", "waiting", 1)]
    assert [each.name for each in facts.in_order(jobs)] == ["y", "x", "b", "a"]


def test_a_job_that_lives_again_is_shown_once() -> None:
    found = dataclasses.replace(snapshot(job("a", "working")), over=[job("a", "failed")])
    assert [each.state for each in facts.jobs_of(found, facts.EVERYTHING)] == ["working"]


# --- Keys and what they do ---

FOUND = snapshot(*JOBS, runners=[runner("r1"), runner("r2", "draining")], queues=[QueueStatus("q", 0, None, 1)])


def press(state: State, *keys: str, found: facts.Snapshot = FOUND) -> tuple[State, list[Action]]:
    """Type keys, and collect what is to be done."""
    done = []
    for key in keys:
        state, action = states.press(states.settle(state, found), key, found, page=10, length=100)
        done += [action] if action else []
    return states.settle(state, found), done


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ((), "alpha"),
        (("down", "j"), "gamma"),
        (("j", "j", "k"), "beta"),
        (("G",), "delta"),
        (("end", "up"), "gamma"),
        (("G", "g"), "alpha"),
        (("page down",), "delta"),
        (("up",), "alpha"),
    ],
)
def test_the_cursor_moves(keys: tuple[str, ...], name: str) -> None:
    assert states.chosen(press(State(), *keys)[0], "jobs", FOUND) == name


def test_the_cursor_stays_on_its_job_and_at_the_top() -> None:
    more = snapshot(job("new", "working", 1), *JOBS)
    assert states.chosen(states.settle(press(State(), "j")[0], more), "jobs", more) == "beta"
    assert states.chosen(states.settle(press(State())[0], more), "jobs", more) == "new"
    less = snapshot(*JOBS[:2])
    assert states.chosen(states.settle(press(State(), "G")[0], less), "jobs", less) == "beta"


@pytest.mark.parametrize(
    ("keys", "done"),
    [
        (("c", "y"), [Action("cancel", "alpha")]),
        (("c", "n"), []),
        (("c", "enter", "y"), []),
        (("G", "r", "Y"), [Action("retry", "delta")]),
        (("j", "enter", "c", "y"), [Action("cancel", "beta")]),
        (("tab", "d", "y"), [Action("drain", "r1")]),
        (("tab", "j", "u", "y"), [Action("resume", "r2")]),
        (("tab", "+", "y"), [Action("set", "r1", 5)]),
        (("tab", "-", "-", "-", "-", "-", "+", "y"), [Action("set", "r1", 2)]),
        (("p", "y"), [Action("pause", "q")]),
    ],
)
def test_actions_are_asked_for_before(keys: tuple[str, ...], done: list[Action]) -> None:
    assert press(State(), *keys)[1] == done


def test_a_queue_that_is_paused_is_resumed() -> None:
    held = QueueStatus("q", 1, 1.0, 1, Pause("q", None, "ana", ""))
    assert press(State(), "p", "y", found=snapshot(queues=[held]))[1] == [Action("continue", "q")]
    assert press(State(), "p", found=snapshot())[0].message == "no queue is there"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (("G", "c"), "the job delta is over already: completed"),
        (("r",), "the job alpha is working: only one that is over can be run again"),
        (("d",), "which runner? choose it with Tab and the arrows"),
        (("+",), "which runner? choose it with Tab and the arrows"),
        (("tab", "u"), "the runner r1 is alive"),
        (("tab", "j", "d"), "the runner r2 is draining"),
        (("enter", "d"), "go back to the list first (Escape)"),
        (("/", "z", "z", "enter", "c"), "there is no job here"),
        (("/", "z", "z", "enter", "enter"), "there is nothing here"),
    ],
)
def test_why_not(keys: tuple[str, ...], message: str) -> None:
    state, done = press(State(), *keys)
    assert (state.message, state.question, done) == (message, None, [])


def test_views_lead_to_each_other_and_back() -> None:
    views = []
    state = State()
    for key in ("enter", "l", "?", "escape", "escape", "escape", "l", "escape"):
        state, _ = press(state, key)
        views.append(state.view)
    assert views == ["job", "log", "help", "log", "job", "list", "log", "list"]
    assert press(State(), "?", "q")[0].ended


def test_a_filter_is_typed_and_taken_back() -> None:
    typing, _ = press(State(), "/", *"delq", "backspace")
    assert typing.typed == "del" and states.names(typing, "jobs", FOUND) == ["delta"] and not typing.ended
    assert press(typing, "enter")[0].filter == "del" and press(typing, "escape")[0].filter == ""
    assert press(press(typing, "enter")[0], "escape")[0].filter == ""
    assert press(State(), "tab", "enter")[0].filter == "runner=r1"
    shown = [press(State(), *"s" * times)[0].state for times in range(7)]
    assert shown == ["", "waiting", "working", "completed", "failed", "cancelled", ""]


def test_a_log_is_followed_until_one_looks_up() -> None:
    log, _ = press(State(), "l")
    assert log.follow
    above, _ = press(log, "k")
    assert not above.follow and above.scroll == 89, "of 100 lines 10 are shown"
    assert press(above, "j")[0].follow and press(above, "f")[0].follow and press(above, "G")[0].follow
    assert not press(log, "g")[0].follow


# --- Pages ---


@given(
    st.integers(1, 150),
    st.integers(1, 60),
    st.sampled_from(["list", "job", "log", "help"]),
    st.lists(st.sampled_from(["j", "G", "tab", "/", "x", "c", "s", "enter"]), max_size=4),
)
def test_a_page_fills_the_window_and_not_more(width: int, height: int, view: str, keys: list[str]) -> None:
    many = [job(f"airflow-{'x' * 60}-{i}", "failed", i, why="w " * 80) for i in range(80)]
    found = snapshot(
        *JOBS, *many, runners=[runner(f"r{i}") for i in range(9)], queues=[QueueStatus("q", 3, 1.0, 0)] * 9
    )
    shown = model.Job("alpha", labels={"a": "b c " * 40}, queued_at=model.now())
    details = facts.Details(shown, [model.Task("true", id="one", error="e " * 99)] * 3, [{"at": "x", "why": "y " * 99}])
    found = dataclasses.replace(found, details=details, log=facts.Log("alpha", ["z" * 300] * 50, "working"))
    state, _ = press(State(view=view, subject="alpha", follow=view == "log"), *keys, found=found)
    lines = page.draw(state, found, Size(width, height))
    assert len(lines) <= height
    if width >= page.MIN_WIDTH and height >= page.MIN_HEIGHT:
        assert len(lines) == height
        assert all(sum(len(text) for text, _ in line) <= width + 2 for line in lines), "a gap may be cut off"


@pytest.mark.parametrize(
    ("room", "wanted", "focus", "given"),
    [
        (20, [1, 2, 50], 2, [1, 2, 17]),
        (20, [9, 9, 50], 2, [4, 4, 12]),
        (20, [9, 9, 50], 0, [9, 4, 7]),
        (5, [9, 9, 9], 2, [1, 1, 3]),
        (1, [9, 9, 9], 2, [1, 0, 0]),
        (-3, [9, 9, 9], 2, [0, 0, 0]),
    ],
)
def test_rows_are_shared(room: int, wanted: list[int], focus: int, given: list[int]) -> None:
    assert page.share(room, wanted, focus) == given


@given(st.integers(0, 100), st.integers(0, 100), st.integers(1, 30))
def test_the_cursor_is_in_the_window(cursor: int, rows: int, height: int) -> None:
    cursor = min(cursor, max(0, rows - 1))
    start = page.window(cursor, rows, height)
    assert 0 <= start <= cursor < start + height and (rows <= start + height or rows - start >= height)


def test_of_wide_characters_none_is_lost() -> None:
    log = facts.Log("j", ["日本語" * 9, "", "a" * 21], "working")
    pieces = [text for ((text, _),) in texts.log_lines(log, 20)]
    assert "".join(pieces) == "日本語" * 9 + "a" * 21
    assert [cells.cell_len(piece) for piece in pieces] == [20, 20, 14, 0, 20, 1]


def test_hints_are_left_out_from_the_end() -> None:
    assert texts.hints("list", 20) == "? help  q quit"
    assert texts.hints("list", 200).startswith("? help  Enter details") and texts.hints("list", 200).endswith("q quit")


# --- Looking ---


def test_pace() -> None:
    pace = Pace(1.0)
    pace.looked(10.0, 10.01)
    assert pace.due == 11.0
    pace.looked(10.0, 11.0)
    assert pace.due == 31.0, "what takes long is done seldom"
    pace.hurry()
    assert pace.due == 0.0


def test_a_look_finds_what_lives_and_what_ended(home: Home, submit: Submit) -> None:
    for name in ("one", "two", "three"):
        submit(name)
    finish(home, "one", model.JobState.FAILED)
    looking = look.Look(home)
    looking.look()
    assert [(each.name, each.state) for each in looking.found.live] == [("two", "waiting"), ("three", "waiting")]
    assert [(each.name, each.why) for each in looking.found.over] == [("one", "failed in a test")]
    assert looking.found.total == 3 and "no runner takes jobs" in looking.found.status.problems[0]
    finish(home, "two")
    looking.turn_to(look.Interest(facts.parse_filter("", "completed"), job="two", log="two"))
    looking.hurry()
    looking.look()
    assert looking.found.over[0].name == "two"
    assert looking.found.details is not None and [task.command for task in looking.found.details.tasks] == ["true"]
    assert looking.found.log == facts.Log("two", [], "completed") and not looking.found.trouble
    looking.turn_to(look.Interest(job="nobody"))
    looking.look()
    assert "there is no job named nobody" in looking.found.trouble
    looking.look()
    assert "there is no job named nobody" in looking.found.trouble, "until that is looked at again"
    looking.turn_to(look.Interest())
    looking.look()
    assert not looking.found.trouble
    looking.close()


def test_an_end_is_seen_before_the_index_knows_it(home: Home, submit: Submit) -> None:
    ends = look.Ends(home)
    submit("a")
    ends.note_live({"a"})
    finish(home, "a")
    ends.note_live(set())
    assert [each.name for each in ends.merged([job("b", since=1.0), job("a", since=2.0)])] == ["a", "b"]
    assert ends.merged([])[0].since > 2.0, "the newer of two ends of a job"


def test_a_log_is_read_as_it_grows(home: Home, submit: Submit) -> None:
    submit("a", [model.Task("true", id="x"), model.Task("true", id="y")])
    view, paths = LogView(home, "a"), home.job("a")
    view.read()
    assert view.lines == []
    paths.log("x").write_bytes(b"1\n50%\r99%\nhal")
    view.read()
    assert view.lines == ["1", "99%", "hal"]
    with paths.log("x").open("ab") as file:
        file.write(b"f\n")
    paths.log("y").write_bytes(b"z\n")
    view.read()
    assert view.lines == ["x | 1", "x | 99%", "x | half", "y | z"] and not view.cut


def test_of_a_large_log_only_the_end_is_read(home: Home, submit: Submit) -> None:
    submit("a")
    home.job("a").log("task-1").write_bytes(b"a line of a log\n" * 200_000)
    view = LogView(home, "a")
    view.read()
    assert view.cut and set(view.lines[1:]) == {"a line of a log"} and len(view.lines) <= 2000


@given(st.binary(max_size=200))
def test_a_line_obeys_nobody(line: bytes) -> None:
    assert all(letter.isprintable() for letter in readable(line))


def test_actions_say_who_asked(home: Home, submit: Submit) -> None:
    submit("a")
    assert watcher.act(home, Action("cancel", "a")) == "the job a is cancelled"
    assert watcher.act(home, Action("retry", "a")) == "the job a waits for attempt 2"
    for kind in ("pause", "pause", "continue", "continue"):
        watcher.act(home, Action(kind, "default"))
    assert [(event["what"], event["by"]) for event in audit.latest(home)] == [
        ("pause", watcher.asker()),
        ("resume", watcher.asker()),
    ]
    events = look.read_details(home, "a").events
    assert [event["by"] for event in events if event["event"] == "job"][1:] == [watcher.asker()] * 2
    assert watcher.asker().endswith(" via top") and "@" in watcher.asker()
