"""Slurm as the queues of config.toml need it: what its commands say is gathered once, and judged by pure functions.

It is looked at if a queue sends its jobs there, or a runner has done so. Nothing is submitted: that does `slurmprobe`.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import util
from ipaddress import ip_address
from urllib.parse import urlsplit

from air_executor import processes, queuetables, runners, settings
from air_executor.doctor import airflow, filesystem, slurmprobe
from air_executor.doctor.airflow import Ask
from air_executor.doctor.facts import Facts
from air_executor.doctor.findings import Check, Finding, ok, problem, several, warn
from air_executor.errors import SettingsError
from air_executor.paths import Home
from air_executor.settings import Settings
from air_executor.slurm import condition, options, words

COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "sinfo")
OLDEST = (22, 5)
"""The oldest Slurm with which it was tried."""
TIMEOUT = 20.0
MAX_ARRAY = 1000
"""How many jobs go to Slurm as one array at most."""
POLLS_KEPT = 3
"""A job that is over should be known to Slurm for so many looks."""
LOCAL = frozenset({"tmpfs", "ramfs", "overlay", "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs"})
"""Filesystems that the host has for itself, unless it exports them."""
INSTALL = "install Slurm's client programs (Debian: apt install slurm-client) where runners find them on their PATH"


@dataclass(frozen=True)
class Partition:
    """As sinfo shows it."""

    name: str
    default: bool = False
    up: bool = True
    seconds: float | None = None
    """The most time that a job has there; None: there is no limit."""
    usable: int = 0
    """How many of its nodes are neither down nor drained."""


@dataclass(frozen=True)
class Cluster:
    """What Slurm says of itself."""

    missing: tuple[str, ...] = ()
    """Commands that are not on the PATH."""
    version: str = ""
    trouble: str = ""
    """What it says in place of an answer; empty if it answers."""
    config: Mapping[str, str] = field(default_factory=dict)
    partitions: Mapping[str, Partition] = field(default_factory=dict)
    hosts: frozenset[str] = frozenset()
    """The names of its nodes' hosts."""


def check_slurm(home: Home, ask: Ask, *, probe: bool = False) -> Iterator[Finding]:
    """If jobs go to Slurm, they can.

    Args:
        ask: who gets the facts about Airflow.
        probe: whether each queue submits a small job that looks at the home from its node.
    """
    try:
        chosen = settings.load(home)
    except SettingsError:  # which is a finding of its own
        return
    queues = {name: table for name, table in chosen.queues.items() if table.launcher == queuetables.SLURM}
    if not queues and next(condition.read_all(home), None) is None:
        yield ok(Check.SLURM, 'not used: no queue in config.toml has launcher = "slurm"')
        return
    found = gather()
    if not (found.trouble and is_told(home)):
        yield from judge(found, chosen)
    mounts = filesystem.MOUNTS.read_text(errors="surrogateescape") if filesystem.MOUNTS.exists() else ""
    kind, _ = filesystem.mount_of(home.root.resolve(), mounts)
    yield judge_place(kind, found.hosts, processes.host())
    if util.find_spec("airflow") is not None and airflow.start_dev_config(home) is None:
        with contextlib.suppress(airflow.AirflowError):  # which is a finding of its own
            yield from judge_airflow(ask(), found.hosts, processes.host())
    if probe and not found.missing and not found.trouble:
        troubled = {name for name, table in queues.items() if any(_judge_table(found, name, table))}
        yield from slurmprobe.probe(home, queues, troubled)


def is_told(home: Home) -> bool:
    """Whether a living runner says that Slurm does not answer: then that is a finding of its own."""
    alive = {info.id for info in runners.alive_runners(home)}
    return any(each.trouble is not None and each.runner in alive for each in condition.read_all(home))


# --- Gathering ---


def gather() -> Cluster:
    """Ask Slurm."""
    missing = tuple(name for name in COMMANDS if shutil.which(name) is None)
    if missing:
        return Cluster(missing)
    try:
        version = _ask("sinfo", "--version").strip()
        pinged = _ask("scontrol", "ping", sound=(0, 1))
        if not re.search(r"\bis UP\b", pinged):
            return Cluster(version=version, trouble=words.ping(pinged))
        config = read_config(_ask("scontrol", "show", "config"))
        said = _ask("sinfo", "--noheader", "--all", "--format=%P|%a|%l|%D|%t|%n")
    except (OSError, subprocess.SubprocessError) as error:
        return Cluster(trouble=_why(error))
    return Cluster((), version, "", config, *read_partitions(said))


