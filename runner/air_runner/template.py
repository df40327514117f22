"""The template: a warm Python that has a module preloaded and forks ephemeral runners.

It is told what to fork over a socket and answers there, one JSON object a line:

    runner -> template   {"launch": job name, "variant": text or null} · {"end": why}
    template -> runner   {"ready": pid} · {"launched": job name, "pid": pid} · {"exited": pid, "status": wait status}
                         · {"successor": pid} · {"stale": why}

It holds no thread, no event loop and no connection, so a fork of it is a sound process. When the runner is gone it
ends; the ephemeral runners go on.

What it has loaded it looks at before a launch. If that has changed on disk it says so and ends: what it has not
answered is for the template that is started in its place. When its jobs import the same modules again and again, a fork
of it imports them (`trial`) and takes its place, its socket and its runner; it ends, and its children become the
runner's.

The module that is preloaded may have

    preload()               imports more, and makes what is cached for each process
    after_fork()            resets what a fork must not share
    watched_paths()         files and directories beside its modules that are loaded, such as configuration
    prepare(variant)        in a fork that is to launch all jobs of a variant (`variants`): makes what they have in
                            common; returns the files and directories that it depends on
    reports_with(report)    in a fork that forks again: whoever imports what jobs import calls `report()` at its end
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from air_executor import processes
from air_executor.paths import Home
from air_runner import ephemeral, preloading, sharing, signals, spare, taskloop, trial, variants
from air_runner.channel import Channel
from air_runner.freshness import Freshness, Snapshot, module_files
from air_runner.variants import Variants

if TYPE_CHECKING:
    from air_runner.learning import Learner

EXIT_UNSAFE = 3
"""The module did something that makes forking unsafe."""


class Template:
    """The fork server.

    Args:
        module: what is preloaded; it is loaded by now.
        freshness: of what is loaded by now.
        learner: None if jobs shall not change what is preloaded.
    """

    def __init__(
        self,
        home: Home,
        runner_id: str,
        module: str,
        rules: taskloop.Rules,
        channel: Channel,
        freshness: Freshness,
        learner: Learner | None,
    ) -> None:
        self.home, self.runner_id, self.rules = home, runner_id, rules
        self.module = module
        self.channel = channel
        self.freshness = freshness
        self.learner = learner
        self.trial: trial.Trial | None = None
        self.variants: Variants | None = None
        self.spare: spare.Spare | None = None
        self.wants_spare = True
        """Whether to make one: once after each launch, so that whatever prevents or ends it costs no more than that."""
        self.ended = False

    def serve(self) -> int:
        """Fork until the runner is gone, or what is loaded is out of date."""
        self._open()
        self.channel.send({"ready": os.getpid()})
        while not self.channel.closed and not self.ended:
            self._start_trial()
            self._listen_to_runner(not self._is_about_to_hand_over())
            events = self.selector.select(self._patience())
            for key, _ in events:
                if not self.ended:
                    key.data()
            if not events:
                self._keep_spare()
            self._watch_trial()
            if self.variants is not None:
                self.variants.check()
        if self.trial is not None:
            self.trial.kill()
        self._close()  # ephemeral runners go on, and what Python closes as it ends must not be told of their ends
        return 0

    def _open(self) -> None:
        """What a process has for itself, and does not share with what it was forked from."""
        self.pipe = signals.SignalPipe([signal.SIGCHLD])
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the terminal is for the runner
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.pipe, selectors.EVENT_READ, self._report_ended)
        self.selector.register(self.channel, selectors.EVENT_READ, self._obey)
        if self.learner is not None:
            self.selector.register(self.learner, selectors.EVENT_READ, self.learner.listen)
        self.loaded = preloading.Loaded(self.learner.decided() if self.learner else ())
        if self.has("prepare"):
            self.variants = Variants(self.selector, self._start_variant, self.channel.send, self._launch)

    def _patience(self) -> float | None:
        """Seconds until something is due by the clock."""
        moments = [each.next_moment for each in (self.trial, self.variants) if each is not None]
        moments.append(spare.PAUSE if self._lacks_spare else None)
        return min((moment for moment in moments if moment is not None), default=None)

    def _close(self) -> None:
        if self.variants is not None:
            self.variants.forget()
        self._drop_spare()
        self.pipe.close()
        self.selector.close()

    def _is_about_to_hand_over(self) -> bool:
        """Whether a launch had better wait for whoever takes this process's place."""
        return self.trial is not None and (self.trial.holds or (self.trial.done and self.channel.between_lines))

    def _listen_to_runner(self, wanted: bool) -> None:
        listens = self.channel in self.selector.get_map()
        if wanted and not listens:
            self.selector.register(self.channel, selectors.EVENT_READ, self._obey)
        elif listens and not wanted:
            self.selector.unregister(self.channel)

    def _report_ended(self) -> None:
        self.pipe.read()
        for pid, status in signals.reap().items():
            if self.variants is not None and self.variants.ended(pid):
                continue
            if self.trial is not None and self.trial.pid == pid:
                self.trial.reaped = True
            if self.spare is not None and self.spare.pid == pid:
                self._drop_spare()
                continue
            self.channel.send({"exited": pid, "status": status})

    # --- Launches ---

    def _obey(self) -> None:
        for message in self.channel.receive():
            if self.ended:  # what is not answered is for another
                return
            stale = message["end"] if "end" in message else self.freshness.change()
            if stale is not None:
                self._end(stale)
            else:
                self._launch_best(message["launch"], message["variant"])

    def _end(self, why: str) -> None:
        self._report_ended()
        self.channel.send({"stale": why})
        self.ended = True

    def _launch_best(self, name: str, variant: str | None) -> None:
        if variant is None or self.variants is None or not self.variants.ask(variant, name):
            self._launch(name)

    def _launch(self, name: str) -> None:
        assignment = spare.Assignment(name, ephemeral.look_at(self.home, name))
        used, self.spare, self.wants_spare = self.spare, None, True
        pid = used.pid if used is not None and used.give(assignment) else self._fork(lambda: assignment)
        self.channel.send({"launched": name, "pid": pid})

    @property
    def _lacks_spare(self) -> bool:
        """A trial needs the processors, and may take this process's place."""
        return self.wants_spare and self.spare is None and self.trial is None and not self.ended

    def _keep_spare(self) -> None:
        if not self._lacks_spare:
            return
        self.wants_spare = False
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                self.spare = spare.Spare(ours)
                self.spare.pid = self._fork(lambda: spare.wait(theirs))
        except OSError:  # no more processes or descriptors: jobs need them, and nobody needs a spare
            self._drop_spare()

    def _drop_spare(self) -> None:
        if self.spare is not None:
            self.spare.close()
            self.spare = None

    def _fork(self, receive: Callable[[], spare.Assignment | None]) -> int:
        """Make an ephemeral runner; it asks for its job when it has done what has nothing to do with it."""
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._become(lambda: self._run_job(receive))
        return pid

    def _become(self, body: Callable[[], int]) -> NoReturn:
        """In a child: do something else, and never go on as a second template, whatever happens."""
        code = 1
        try:
            self._close()
            code = body()
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _run_job(self, receive: Callable[[], spare.Assignment | None]) -> int:
        os.setsid()
        self.channel.close()
        if self.trial is not None:
            self.trial.channel.close()
        self.call("after_fork")
        preloading.renew_randomness()
        assignment = receive()
        if assignment is None:
            return 0
        if self.learner is None:
            return self._run(assignment)
        report = self.learner.reporter(assignment.job, self.loaded)
        self.call("reports_with", report)
        code = self._run(assignment)
        report()
        return code

    def _run(self, assignment: spare.Assignment) -> int:
        name, look = assignment.job, assignment.look
        return ephemeral.run_job(self.home, name, self.runner_id, self.rules, module=self.module, look=look)

    def call(self, hook: str, *arguments: object) -> Any:
        """Call a function of the module, if it has it."""
        return getattr(sys.modules[self.module], hook)(*arguments) if self.has(hook) else None

    def has(self, hook: str) -> bool:
        """Whether the module has a function of that name."""
        return hasattr(sys.modules[self.module], hook)

    # --- Variants ---

    def _start_variant(self, variant: str) -> tuple[int, Channel]:
        ours, theirs = map(Channel, socket.socketpair())
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._become(lambda: self._be_variant(variant, theirs))
        theirs.close()
        return pid, ours

    def _be_variant(self, variant: str, channel: Channel) -> int:
        self.channel.close()
        if self.trial is not None:
            self.trial.channel.close()
        if self.learner is not None:
            self.learner.close()
        return VariantTemplate(self, variant, channel).serve()

    # --- Preloading more ---

    def _start_trial(self) -> None:
        if self.learner is None or self.trial is not None or not (names := self.learner.wanted()):
            return
        ours, theirs = map(Channel, socket.socketpair())
        began = time.time()
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._try(theirs, names)
            self._succeed(began)
            return
        theirs.close()
        self.trial = trial.Trial(pid, ours)
        self.selector.register(ours, selectors.EVENT_READ, self.trial.listen)

    def _try(self, channel: Channel, names: list[str]) -> None:
        """In the fork. Returns only if it is to go on as the template."""
        succeeded = False
        try:
            self._close()
            succeeded = trial.run(channel, names)
        except Exception:
            traceback.print_exc()
        finally:
            if not succeeded:
                processes.kill_descendants(os.getpid())  # what was imported may have started some
                os._exit(1)
        channel.close()

    def _succeed(self, began: float) -> None:
        """In the fork: go on where the template was that it was forked from, which has read all that was sent to it."""
        self.channel = Channel(self.channel.connection)
        self.freshness.note(since=began)
        self.variants = None
        self.wants_spare = True
        self._open()

    def _watch_trial(self) -> None:
        """Hand over to a trial that went well; go on after another.

        Not while a message is half read, or a variant has not said that it launched what it was asked to: nobody else
        would hear of it.
        """
        running = self.trial
        if running is None or self.ended:
            return
        running.give_up_if_late()
        if running.done and self.channel.between_lines and not (self.variants and self.variants.owe):
            self._hand_over(running)
        if running.channel.closed or running.refused is not None:
            self._give_up(running)

    def _hand_over(self, running: trial.Trial) -> None:
        """The runner is told first: it must know the process before that becomes its child."""
        self._decide(running)
        self._report_ended()
        self.channel.send({"successor": running.pid})
        if running.channel.send({"go": True}):
            self.trial, self.ended = None, True
        else:
            self.channel.send({"successor": os.getpid()})

    def _give_up(self, running: trial.Trial) -> None:
        self.selector.unregister(running.channel)
        running.channel.close()
        self.trial = None
        self._decide(running)

    def _decide(self, running: trial.Trial) -> None:
        if self.learner is not None:
            self.learner.decide(running.loaded, running.refused, well=running.done)


