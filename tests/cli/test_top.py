"""`top` in a real terminal: tmux holds it, types keys, and tells what is on the screen."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from air_executor import client, model, store, testing
from air_executor.paths import Home
from tests.cli.conftest import SCRIPT, Cli
from tests.cli.test_reading import on_terminal

WIDTH, HEIGHT = 100, 45
EVIL = "\x1b]2;taken over\x07\x1b[2Jwiped\x1b[31m red\x9b1m"
BROKEN = """
from air_executor import cli
from air_executor.cli.top import page
draw = page.draw
page.draw = lambda state, found, size: 1 / 0 if state.view == "help" else draw(state, found, size)
cli.main(["top"])
"""


@dataclass
class Terminal:
    """A shell in a terminal of its own."""

    socket: Path
    home: Home

    def tmux(self, *words: str) -> str:
        return subprocess.run(
            ["tmux", "-S", self.socket, *words], check=True, capture_output=True, text=True, timeout=30
        ).stdout

    def type(self, *keys: str) -> None:
        self.tmux("send-keys", "-t", "t", *keys)

    def run(self, line: str) -> None:
        self.tmux("send-keys", "-t", "t", "-l", line)
        self.type("Enter")

    @property
    def screen(self) -> str:
        return self.tmux("capture-pane", "-p", "-t", "t")

    def asked(self, what: str) -> str:
        """What tmux knows of the terminal."""
        return self.tmux("display-message", "-p", "-t", "t", what).strip()

    def see(self, *texts: str, gone: str = "\0") -> str:
        """The screen, once it shows all of this and not that."""
        return self.see_that(lambda screen: all(text in screen for text in texts) and gone not in screen, str(texts))

    def see_that(self, condition: Callable[[str], bool], what: str) -> str:
        seen = ""

        def look() -> bool:
            nonlocal seen
            seen = self.screen
            return condition(seen)

        try:
            testing.wait_for(look, what=what)
        except AssertionError as error:
            raise AssertionError(f"{error}; the screen shows:\n{seen}") from None
        return seen

    def start(self, program: str = f"{SCRIPT} top") -> None:
        """Start it in a shell that has said something before, and remember how the terminal was."""
        self.run("clear; stty -a > before; echo said bef''ore")
        self.see("said before")
        self.run(program)
        self.see("Air-Executor", "JOB", "sleeper")
        assert self.asked("#{alternate_on} #{cursor_flag}") == "1 0"

    def check_left_clean(self, code: int) -> str:
        """The shell is back, with what it had said, and the terminal is as it was."""
        testing.wait_for(lambda: self.asked("#{alternate_on}") == "0", what="the end of the program")
        self.run("echo code $?; stty -a | diff before - && echo same ter''minal")
        screen = self.see(f"code {code}", "same terminal")
        assert "said before" in screen
        assert self.asked("#{alternate_on} #{cursor_flag}") == "0 1"
        return screen


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A runner, jobs in all states, and one with an evil name for its task's error and an evil log."""
    home = Home(tmp_path_factory.mktemp("top") / "home")
    with testing.running_runner(home, "--name", "r", "--slots", "4"):
        api = client.AirExecutorClient(home.root)
        api.create_job("fails", [model.Task("false")])
        api.create_job("completes", [model.Task("true")])
        api.create_job("sleeper", [model.Task("sleep", ["1000"])], labels={"evil": EVIL})
        testing.wait_for(lambda: api.get_job("sleeper").state == "working")  # the first, as it runs the longest
        script = f"printf '%b' {shlex.quote(EVIL)}; echo; until [ -e {home.root}/go ]; do sleep 0.05; done; echo second"
        api.create_job("writer", [model.Task("sh", ["-c", script])])
        store.submit(home, store.Submission(model.Job("lonely", queue="unserved"), [model.Task("true")]))
        for name in ("fails", "completes"):
            api.wait(name, 30)
        yield home


