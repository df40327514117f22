"""What a runner counts and what it says of itself: plain data, and the metrics that are made of it. No I/O, no locks.

The daemon counts (`Counts`), which costs a job some microseconds. Now and then it makes `Values` of that and of its
`Condition`; nobody changes these any more, so that another thread can make text of them.

No metric has the name of a job, a label, a command line or a variable in it. What becomes the value of a label is
bounded: the names of queues and modules are, in number, and what is beyond counts as `other`.
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from air_executor.exposition import Family, Names, Sample
from air_executor.model import ExitKind, JobState
from air_executor.settings import LAUNCHERS
from air_executor.slurm.condition import Condition as SlurmCondition

MAX_QUEUES, MAX_MODULES = 100, 20
"""How many queues and modules have a label of their own."""

BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0)
"""Seconds: the upper bounds of the buckets of all histograms."""


@dataclass(frozen=True, eq=False)  # so that finding its values takes no look at its texts
class Metric:
    """What there is to be known of a metric, beside its values. Each has the label `runner`, too."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()


def _gauge(name: str, help_text: str, *labels: str) -> Metric:
    return Metric(f"air_executor_{name}", "gauge", help_text, labels)


def _counter(name: str, help_text: str, *labels: str) -> Metric:
    return Metric(f"air_executor_{name}_total", "counter", help_text, labels)


def _histogram(name: str, help_text: str, *labels: str) -> Metric:
    return Metric(f"air_executor_{name}", "histogram", help_text, labels)


BUILD = _gauge("build_info", "The versions of Air-Executor and of Python; always 1.", "version", "python")
STARTED = _gauge("start_time_seconds", "When the runner started, in seconds since 1970.")
BEAT = _gauge("heartbeat_timestamp_seconds", "When the runner last said that it lives, in seconds since 1970.")
SLOTS = _gauge("slots", "How many jobs the runner runs at once.")
IN_USE = _gauge("slots_in_use", "How many jobs the runner runs now, those included that it is about to launch.")
DRAINING = _gauge("draining", "1 while the runner claims nothing, 0 otherwise.")
UNSETTLED = _gauge("unsettled_jobs", "Jobs that are over and whose end could not be written yet.")
WATCHES = _gauge("watch_works", "1 if the system tells of new files, 0 if the runner has to look for them.")
EVENTS = _counter("watch_events", "New files in the spool that the system told of.")
WAITING = _gauge("queue_jobs", "Jobs that wait in the queue, whoever serves it.", "queue")
OLDEST = _gauge("queue_oldest_wait_seconds", "How long the oldest job in the queue waits; 0 if none does.", "queue")
PAUSED = _gauge("queue_paused", "1 while the queue is paused, so that no runner starts its jobs, 0 otherwise.", "queue")
LAUNCHES = _counter("job_launches", "Jobs that were started.", "queue", "launcher")
FAILURES = _counter(
    "launch_failures", "Launches that the launcher or the system refused; each is tried again.", "launcher"
)
ENDS = _counter("job_ends", "Jobs that ended under this runner.", "queue", "state", "kind")
REQUEUES = _counter(
    "job_requeues", "Jobs put back into their queue because what was to run them died before they started."
)
TAKEOVERS = _counter("job_takeovers", "Running jobs taken over from a runner that is gone.")
RECOVERIES = _counter(
    "job_recoveries", "Jobs of a runner that is gone which were brought to rest: ended or queued again."
)
WAIT = _histogram("job_wait_seconds", "How long started jobs had waited in their queue.", "queue")
RUN = _histogram("job_run_seconds", "How long ended jobs ran, from launch to the end of their process.", "queue")
TEMPLATE_UP = _gauge("template_up", "1 if the template can launch jobs, 0 if it is starting or ill.", "module")
TEMPLATE_STARTED = _gauge("template_start_time_seconds", "When the template started, in seconds since 1970.", "module")
TEMPLATE_ENDS = _counter(
    "template_ends", "Templates that ended: died, were out of date, or did not become ready.", "module"
)
TEMPLATE_MODULES = _gauge("template_learned_modules", "Modules that the template preloads beside its own.", "module")

