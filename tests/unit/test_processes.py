"""Who is who among processes, and the end of whole trees. The processes are real."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from air_executor import processes
from air_executor.testing import wait_for

TREE = """
import os, subprocess, sys, time
# A child, a grandchild in a session of its own, and one that ignores TERM.
subprocess.Popen([sys.executable, "-c", "import subprocess, sys;"
    "p = subprocess.Popen(['sleep', '300'], start_new_session=True); p.wait()"])
subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "time.sleep(300)"])
time.sleep(300)
"""


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", TREE]) as process:
        yield process
        processes.kill_tree(process.pid)


def test_this_process_lives() -> None:
    me = processes.identify(os.getpid(), "r")
    assert processes.is_local(me) and processes.is_alive(me) and me.runner == "r"


def test_a_number_that_was_used_again_is_another_process() -> None:
    me = processes.identify(os.getpid())
    assert processes.is_alive(dataclasses.replace(me, start_time=me.start_time - 1)) is False
    assert processes.is_alive(dataclasses.replace(me, boot_id="other")) is False
    assert processes.is_alive(dataclasses.replace(me, host="other")) is None
    assert not processes.is_local(dataclasses.replace(me, host="other"))


def test_what_is_gone_or_a_zombie_does_not_live() -> None:
    with subprocess.Popen(["true"]) as process:
        me = processes.identify(process.pid)
        wait_for(lambda: processes.start_time(process.pid) is None, what="a zombie")
        assert processes.is_alive(me) is False
    assert processes.start_time(process.pid) is None
    assert processes.identify(process.pid).start_time == 0
    assert processes.tree(process.pid) == []


def test_a_whole_tree_is_killed(child: subprocess.Popen[bytes]) -> None:
    wait_for(lambda: len(processes.tree(child.pid)) == 4, what="the tree")
    members = processes.tree(child.pid)
    processes.kill_tree(child.pid)
    assert child.wait(10) == -signal.SIGKILL
    _, alive = psutil.wait_procs(members, timeout=10)
    assert [each for each in alive if each.status() != psutil.STATUS_ZOMBIE] == []


def test_a_pidfd_tells_of_the_end(child: subprocess.Popen[bytes]) -> None:
    import select

    fd = processes.open_pidfd(child.pid)
    assert fd is not None
    assert select.select([fd], [], [], 0)[0] == []
    processes.kill_tree(child.pid)
    assert select.select([fd], [], [], 10)[0] == [fd]
    os.close(fd)
    assert processes.open_pidfd(2**22 + 1) is None


def test_a_process_that_is_just_being_started_is_known_by_its_mark() -> None:
    """Between its old and its new program it shows no environment: on a busy host in a third of all tries."""
    mark = f"AIR_TEST_MARK={time.time_ns()}"
    environment = dict([mark.split("="), ("PATH", os.environ["PATH"])])
    busy = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(4)]
    missed = 0
    try:
        for _ in range(60):
            with subprocess.Popen(["sleep", "60"], env=environment) as started:
                missed += not processes.carries(started.pid, mark)
                started.kill()
    finally:
        for each in busy:
            each.kill()
            each.wait()
    assert not missed


def test_what_is_gone_or_has_no_environment_carries_nothing() -> None:
    with subprocess.Popen(["sleep", "60"], env={}) as bare:
        assert not processes.carries(bare.pid, "AIR_TEST_MARK=1")
        bare.kill()
        wait_for(lambda: processes.start_time(bare.pid) is None)  # a zombie, until it is waited for
        assert not processes.carries(bare.pid, "AIR_TEST_MARK=1")
    assert not processes.carries(bare.pid, "AIR_TEST_MARK=1")
    assert not processes.carries(2, "AIR_TEST_MARK=1")


def test_what_a_dead_process_left_is_killed_by_session_and_by_mark() -> None:
    mark = f"AIR_TEST_MARK={time.time_ns()}"
    name, _, value = mark.partition("=")
    program = (
        "import subprocess, sys\n"
        "print(subprocess.Popen(['sleep', '300'], env={}).pid)\n"
        "print(subprocess.Popen(['sleep', '300'], start_new_session=True).pid, flush=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, name: value},
    ) as leader:
        assert leader.stdout is not None
        left = [int(leader.stdout.readline()), int(leader.stdout.readline())]
    assert all(processes.start_time(pid) for pid in left)
    processes.kill_remnants(leader.pid, mark)
    wait_for(lambda: not any(processes.start_time(pid) for pid in left), what="the end of what was left")


def test_what_carries_only_one_of_the_marks_is_somebody_elses() -> None:
    mark = f"AIR_TEST_MARK={time.time_ns()}"
    name, _, value = mark.partition("=")
    with subprocess.Popen(["sleep", "300"], env={**os.environ, name: value, "OTHER": "b"}) as other:
        processes.kill_remnants(2**22 + 1, mark, "OTHER=a")
        assert processes.start_time(other.pid) is not None
        processes.kill_remnants(2**22 + 1, mark, "OTHER=b")
        assert other.wait(10) == -signal.SIGKILL


def test_a_process_that_may_not_be_signalled_does_not_spare_the_others(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a task that runs sudo."""
    wait_for(lambda: len(processes.tree(child.pid)) == 4, what="the tree")
    refused = processes.tree(child.pid)[1].pid
    send_signal = psutil.Process.send_signal

    def send(process: psutil.Process, number: signal.Signals) -> None:
        if process.pid == refused:
            raise psutil.AccessDenied(process.pid)
        send_signal(process, number)

    with monkeypatch.context() as patched:
        patched.setattr(psutil.Process, "send_signal", send)
        processes.kill_tree(child.pid)
    assert child.wait(10) == -signal.SIGKILL
    processes.kill_tree(refused)


def test_signals_are_described() -> None:
    assert processes.describe_signal(9) == "SIGKILL (9)"
    assert processes.describe_signal(4711) == "signal 4711"


def test_containers_of_one_host_are_told_apart() -> None:
    """With the host's network they have its name; their process numbers are their own."""
    command = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", sys.executable, "-c"]
    source = "from air_executor import processes; print(processes.host(), processes.host_name())"
    inside, name = subprocess.check_output([*command, source], text=True).split()
    assert inside != processes.host() and inside.startswith(socket.gethostname() + "+")
    assert name == processes.host_name()