def _ask(*argv: str, sound: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(  # noqa: S603
        argv, capture_output=True, text=True, errors="replace", timeout=TIMEOUT, check=False
    )
    if done.returncode not in sound:
        raise subprocess.CalledProcessError(done.returncode, argv[0], done.stdout, done.stderr)
    return done.stdout


def _why(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"{error.cmd[0]} did not answer within {TIMEOUT:.0f} s"
    if isinstance(error, subprocess.CalledProcessError):
        return f"{error.cmd}: {words.short(str(error.cmd), str(error.stderr)) or f'exit code {error.returncode}'}"
    return str(error)


def read_config(said: str) -> dict[str, str]:
    """What `scontrol show config` says. Pure."""
    pairs = (line.partition("=") for line in said.splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def read_partitions(said: str) -> tuple[dict[str, Partition], frozenset[str]]:
    """The partitions, and the hosts of their nodes. Pure."""
    found: dict[str, Partition] = {}
    hosts: set[str] = set()
    for line in said.splitlines():
        fields = line.strip().split("|")
        if len(fields) != 6:
            continue
        name, up, limit, number, state, host = fields
        shown, known = name.removesuffix("*"), found.get(name.removesuffix("*"))
        usable = int(number) if number.isdecimal() and _is_usable(state) else 0
        found[shown] = Partition(
            shown, name.endswith("*"), up == "up", _seconds(limit), usable + (known.usable if known else 0)
        )
        hosts.update(host.split(","))
    return found, frozenset(hosts - {""})


def _is_usable(state: str) -> bool:
    """Of a node's state in its short form, such as `idle`, `mix-` or `drain*`."""
    return not re.match(r"down|drain|drng|fail|unk|boot|maint|futr|inval", state) and not state.endswith("*")


def _seconds(limit: str) -> float | None:
    try:
        return float(options.time_seconds(limit))
    except ValueError:
        return None


# --- Judging: pure ---


def judge(found: Cluster, chosen: Settings) -> Iterator[Finding]:
    """Whether it answers, and has what the queues ask for."""
    if found.missing:
        yield problem(Check.SLURM, f"{several(found.missing)}: not on the PATH, so no job goes to Slurm", INSTALL)
        return
    if found.trouble:
        fix = "scontrol ping; systemctl status munge; look at SLURM_CONF and /etc/slurm/slurm.conf"
        text = f"Slurm does not answer ({found.trouble}): jobs that are in Slurm go on, all others wait"
        yield problem(Check.SLURM, text, fix)
        return
    troubles = [*_judge_version(found), *_judge_queues(found, chosen), *_judge_limits(found, chosen)]
    yield from troubles or [ok(Check.SLURM, f"{found.version} answers, with {several(found.partitions)}")]


def _judge_version(found: Cluster) -> Iterator[Finding]:
    number = re.search(r"(\d+)\.(\d+)", found.version)
    if number is not None and (int(number[1]), int(number[2])) < OLDEST:
        text = f"{found.version} is older than {OLDEST[0]}.{OLDEST[1]:02}, the oldest with which it was tried"
        yield warn(Check.SLURM, text, "try it: air-executor doctor --slurm-probe; or use a newer Slurm")


def _judge_queues(found: Cluster, chosen: Settings) -> Iterator[Finding]:
    for name, table in chosen.queues.items():
        if table.launcher == queuetables.SLURM:
            yield from _judge_table(found, name, table)


def _judge_table(found: Cluster, name: str, table: queuetables.QueueSettings) -> Iterator[Finding]:
    for wanted in str(table.slurm.get("partition") or "").split(","):
        yield from _judge_queue(found, f"[queues.{name}]", wanted, table)


def _judge_queue(found: Cluster, where: str, wanted: str, table: queuetables.QueueSettings) -> Iterator[Finding]:
    default = next((each for each in found.partitions.values() if each.default), None)
    partition = found.partitions.get(wanted) if wanted else default
    there = several(found.partitions) or "none"
    if partition is None:
        text = f"{where} names the partition {wanted}, which Slurm does not have (it has {there})"
        if not wanted:
            text = f"{where} names no partition, and Slurm has none by default (it has {there})"
        yield problem(Check.SLURM, text, f"in config.toml, {where}: partition = one of these")
        return
    if not partition.up:
        text = f"the partition {partition.name} of {where} is not up: its jobs wait"
        yield problem(Check.SLURM, text, f"scontrol update PartitionName={partition.name} State=UP")
    elif not partition.usable:
        text = f"the partition {partition.name} of {where} has no node that is up: its jobs wait"
        yield problem(Check.SLURM, text, f"sinfo --partition={partition.name} --list-reasons")
    asked = options.time_seconds(table.slurm.get("time", 0))
    if partition.seconds is not None and asked > partition.seconds:
        limit = options.spell_time(int(partition.seconds))
        text = f"{where} asks for {options.spell_time(asked)}, and the partition {partition.name} gives {limit}"
        fix = f'in config.toml, {where}: time = "{limit}" or less, or another partition'
        yield problem(Check.SLURM, f"{text}: its jobs would wait for ever, or are refused", fix)


def _judge_limits(found: Cluster, chosen: Settings) -> Iterator[Finding]:
    arrays = {name: int(table.slurm["array"]) for name, table in chosen.queues.items() if "array" in table.slurm}
    most = _number(found.config.get("MaxArraySize"))
    for name, size in arrays.items():
        if most is not None and min(size, MAX_ARRAY) > max(0, most - 1):
            text = f"[queues.{name}] sends up to {min(size, MAX_ARRAY)} jobs as one array, Slurm takes {most - 1}"
            fix = f"in config.toml, [queues.{name}]: array = {max(1, most - 1)}, or MaxArraySize in slurm.conf"
            yield problem(Check.SLURM, text, fix)
    jobs = _number(found.config.get("MaxJobCount"))
    if jobs is not None and jobs < chosen.slurm.max_jobs:
        text = f"Slurm has room for {jobs} jobs in all (MaxJobCount), and [slurm] max_jobs is {chosen.slurm.max_jobs}"
        yield warn(Check.SLURM, text, f"in config.toml, [slurm]: max_jobs = {jobs} or less")
    kept = _number(found.config.get("MinJobAge"))
    if kept and kept < POLLS_KEPT * chosen.slurm.poll:  # 0: it forgets none
        text = f"Slurm forgets a job {kept} s after its end (MinJobAge), and is asked every {chosen.slurm.poll:g} s"
        fix = f"in config.toml, [slurm]: poll = {max(1, kept // POLLS_KEPT)}; or in slurm.conf: MinJobAge=300"
        yield warn(Check.SLURM, f"{text}: why a job ended that could not say so may be lost", fix)


def _number(text: str | None) -> int | None:
    found = re.match(r"\d+", text or "")
    return int(found[0]) if found else None


def is_alone(hosts: frozenset[str], this: str) -> bool:
    """Whether all nodes are this host."""
    short = {name.partition(".")[0] for name in hosts}
    return short <= {this.partition(".")[0], "localhost"}


def judge_place(kind: str, hosts: frozenset[str], this: str) -> Finding:
    """Whether the nodes may see the home, by the kind of its filesystem."""
    if kind in LOCAL and not is_alone(hosts, this):
        text = f"the home is on {kind}, which {this} may have for itself: nodes must see it under the same path"
        fix = "put the home on a filesystem that all share (--home DIR), or see that they do: doctor --slurm-probe"
        return warn(Check.SLURM, text, fix)
    return ok(Check.SLURM, f"the home is on {kind or 'a filesystem of a kind that this system does not tell'}")


def judge_airflow(found: Facts, hosts: frozenset[str], this: str) -> Iterator[Finding]:
    """Whether tasks of Airflow that run on nodes reach what they need."""
    if not airflow.uses_air_executor(found) or is_alone(hosts, this):
        return
    if is_loopback(found.api):
        text = f"[core] execution_api_server_url is {found.api}: on a node, that is the node, and no task could start"
        fix = airflow.to_set(found, "core", "execution_api_server_url", f"http://{this}:8080/execution/")
        yield problem(Check.SLURM, text, fix)
    else:
        yield ok(Check.SLURM, f"tasks on nodes report to {found.api}")


def is_loopback(url: str) -> bool:
    """Whether an address means the host on which somebody uses it."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
