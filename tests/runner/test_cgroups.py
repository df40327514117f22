"""Control groups: what is left when a runner and its jobs are killed. Where a machine has none, that is an error."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from air_executor import AirExecutorClient, JobState, runners, spool, store, testing
from air_executor.errors import RunnerError
from air_executor.paths import Home
from air_executor.testing import wait_for
from air_runner import cgroups
from tests.runner.conftest import StartRunner
from tests.runner.test_kill import Fugitives, alive, shell

MOUNTS = [
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755",
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory",
]
UNIFIED = "41 31 0:38 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw"
INNER = "41 31 0:38 /docker/ab /sys/fs/cgroup rw - cgroup2 cgroup rw"


@pytest.mark.parametrize(
    ("mounts", "groups", "expected"),
    [
        ([UNIFIED], ["4:memory:/x", "0::/"], "/sys/fs/cgroup/unified"),
        ([UNIFIED], ["0::/system.slice/a.service"], "/sys/fs/cgroup/unified/system.slice/a.service"),
        ([INNER], ["0::/docker/ab/c"], "/sys/fs/cgroup/c"),
        ([INNER], ["0::/docker/ab"], "/sys/fs/cgroup"),
        ([INNER], ["0::/docker/abc"], None),
        ([INNER], ["0::/../outside"], None),
        ([UNIFIED], ["4:memory:/x"], None),
        ([], ["0::/"], None),
    ],
)
def test_the_own_group_is_found(mounts: list[str], groups: list[str], expected: str | None) -> None:
    found = cgroups.find_directory([*MOUNTS, *mounts], groups)
    assert found == (None if expected is None else Path(expected))


@pytest.fixture
def can_have_a_group(home: Home) -> Iterator[bool]:
    """Asked in another process: one that has moved would not come back to its place."""
    home.config.write_text("[runner]\ncgroup = true\n")
    code = "import sys, pathlib; from air_runner import cgroups; from air_executor.paths import Home; "
    code += "cgroups.Group(Home(pathlib.Path(sys.argv[1]))).leave()"
    argv = [sys.executable, "-c", code, str(home.root)]
    possible = subprocess.run(argv, capture_output=True, check=False).returncode == 0
    yield possible
    testing.end_everything(home)
    for path in cgroups.of_home(home) if possible else []:  # of runners that were killed at the end of the test
        wait_for(lambda path=path: _remove(path), what=f"the end of the last process in {path}")


def _remove(path: Path) -> bool:
    with contextlib.suppress(OSError):
        path.rmdir()
    return not path.exists()


def check_refusal(home: Home, *wrapper: str) -> None:
    argv = [*wrapper, sys.executable, "-m", "air_runner", "--home", str(home.root)]
    refused = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert refused.returncode == RunnerError.exit_code
    assert "[runner] cgroup is on, but" in refused.stderr and "switch it off" in refused.stderr


def group_of(pid: int) -> str:
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return next(line.removeprefix("0::") for line in lines if line.startswith("0::"))


def waiting(path: Path) -> dict[str, object]:
    return shell(f"while ! test -e {path}; do sleep 0.05; done")


WITHOUT = [
    "unshare",
    "--user",
    "--map-root-user",
    "--mount",
    "sh",
    "-c",
    'mount -t tmpfs x /sys/fs/cgroup; exec "$@"',
    "-",
]
"""What follows runs where no control group can be made."""


def test_where_no_group_can_be_made_the_runner_says_so(home: Home) -> None:
    home.config.write_text("[runner]\ncgroup = true\n")
    check_refusal(home, *WITHOUT)


@pytest.mark.parametrize("launcher", ["fork", "exec"])
def test_what_runner_and_ephemeral_runner_left_is_ended_by_the_next(
    client: AirExecutorClient,
    home: Home,
    start_runner: StartRunner,
    tmp_path: Path,
    launcher: str,
    can_have_a_group: bool,
) -> None:
    if not can_have_a_group:
        check_refusal(home)
        return
    # Of one name: the second must not take the group of the first for its own.
    first = start_runner("--name", "one", "--launcher", launcher)
    with Fugitives(tmp_path / "pids") as fugitives:
        client.create_job("a", [fugitives.task])
        client.create_job("goes-on", [waiting(tmp_path / "go")])
        found = fugitives.all()
        wait_for(lambda: client.get_job("goes-on").runner, what="the other job")
        runner = client.get_job("a").runner
        assert runner is not None
        first.kill()
        os.kill(runner.pid, signal.SIGKILL)
        home.job("goes-on").state.write_text("nobody can read who runs it")
        second = start_runner("--name", "one", "--launcher", launcher)
        assert client.wait("a", 20).state is JobState.FAILED
        wait_for(lambda: not alive(found), what="the end of what was left")
    assert len(cgroups.of_home(home)) == 2, "the first one's group is there as long as a job of it"
    (tmp_path / "go").touch()
    wait_for(lambda: client.get_job("goes-on").state is JobState.COMPLETED, what="its end, written anew")
    wait_for(lambda: len(cgroups.of_home(home)) == 1, what="the end of the first runner's group")
    second.signal(signal.SIGTERM)
    assert second.wait() == 0
    assert cgroups.of_home(home) == []


def test_a_runner_inside_a_job_of_another_has_a_group_beside_it(
    client: AirExecutorClient, home: Home, start_runner: StartRunner, tmp_path: Path, can_have_a_group: bool
) -> None:
    if not can_have_a_group:
        check_refusal(home)
        return
    inner = Home(tmp_path / "inner")
    store.ensure_home(inner)
    inner.config.write_text(home.config.read_text())
    outer = start_runner("--handover")
    client.create_job("a", [{"command": sys.executable, "args": ["-m", "air_runner", "--home", str(inner.root)]}])
    [info] = wait_for(lambda: runners.alive_runners(inner), what="the inner runner")
    assert Path(group_of(info.process.pid)).parent == Path(group_of(outer.popen.pid)).parent
    assert group_of(info.process.pid) != group_of(outer.popen.pid)
    AirExecutorClient(inner.root).create_job("b", [waiting(tmp_path / "go")])
    wait_for(lambda: AirExecutorClient(inner.root).get_job("b").runner, what="the inner job")
    outer.kill()
    next_one = start_runner()
    wait_for(lambda: "a" in spool.claimed(home, next_one.id), what="the takeover")
    (tmp_path / "go").touch()
    assert AirExecutorClient(inner.root).wait("b", 20).state is JobState.COMPLETED
    os.kill(info.process.pid, signal.SIGTERM)
    assert client.wait("a", 20).state is JobState.COMPLETED