@pytest.fixture(scope="module")
def shell(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    work = tmp_path_factory.mktemp("work")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIR_EXECUTOR_", "TMUX"))}
    env |= {"AIR_EXECUTOR_HOME": str(home.root), "PS1": "$ ", "LC_ALL": "C.UTF-8", "NO_COLOR": ""}
    made = Terminal(Path(f"/tmp/air-top-{os.getpid()}"), home)  # the path of a socket has to be short
    size = ("-x", str(WIDTH), "-y", str(HEIGHT))
    words = ["tmux", "-S", made.socket, "-f", "/dev/null", "new-session", "-d", "-s", "t", *size, "bash --norc"]
    subprocess.run(words, check=True, env=env, cwd=work, timeout=30)
    yield made
    made.tmux("kill-server")
    made.socket.unlink(missing_ok=True)


@pytest.fixture
def terminal(shell: Terminal) -> Iterator[Terminal]:
    """The terminal, with the shell in front at the start and at the end."""
    yield shell
    if shell.asked("#{alternate_on}") == "1":
        shell.type("C-c")
        testing.wait_for(lambda: shell.asked("#{alternate_on}") == "0", what="the end of the program")


def test_a_session(terminal: Terminal) -> None:
    """In one, as each start costs a second: it shows, filters, cancels, follows a log, and survives a resize."""
    api = client.AirExecutorClient(terminal.home.root)
    terminal.start()
    screen = terminal.see("RUNNER", "r  ", "2/4", "QUEUE", "unserved", "nobody", "! 1 job waits in the queue unserved")
    rows = [line.split()[:2] for line in screen.splitlines()]
    shown = [name for name, *_ in filter(None, rows) if name in ("sleeper", "writer", "lonely", "fails", "completes")]
    assert shown[:3] == ["sleeper", "writer", "lonely"] and set(shown[3:]) == {"fails", "completes"}

    # a filter, and a state alone
    terminal.type("/", *"writ", "Enter")
    terminal.see("writer", "only writ", gone="sleeper")
    terminal.type("Escape", "s", "s", "s", "s")
    terminal.see("fails", "only failed", gone="writer")
    terminal.type("Escape")

    # a log that grows, and obeys nobody
    terminal.see("writer")
    terminal.type("Down", "l")
    terminal.see("Log of writer (following)", "wiped red")
    assert terminal.asked("#{pane_title}") != "taken over"
    (terminal.home.root / "go").touch()
    terminal.see("second", "(completed)")
    terminal.type("Escape")

    # details
    terminal.type("g", "Enter")
    terminal.see("Job sleeper", "sleep 1000", "submitted", r"\x1b[2Jwiped", "running")

    # a window that becomes small, and large again
    terminal.tmux("resize-window", "-t", "t", "-x", "60", "-y", "15")
    terminal.type("Escape")
    small = terminal.see_that(lambda screen: fits(screen, 60, 15) and "RUNNER" in screen, "a small list")
    assert all(word in small for word in ("QUEUE", "JOB", "\nr  ", "sleeper", "lonely"))
    terminal.tmux("resize-window", "-t", "t", "-x", str(WIDTH), "-y", str(HEIGHT))
    terminal.see_that(lambda screen: fits(screen, WIDTH, HEIGHT), "a large list")

    # actions ask first
    terminal.type("c")
    terminal.see("cancel the job sleeper? (y/n)")
    terminal.type("n")
    terminal.see("nothing was done")
    assert api.get_job("sleeper").state == "working"
    terminal.type("c", "y")
    testing.wait_for(lambda: api.get_job("sleeper").state == "cancelled")
    assert re.search(r"cancelled by user \S+@\S+ via top", (api.get_job("sleeper").exit or pytest.fail()).reason)
    terminal.see("sleeper  ", "cancelled by")
    terminal.type("/", *"sleeper", "Enter", "r", "y")
    testing.wait_for(lambda: (job := api.get_job("sleeper")).state == "working" and job.attempt == 2)
    terminal.type("Escape", "Tab", "d", "y")
    terminal.see("draining", "no runner takes jobs")
    terminal.type("u", "y")
    terminal.see("alive", gone="no runner takes jobs")

    terminal.type("+", "+", "-", "y")
    terminal.see("/5 ", "is asked to have 5 slots")
    terminal.type("Tab", "p", "y")
    terminal.see("paused since")
    terminal.type("p", "y")
    terminal.see("is resumed", gone="paused since")

    terminal.type("?")
    terminal.see("Keys", "cancel the job")
    terminal.type("q")
    terminal.check_left_clean(0)


def fits(screen: str, width: int, height: int) -> bool:
    """Whether it fills the window to its last line, and none is longer."""
    lines = screen.rstrip("\n").split("\n")
    return len(lines) == height and "q quit" in lines[-1] and all(len(line) <= width for line in lines)


@pytest.mark.parametrize(("how", "code"), [("C-c", 130), ("kill", 143)])
def test_a_signal_leaves_the_terminal_clean(terminal: Terminal, how: str, code: int) -> None:
    terminal.start()
    if how == "kill":
        (child,) = psutil.Process(int(terminal.asked("#{pane_pid}"))).children()
        child.terminate()
    else:
        terminal.type(how)
    terminal.check_left_clean(code)


def test_a_fault_leaves_the_terminal_clean(terminal: Terminal) -> None:
    (terminal.home.root / "broken.py").write_text(BROKEN)
    terminal.start(f"{sys.executable} {terminal.home.root}/broken.py")
    terminal.type("?")
    assert "ZeroDivisionError" in terminal.check_left_clean(1)


def test_ctrl_z_gives_the_terminal_to_the_shell_for_a_while(terminal: Terminal) -> None:
    terminal.start()
    terminal.type("C-z")
    terminal.see("Stopped", "said before")
    assert terminal.asked("#{alternate_on} #{cursor_flag}") == "0 1"
    terminal.run("fg")
    terminal.see("Air-Executor", "JOB", "sleeper")
    terminal.type("q")
    terminal.check_left_clean(0)


# --- Where it cannot be ---


def test_it_needs_a_terminal(cli: Cli) -> None:
    assert "top needs a terminal" in cli.refused("top", code=2)
    assert "examples:" in cli("top", "--help").stdout and "--json" not in cli("top", "--help").stdout.split("For")[0]


def test_it_says_what_is_missing(cli: Cli) -> None:
    cli("submit", "--", "true")
    assert "cannot draw on this terminal" in on_terminal(cli, "top", TERM="dumb")
    (cli.cwd / "rich.py").write_text("raise ImportError")
    text = on_terminal(cli, "top", PYTHONPATH=str(cli.cwd))
    assert text.strip() == "air-executor: top needs rich: install rich, or this project's extra `top`"
    (cli.cwd / "rich.py").unlink()
    assert "does not exist; submit a job" in on_terminal(cli, "--home", "nowhere", "top")