SLURM_ANSWERS = _gauge("slurm_answers", "1 while Slurm answers the runner, 0 while it does not.")
SLURM_JOBS = _gauge(
    "slurm_jobs", "Jobs of the runner that go to Slurm or are there: to_submit, or Slurm's state.", "state"
)
SLURM_POLLS = _counter("slurm_polls", "How often Slurm was asked for all jobs.")
SLURM_REFUSALS = _counter("slurm_refusals", "Jobs that could not be submitted to Slurm, or not be started there.")

ALL = (
    *(BUILD, STARTED, BEAT, SLOTS, IN_USE, DRAINING, UNSETTLED, WATCHES, EVENTS, WAITING, OLDEST, PAUSED),
    *(LAUNCHES, FAILURES, ENDS, REQUEUES, TAKEOVERS, RECOVERIES, WAIT, RUN),
    *(TEMPLATE_UP, TEMPLATE_STARTED, TEMPLATE_ENDS, TEMPLATE_MODULES),
    *(SLURM_ANSWERS, SLURM_JOBS, SLURM_POLLS, SLURM_REFUSALS),
)
"""In the order in which they are written."""


@dataclass
class Distribution:
    """The values of a histogram."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    """How many were in each bucket alone; the last is of those beyond all bounds."""
    total: float = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(BOUNDS, value)] += 1
        self.total += value

    def copy(self) -> Distribution:
        """One that does not change with this."""
        return Distribution(list(self.counts), self.total)


Numbers = dict[tuple[str, ...], float]
"""By the values of a metric's labels."""


@dataclass(frozen=True)
class Values:
    """The values of metrics at a moment."""

    numbers: Mapping[Metric, Numbers]
    distributions: Mapping[Metric, Mapping[str, Distribution]] = field(default_factory=dict)


def state_of(kind: ExitKind) -> JobState:
    """The state that a job with such an end has. Pure."""
    if kind is ExitKind.SUCCESS:
        return JobState.COMPLETED
    return JobState.CANCELLED if kind is ExitKind.CANCELLED else JobState.FAILED


class Counts:
    """What a runner counts. What has not happened yet is there as 0, so that the first time is seen to be one.

    Args:
        queues: those that the runner serves.
    """

    def __init__(self, queues: Sequence[str]) -> None:
        self._names = Names(MAX_QUEUES, queues)
        served = list(dict.fromkeys(map(self._names.label, queues)))
        self._numbers: dict[Metric, Numbers] = {
            LAUNCHES: {(queue, launcher): 0 for queue in served for launcher in LAUNCHERS},
            FAILURES: {(launcher,): 0 for launcher in LAUNCHERS},
            ENDS: {(queue, state_of(kind).value, kind.value): 0 for queue in served for kind in ExitKind},
            **{metric: {(): 0} for metric in (EVENTS, REQUEUES, TAKEOVERS, RECOVERIES)},
        }
        self._distributions = {metric: {queue: Distribution() for queue in served} for metric in (WAIT, RUN)}

    def add(self, metric: Metric, *labels: str, count: int = 1) -> None:
        """Count something that has no queue."""
        self._numbers[metric][labels] = self._numbers[metric].get(labels, 0) + count

    def launched(self, queue: str, launcher: str, waited: float) -> None:
        """A job was started, after so many seconds in its queue."""
        name = self._names.label(queue)
        self.add(LAUNCHES, name, launcher)
        self._observe(WAIT, name, waited)

    def ended(self, queue: str, state: JobState, kind: ExitKind, seconds: float | None) -> None:
        """A job is over, after so many seconds if that is known."""
        name = self._names.label(queue)
        self.add(ENDS, name, state.value, kind.value)
        if seconds is not None:
            self._observe(RUN, name, seconds)

    def _observe(self, metric: Metric, queue: str, seconds: float) -> None:
        known = self._distributions[metric]
        if queue not in known:
            known[queue] = Distribution()
        known[queue].add(max(0.0, seconds))

    def take(self) -> Values:
        """What was counted by now."""
        return Values(
            {metric: dict(numbers) for metric, numbers in self._numbers.items()},
            {
                metric: {name: each.copy() for name, each in all_.items()}
                for metric, all_ in self._distributions.items()
            },
        )


@dataclass(frozen=True)
class TemplateCondition:
    """What a template is like."""

    module: str
    up: bool
    started_at: float | None
    """Seconds since 1970; None if there is none."""
    ends: int


@dataclass(frozen=True)
class Condition:
    """What a runner is like at a moment."""

    version: str
    started_at: float
    at: float
    slots: int
    working: int
    draining: bool
    unsettled: int
    watches: bool
    templates: Sequence[TemplateCondition] = ()


