"""From the bytes that a terminal sends to keys: a letter is itself, other keys have names such as `up`."""

from __future__ import annotations

import codecs
import re

_ESCAPE = "\x1b"
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.)", re.DOTALL)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|O)?\Z")
_NAMED = {
    **dict.fromkeys(("\x1b[A", "\x1bOA"), "up"),
    **dict.fromkeys(("\x1b[B", "\x1bOB"), "down"),
    **dict.fromkeys(("\x1b[C", "\x1bOC"), "right"),
    **dict.fromkeys(("\x1b[D", "\x1bOD"), "left"),
    **dict.fromkeys(("\x1b[H", "\x1bOH", "\x1b[1~", "\x1b[7~"), "home"),
    **dict.fromkeys(("\x1b[F", "\x1bOF", "\x1b[4~", "\x1b[8~"), "end"),
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b[Z": "back tab",
    "\t": "tab",
    **dict.fromkeys("\r\n", "enter"),
    **dict.fromkeys("\x7f\b", "backspace"),
    "\x15": "clear",
    "\x0c": "redraw",
}


class Keys:
    """Takes pieces as they come: one may end in the middle of a key."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    @property
    def unsure(self) -> bool:
        """Whether the last piece ended with what is either the key Escape or the start of another."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[str]:
        """The keys that are whole."""
        text, found = self._rest + self._decoder.decode(data), []
        while text and not _UNFINISHED.match(text):
            sequence = _SEQUENCE.match(text)
            taken = sequence.group() if sequence else text[0]
            text = text[len(taken) :]
            found.append(_name(taken))
        self._rest = text
        return [key for key in found if key]

    def flush(self) -> list[str]:
        """Nothing more came: it was the key Escape."""
        unfinished, self._rest = self._rest, ""
        return ["escape"] if unfinished else []


def _name(taken: str) -> str:
    """An empty text for what means nothing here."""
    if taken == _ESCAPE:
        return "escape"
    return _NAMED.get(taken) or (taken if taken.isprintable() else "")
