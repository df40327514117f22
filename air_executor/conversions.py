"""What is written for an option, in a file, a variable or a flag, as the type that the option has. Pure functions.

Every function takes how an error calls the option, and the value; it raises `SettingsError` if the value is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from air_executor import validation
from air_executor.errors import InvalidInputError, SettingsError


def to_texts(where: str, value: Any) -> tuple[str, ...]:
    """A list of texts, each once; one text is separated by commas."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise SettingsError(f"{where} must be a list of texts, not {show(value)}")
    return tuple(dict.fromkeys(value))


def to_int(where: str, value: Any) -> int:
    """A whole number."""
    try:
        if isinstance(value, (bool, float)):
            raise ValueError
        number = int(value)
        if abs(number) >= 2**53:
            raise ValueError
        return number
    except (TypeError, ValueError):
        raise SettingsError(f"{where} must be a whole number, not {show(value)}") from None


def to_float(where: str, value: Any) -> float:
    """A span of time: seconds, or days if the option is called so."""
    try:
        number = float(value)
        if isinstance(value, bool) or not 0 <= number < float("inf"):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        unit = "days" if where.lower().endswith("_days") else "seconds"
        raise SettingsError(f"{where} must be a number of {unit}, not {show(value)}") from None
    return number


def to_bool(where: str, value: Any) -> bool:
    """A truth value."""
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.lower() not in known:
        raise SettingsError(f"{where} must be true or false, not {show(value)}")
    return known[value.lower()]


def to_text(where: str, value: Any) -> str:
    """A text."""
    if not isinstance(value, str):
        raise SettingsError(f"{where} must be a text, not {show(value)}")
    return value


def show(value: Any) -> str:
    """A value, as an error may spell it."""
    if isinstance(value, int) and abs(value) >= 2**53:  # Python may refuse to spell it
        return "a number so large"
    return f"{value!r:.80}"


def check_queue(where: str, name: Any) -> None:
    """Raise `SettingsError` unless a queue may have this name."""
    try:
        validation.check_name("the queue", name, validation.MAX_QUEUE_BYTES)
    except InvalidInputError as error:
        raise SettingsError(f"{where}: {error}") from None


CONVERTERS: Mapping[str, Callable[[str, Any], Any]] = {
    "tuple[str, ...]": to_texts,
    "int": to_int,
    "int | None": to_int,
    "float": to_float,
    "bool": to_bool,
    "str": to_text,
    "str | None": to_text,
}
"""For each type as a class of settings declares it."""