def describe(now: Condition) -> Values:
    """The values that say what a runner is like. Pure."""
    numbers: dict[Metric, Numbers] = {
        BUILD: {(now.version, platform.python_version()): 1},
        **{
            metric: {(): value}
            for metric, value in (
                (STARTED, now.started_at),
                (BEAT, now.at),
                (SLOTS, now.slots),
                (IN_USE, now.working),
                (DRAINING, now.draining),
                (UNSETTLED, now.unsettled),
                (WATCHES, now.watches),
            )
        },
        TEMPLATE_UP: {},
        TEMPLATE_STARTED: {},
        TEMPLATE_ENDS: {},
    }
    for each in now.templates[:MAX_MODULES]:
        numbers[TEMPLATE_UP][each.module,] = each.up
        numbers[TEMPLATE_ENDS][each.module,] = each.ends
        if each.started_at is not None:
            numbers[TEMPLATE_STARTED][each.module,] = each.started_at
    return Values(numbers)


@dataclass(frozen=True)
class QueueCondition:
    """What waits in a queue."""

    jobs: int = 0
    oldest: float | None = None
    """Since when the oldest job waits, in seconds since 1970."""
    paused: bool = False


def describe_queues(queues: Mapping[str, QueueCondition], served: Sequence[str], now: float) -> Values:
    """The values that say how much waits, and whether it may start. Pure.

    Own labels have first the served queues, then the paused ones, then the longest.
    """
    others = sorted(queues, key=lambda queue: (not queues[queue].paused, -queues[queue].jobs, queue))
    names = Names(MAX_QUEUES, [*served, *others])
    waiting: Numbers = {}
    oldest: Numbers = {}
    paused: Numbers = {}
    for queue in dict.fromkeys([*served, *others]):
        label, found = (names.label(queue),), queues.get(queue, QueueCondition())
        age = 0.0 if found.oldest is None else max(0.0, now - found.oldest)
        waiting[label] = waiting.get(label, 0) + found.jobs
        oldest[label] = max(oldest.get(label, 0.0), age)
        paused[label] = max(paused.get(label, 0), found.paused)
    return Values({WAITING: waiting, OLDEST: oldest, PAUSED: paused})


def describe_slurm(found: SlurmCondition | None) -> Values:
    """The values that say how the runner and Slurm get on; none as long as it does not use it. Pure."""
    if found is None:
        return Values({})
    jobs: Numbers = {("to_submit",): found.to_submit + found.unsure}
    for state, count in found.states.items():
        jobs[state.lower(),] = count
    numbers: dict[Metric, Numbers] = {SLURM_JOBS: jobs}
    numbers |= {SLURM_POLLS: {(): found.polls}, SLURM_REFUSALS: {(): found.refused}}
    if found.answered_at is not None or found.trouble is not None:
        numbers[SLURM_ANSWERS] = {(): found.trouble is None}
    return Values(numbers)


def families(runner_id: str, *all_values: Values) -> list[Family]:
    """Every metric, also those without a value. Pure."""
    return [_family(metric, runner_id, all_values) for metric in ALL]


def _family(metric: Metric, runner_id: str, all_values: Iterable[Values]) -> Family:
    family = Family(metric.name, metric.kind, metric.help)
    for values in all_values:
        for labels, value in values.numbers.get(metric, {}).items():
            named = {"runner": runner_id, **dict(zip(metric.labels, labels, strict=True))}
            family.samples.append(Sample(metric.name, named, float(value)))
        for queue, distribution in values.distributions.get(metric, {}).items():
            family.samples += _histogram_samples(metric, {"runner": runner_id, "queue": queue}, distribution)
    return family


def _histogram_samples(metric: Metric, labels: dict[str, str], distribution: Distribution) -> list[Sample]:
    samples, below = [], 0
    for bound, count in zip((*BOUNDS, float("inf")), distribution.counts, strict=True):
        below += count
        bucket = "+Inf" if bound == float("inf") else f"{bound:g}"
        samples.append(Sample(f"{metric.name}_bucket", {**labels, "le": bucket}, below))
    samples.append(Sample(f"{metric.name}_sum", labels, distribution.total))
    samples.append(Sample(f"{metric.name}_count", labels, below))
    return samples