class VariantTemplate(Template):
    """A fork of a template that launches the jobs of one variant, for a while."""

    def __init__(self, origin: Template, variant: str, channel: Channel) -> None:
        super().__init__(
            origin.home, origin.runner_id, origin.module, origin.rules, channel, origin.freshness, learner=None
        )
        self._variant = variant
        self._began = self._used_at = time.monotonic()

    def serve(self) -> int:
        """Prepare, and fork until the template is gone, or what was prepared is out of date, or nobody wants it."""
        try:
            self._snapshot = self._prepare()
        except Exception as error:
            self.channel.send({"refused": f"{type(error).__name__}: {error}"})
            return 1
        return super().serve()

    def _prepare(self) -> Snapshot:
        began, loaded, before = time.time(), module_files(), preloading.Footprint.take()
        read = self.call("prepare", self._variant)
        if why := preloading.why_unsafe() or before.difference(preloading.Footprint.take()):
            raise preloading.NotPreloadableError(why)
        preloading.freeze()
        return Snapshot({*read, *(module_files() - loaded)}, began)

    def _open(self) -> None:
        super()._open()
        self.variants = None

    def _patience(self) -> float:
        return min(max(0.0, self._until - time.monotonic()), super()._patience() or math.inf)

    @property
    def _until(self) -> float:
        return min(self._began + variants.MAX_AGE, self._used_at + variants.IDLE_SECONDS)

    def _obey(self) -> None:
        """Its template sees to what both have loaded."""
        for message in self.channel.receive():
            if self.ended or self._snapshot.change() is not None:
                self.ended = True
                return
            self._used_at = time.monotonic()
            self._launch(message["launch"])

    def _watch_trial(self) -> None:
        """It has none; but its time may have come."""
        self.ended = self.ended or time.monotonic() >= self._until


