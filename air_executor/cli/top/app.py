"""Puts the parts together: waits for keys, for what the watcher finds and for signals, and draws."""

from __future__ import annotations

import contextlib
import os
import queue
import selectors
import signal
import sys
from collections.abc import Collection, Iterator
from types import FrameType

from air_executor.cli.top import page, states
from air_executor.cli.top.keys import Keys
from air_executor.cli.top.look import Interest
from air_executor.cli.top.screen import Screen
from air_executor.cli.top.watcher import Watcher
from air_executor.paths import Home

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_ESCAPE_WAIT = 0.05
"""Seconds after which an Escape is a key of its own."""


def run(home: Home) -> int:
    """Draw until the end; returns the exit code."""
    with _Bell() as bell, _Signals(bell) as signals:
        watcher = Watcher(home, bell.ring)
        try:
            with Screen() as screen:
                watcher.start()
                return _App(screen, watcher, bell, signals).loop()
        finally:
            watcher.close()


class _Bell:
    """Wakes the loop from other threads and from signals."""

    def __enter__(self) -> _Bell:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        os.set_blocking(self.writer, False)
        return self

    def __exit__(self, *_: object) -> None:
        """The pipe stays open: the watcher may still ring, and this process ends."""

    def ring(self) -> None:
        """Wake it; what does not fit in is one ring too many."""
        with contextlib.suppress(BlockingIOError):
            os.write(self.writer, b"!")

    def silence(self) -> None:
        """Take what has rung so far."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self.reader, 4096):
                pass


class _Signals:
    """Notes signals for the loop: none of them interrupts what is being drawn or given back."""

    def __init__(self, bell: _Bell) -> None:
        self._bell = bell
        self.ended_by: int | None = None
        self.paused = False

    def __enter__(self) -> _Signals:
        self._before = {
            **{number: signal.signal(number, self._on_end) for number in _ENDING},
            signal.SIGTSTP: signal.signal(signal.SIGTSTP, self._on_pause),
            signal.SIGWINCH: signal.signal(signal.SIGWINCH, self._on_change),
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_end(self, number: int, _: FrameType | None) -> None:
        self.ended_by = number
        self._bell.ring()

    def _on_pause(self, _: int, __: FrameType | None) -> None:
        self.paused = True
        self._bell.ring()

    def _on_change(self, _: int, __: FrameType | None) -> None:
        self._bell.ring()

    def pause(self) -> None:
        """Stop, as the shell wants it, until it lets us go on."""
        self.paused = False
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._on_pause)


class _App:
    """The loop."""

    def __init__(self, screen: Screen, watcher: Watcher, bell: _Bell, signals: _Signals) -> None:
        self._screen = screen
        self._watcher = watcher
        self._bell = bell
        self._signals = signals
        self._state = states.State()
        self._keys = Keys()
        self._interest = Interest()

    def loop(self) -> int:
        """Until `q`, a signal, or the end of what is typed."""
        with selectors.DefaultSelector() as selector:
            selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
            selector.register(self._bell.reader, selectors.EVENT_READ)
            while True:
                self._draw()
                ready = {key.fd for key, _ in selector.select(_ESCAPE_WAIT if self._keys.unsure else None)}
                self._bell.silence()
                if self._signals.ended_by is not None:
                    return 128 + self._signals.ended_by
                if self._watcher.failure is not None:
                    raise self._watcher.failure
                if self._signals.paused:
                    self._pause()
                if self._take_keys(ready) or self._state.ended:
                    return 0

    def _draw(self) -> None:
        size = self._screen.size
        self._state = states.settle(self._state, self._watcher.found)
        for message in self._messages():
            self._state = states.tell(self._state, message)
        self._screen.draw(page.draw(self._state, self._watcher.found, size), size)

    def _messages(self) -> Iterator[str]:
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._watcher.messages.get_nowait()

    def _pause(self) -> None:
        self._screen.give_back()
        self._signals.pause()
        self._screen.take()

    def _take_keys(self, ready: Collection[int]) -> bool:
        """Do what was typed; whether that is over, because the terminal is."""
        if not ready:
            keys = self._keys.flush()
        elif sys.stdin.fileno() not in ready:
            keys = []  # a bell between the bytes of a key
        elif data := _read_keyboard():
            keys = self._keys.feed(data)
        else:
            return True
        for key in keys:
            if self._state.ended:
                break
            self._press(key)
        return False

    def _press(self, key: str) -> None:
        if key == "redraw":
            self._screen.forget()
            return
        size, found = self._screen.size, self._watcher.found
        length = 0 if self._state.view == "list" else len(page.body(self._state, found, size.width))
        self._state, action = states.press(self._state, key, found, page.page_size(size), length)
        if action is not None:
            self._watcher.ask(action)
        interest = Interest(
            self._state.wanted,
            job=self._state.subject if self._state.view == "job" else "",
            log=self._state.subject if self._state.view == "log" else "",
        )
        if interest != self._interest:
            self._interest = interest
            self._watcher.ask(interest)


def _read_keyboard() -> bytes:
    """What was typed; nothing if the terminal is gone."""
    try:
        return os.read(sys.stdin.fileno(), 4096)
    except OSError:
        return b""
