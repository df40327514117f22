"""Runners, what they left, the queues they serve, and their templates. In the words of `status`."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence

from air_executor import (
    __version__,
    health,
    pauses,
    preloads,
    processes,
    remedies,
    runners,
    settings,
    sightings,
    spool,
    status,
)
from air_executor.doctor import fixes, system
from air_executor.doctor.filesystem import CLOCK_TOLERANCE
from air_executor.doctor.findings import Check, Finding, ok, problem, several, warn
from air_executor.errors import CorruptFileError, SettingsError
from air_executor.paths import Home, command
from air_executor.runners import RunnerInfo

FORGOTTEN_AFTER = 60.0
"""Seconds after which a living runner has forgotten a dead one that left no job."""


def check_runners(home: Home) -> Iterator[Finding]:
    """Somebody runs the jobs, all of them, and as well as he could."""
    seen = runners.observe(home)
    infos = runners.all_runners(home)
    alive = [info for info in infos if seen.is_alive(info)]
    dead = [info for info in infos if info not in alive]
    yield from check_troubles(home, infos, alive, seen)
    yield check_clocks(_measure(info, info in alive) for info in infos)
    yield from check_draining(home, alive)
    yield from check_environments(home, alive)
    yield from check_paused(home)
    yield from check_versions(home, alive)
    yield from check_webhooks(home)
    yield check_dead(home, dead, [info for info in dead if spool.claimed(home, info.id)], anyone=bool(alive))
    yield from check_templates(home, alive)
    yield from check_limits(home, alive)


_CHECKS = {
    "component": Check.COMPONENT,
    "runner": Check.RUNNER,
    "queue": Check.QUEUE,
    "slurm": Check.SLURM,
}


def check_troubles(
    home: Home, infos: Sequence[RunnerInfo], alive: Sequence[RunnerInfo], seen: sightings.Sightings
) -> Iterator[Finding]:
    """What `status` finds, and what is well."""
    queues = status.gather_queues(home, alive)
    found = health.Status(
        str(home.root),
        at="",
        exists=True,
        start=runners.start_command(home),
        components=status.gather_components(home),
        runners=status.gather_runners(home, infos, seen),
        queues=queues,
        slurm=status.gather_slurm(home, alive),
        drained=remedies.draining(home, alive),
        airflow=status.gather_airflow(home, queues),
    )
    troubles = health.find_troubles(found)
    for trouble in troubles:
        say = warn if trouble.wanted else problem
        yield say(_CHECKS[trouble.about], trouble.text, trouble.fix or _start_components(home))
    about = {trouble.about for trouble in troubles}
    if "runner" not in about:
        yield ok(Check.RUNNER, ", ".join(info.id for info in alive))
    if "queue" not in about:
        yield ok(Check.QUEUE, "every queue in which jobs wait is served, and none of them is paused")
    if "component" not in about and found.components:
        yield ok(Check.COMPONENT, ", ".join(each.name for each in found.components))


def _start_components(home: Home) -> str:
    """start-dev.sh stands beside the home of its checkout; who registered something else knows how to start it."""
    script = home.root.parent / "start-dev.sh"
    if script.exists():
        return f"{script} --stop; {script} --background"
    return f"start it again and register it: {command(home, 'component', 'register', 'NAME', '--pid', 'PID')}"


def _measure(info: RunnerInfo, alive: bool) -> tuple[str, float, float]:
    """How old its heartbeat looks, and how old it may look: of a living one of another host nobody missed any."""
    watched = alive and not processes.is_local(info.process)
    allowed = sightings.HEARTBEATS_MISSED * info.heartbeat if watched else math.inf
    return info.id, sightings.heartbeat_age(info), allowed


def check_clocks(ages: Iterable[tuple[str, float, float]]) -> Finding:
    """No heartbeat comes from the future, or from long ago if its runner lives. Pure.

    Lives and deaths do not depend on it, but the ages that are shown, the order of the queues and retention do.
    """
    fix = "set the clocks of the hosts, such as: timedatectl set-ntp true"
    for runner_id, age, allowed in ages:
        if age < -CLOCK_TOLERANCE:
            text = f"the last heartbeat of {runner_id} is {-age:.0f} s in the future"
            return problem(Check.CLOCKS, text, fix)
        if age > allowed:
            return problem(Check.CLOCKS, f"{runner_id} lives, and its last heartbeat looks {age:.0f} s old", fix)
    return ok(Check.CLOCKS, "the clocks of all runners agree")


def check_draining(home: Home, alive: Iterable[RunnerInfo]) -> Iterator[Finding]:
    """One that was asked to end does so after its last job; one that has none was drained, and forgotten."""
    for info in alive:
        if info.draining and not info.working:
            text = f"the runner {info.id} drains, has no job, and takes none"
            yield warn(Check.DRAINING, text, command(home, "runner", "resume", info.id))


def check_environments(home: Home, alive: Iterable[RunnerInfo]) -> Iterator[Finding]:
    """What a runner of this host was started with reaches all its jobs, whatever this shell has."""
    for info in alive:
        if processes.is_local(info.process) and system.has_variable(info.process.pid, system.NO_BYTECODE):
            text = f"the runner {info.id} was started with ${system.NO_BYTECODE}: all its jobs start more slowly"
            yield warn(Check.ENVIRONMENT, text, f"unset {system.NO_BYTECODE}; {_restart(home, info)}")


def check_paused(home: Home) -> Iterator[Finding]:
    """A pause that nobody notices yet may have been forgotten; where jobs wait for its end, `status` says so, too."""
    for queue, pause in pauses.all_pauses(home).items():
        if next(spool.waiting(home, queue), None) is None:
            yield warn(Check.PAUSED, f"the queue {queue} is {pause}", command(home, "queue", "resume", queue))


def check_webhooks(home: Home) -> Iterator[Finding]:
    """Events that were given up, in the words of `status`."""
    for trouble in health.webhook_troubles(home, status.gather_given_up(home)):
        yield warn(Check.WEBHOOKS, trouble.text, trouble.fix)


def check_versions(home: Home, alive: Iterable[RunnerInfo]) -> Iterator[Finding]:
    """Runners run what is installed."""
    old = [info for info in alive if info.version != __version__]
    for info in old:
        text = f"the runner {info.id} runs version {info.version}, {__version__} is installed here"
        yield warn(Check.VERSION, text, _restart(home, info))
    if not old:
        yield ok(Check.VERSION, __version__)


def _restart(home: Home, info: RunnerInfo) -> str:
    """Its jobs go on meanwhile. The executor starts its own anew."""
    stop = command(home, "runner", "stop", info.id, "--handover")
    if info.embedded:
        return stop
    flags = ["--queues", ",".join(info.queues), "--slots", str(info.slots)]
    return f"{stop} && {command(home, 'runner', 'start', '--detach', *flags)}"


def check_dead(home: Home, dead: Sequence[RunnerInfo], with_jobs: Sequence[RunnerInfo], *, anyone: bool) -> Finding:
    """Files of runners that died. Of those that left jobs `status` knows; of the others a living runner is rid soon."""
    left = [info for info in dead if info not in with_jobs]
    left = [info for info in left if not anyone or sightings.heartbeat_age(info) > FORGOTTEN_AFTER]
    if not left:
        return ok(Check.LEFTOVERS, "no files of dead runners")
    text = f"files of runners that died: {several(home.runner(info.id) for info in left)}"
    return warn(Check.LEFTOVERS, text, command(home, "repair"), fixes.forget_dead(home))


# --- Templates ---


def check_templates(home: Home, alive: Iterable[RunnerInfo]) -> Iterator[Finding]:
    """Jobs are forked, from templates that have preloaded what is worth it."""
    found = [*_ill(home, alive), *_refused(home)]
    yield from found or [ok(Check.TEMPLATES, _learned(home))]


def _ill(home: Home, alive: Iterable[RunnerInfo]) -> Iterator[Finding]:
    for info in alive:
        for module, why in sorted(info.ill.items()):
            text = f"the runner {info.id} has no template for {module} ({why}): exec starts its jobs, more slowly"
            words = shlex.join([sys.executable, "-c", f"import {module}"])
            yield warn(Check.TEMPLATES, text, f"{words} says why; {home.runner_log} more (grep 'no template for')")


def _refused(home: Home) -> Iterator[Finding]:
    """A module that a person refused is meant so."""
    for template, learned in _knowledge(home).templates.items():
        refused = {name: learned.modules[name] for name in learned.having(preloads.Verdict.REFUSED)}
        unmeant = {name: module for name, module in refused.items() if not module.by_hand}
        if unmeant:
            said = several(f"{name} ({module.why})" for name, module in unmeant.items())
            text = f"the template {template} refuses to preload {said}: each task that needs them imports them itself"
            words = [word for name in unmeant for word in ("--refuse", name)]
            fix = f"to leave it so: {command(home, 'runner', 'preload', *words)}; after an upgrade it is tried again"
            yield warn(Check.TEMPLATES, text, fix)


def _learned(home: Home) -> str:
    modules = [len(each.having(preloads.Verdict.PRELOADED)) for each in _knowledge(home).templates.values()]
    return f"{sum(modules)} modules are preloaded beside those of the templates themselves"


def _knowledge(home: Home) -> preloads.Knowledge:
    """Of this host and Python."""
    try:
        return preloads.read(preloads.own_file(home))
    except CorruptFileError:  # which is a finding of its own
        return preloads.Knowledge()


# --- Limits ---


def check_limits(home: Home, alive: Sequence[RunnerInfo]) -> Iterator[Finding]:
    """The system allows as many jobs as there are slots: to the runners of this host, or to one started here."""
    local = [info for info in alive if processes.is_local(info.process)]
    here = [(info.id, info.slots, system.limits_of(info.process.pid)) for info in local]
    try:
        wanted = here or [("a runner", settings.load(home).runner.slots, system.own_limits())]
    except SettingsError:  # which is a finding of its own
        return
    found = [each for who, slots, limits in wanted if limits for each in system.judge_limits(who, slots, limits)]
    yield from found or [ok(Check.LIMITS, "open files and processes suffice for all slots")]
