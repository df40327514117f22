"""The terminal: taken over, drawn on, given back as it was. Nothing here knows what is drawn.

Whatever is drawn goes through `_safe`, so that no text of others is ever obeyed by the terminal. Only lines that are
not as they were are sent.
"""

from __future__ import annotations

import contextlib
import os
import sys
import termios
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.control import Control
from rich.text import Text

from air_executor import report
from air_executor.cli.top.page import Size
from air_executor.cli.top.texts import Line

_STYLES = {"grey": "bright_black"}
"""Colours that are called otherwise there."""


class Screen:
    """The terminal as long as it is ours."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False, force_terminal=True)
        self._keyboard = sys.stdin.fileno()
        self._before: list[Any] = []
        self._shown: list[Line] = []
        self._size = Size(0, 0)

    def __enter__(self) -> Screen:
        self._before = termios.tcgetattr(self._keyboard)
        self.take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_back()

    def take(self) -> None:
        """Show a page of our own, and have each key at once. Ctrl-C and Ctrl-Z stay what they are."""
        mode = [*self._before[:6], list(self._before[6])]
        mode[0] &= ~(termios.IXON | termios.INLCR | termios.IGNCR)  # Ctrl-S would stop us as we draw
        mode[0] |= termios.ICRNL
        mode[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN)
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._keyboard, termios.TCSADRAIN, mode)
        self._console.set_alt_screen(True)
        self._console.show_cursor(False)
        self.forget()

    def give_back(self) -> None:
        """Leave the terminal as it was; one that is gone needs nothing."""
        with contextlib.suppress(OSError, ValueError):
            self._console.show_cursor(True)
            self._console.set_alt_screen(False)
            sys.stdout.flush()
        with contextlib.suppress(termios.error):
            termios.tcsetattr(self._keyboard, termios.TCSADRAIN, self._before)

    def forget(self) -> None:
        """Draw everything the next time: something else may have been drawn there."""
        self._size = Size(0, 0)

    @property
    def size(self) -> Size:
        """That of the window now."""
        with contextlib.suppress(OSError):
            found = os.get_terminal_size(sys.stdout.fileno())
            if found.columns > 0 and found.lines > 0:
                return Size(found.columns, found.lines)
        return Size(80, 24)

    def draw(self, lines: Sequence[Line], size: Size) -> None:
        """Show these lines from the top."""
        with self._console:  # sends all at once at its end
            if size != self._size:
                self._console.size = (size.width, size.height)
                self._console.control(Control.home(), Control.clear())
                self._shown, self._size = [], size
            for number, line in enumerate(lines):
                if number >= len(self._shown) or self._shown[number] != line:
                    self._console.control(Control.move_to(0, number))
                    self._console.print(self._text(line), end="", no_wrap=True, crop=True, overflow="crop")
        self._shown = list(lines)

    def _text(self, line: Line) -> Text:
        text = Text(no_wrap=True, end="")
        for piece, style in line:
            text.append(self._safe(piece), " ".join(_STYLES.get(word, word) for word in style.split()))
        text.truncate(self._size.width, overflow="crop", pad=True)
        return text

    def _safe(self, text: str) -> str:
        """Text that is only shown, and that the terminal's encoding has."""
        encoding = self._console.encoding
        return report.one_line(text.expandtabs(1)).encode(encoding, "replace").decode(encoding)