def main(arguments: list[str] | None = None) -> int:
    """Internal: started by the runner."""
    began = time.time()
    parser = argparse.ArgumentParser(prog="python -m air_runner.template", description=main.__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--runner", required=True)
    parser.add_argument("--module", required=True)
    parser.add_argument("--learn", action="store_true", help="preload what jobs import again and again")
    taskloop.Rules.add_flags(parser)
    parser.add_argument("--socket", type=int, required=True)
    options = parser.parse_args(arguments)
    connection = socket.socket(fileno=options.socket)
    os.set_inheritable(options.socket, False)
    home, freshness = Home(options.home), Freshness(began)
    learner = _learner(home, options.module) if options.learn else None
    try:
        took = preloading.preload(options.module)
    except Exception as error:
        sys.stderr.write(f"template: cannot preload {options.module}: {type(error).__name__}: {error}\n")
        return 1
    if unsafe := preloading.why_unsafe():
        sys.stderr.write(f"template: {options.module} cannot be forked: {unsafe}\n")
        return EXIT_UNSAFE
    if learner is not None:
        learner.begin(took)
    ephemeral.prepare()
    template = Template(
        home, options.runner, options.module, taskloop.Rules.of(options), Channel(connection), freshness, learner
    )
    freshness.note(template.call("watched_paths") or ())
    ephemeral.rehearse(template.rules)
    preloading.freeze()
    sharing.enlarge_pages()
    return template.serve()


def _learner(home: Home, module: str) -> Learner | None:
    """Imported only where something is learned: each page of a template costs all its forks."""
    from air_runner import learning

    return learning.Learner(home, module) if learning.WORKS else None


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # what modules do as Python ends is for those who use them
