"""From what somebody typed to a home and a job."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from air_executor.errors import HomeError, InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from air_executor.client import AirExecutorClient
    from air_executor.paths import Home

_JOB_ID = re.compile(r"[0-9a-f]{8,32}\Z")
_SHOWN = 5
"""How many of several matches an error names."""


def find_home(args: argparse.Namespace) -> Home:
    """The home that the command means, whether it is there or not.

    Raises:
        HomeError: it cannot even be named, such as `~nobody` or relative to a directory that is gone.
    """
    from air_executor import paths

    try:
        return paths.Home(paths.find_home(args.home))
    except (OSError, RuntimeError) as error:
        raise HomeError(f"the home cannot be found: {error}; give --home with an absolute path") from None


def open_home(args: argparse.Namespace) -> Home:
    """The home, which must be there.

    Raises:
        HomeError: it is not.
    """
    from air_executor import store

    home = find_home(args)
    store.check_home(home)
    return home


def open_client(args: argparse.Namespace) -> AirExecutorClient:
    """The client of a home that must be there; raises as `open_home`."""
    from air_executor.client import AirExecutorClient

    return AirExecutorClient(open_home(args).root)


def find_job(home: Home, text: str) -> str:
    """The name of the job that was given as a name, the start of a name, an id or the start of an id.

    Raises:
        InvalidNameError: it can be none of these.
        NotFoundError: nothing matches.
        InvalidInputError: several match.
    """
    from air_executor import store, validation

    validation.check_name("the job name", text)
    if home.job(text).root.is_dir():
        return text
    matches = sorted(name for name in store.names(home) if name.startswith(text))
    if not matches and _JOB_ID.match(text):
        matches = _with_id(home, text)
    if not matches:
        raise NotFoundError(f"there is no job named {text} in {home.root}; air-executor list shows the jobs")
    if len(matches) > 1:
        more = f" and {len(matches) - _SHOWN} more" if len(matches) > _SHOWN else ""
        raise InvalidInputError(f"{text} may be {', '.join(matches[:_SHOWN])}{more}; give more of the name")
    return matches[0]


def _with_id(home: Home, text: str) -> list[str]:
    """Jobs whose id starts so. Files are looked through as bytes first: there may be many."""
    from air_executor import store
    from air_executor.errors import AirExecutorError

    found = []
    for name in store.names(home):
        try:
            if text.encode() in home.job(name).state.read_bytes() and store.read(home, name).id.startswith(text):
                found.append(name)
        except (OSError, AirExecutorError):
            continue  # gone or damaged meanwhile: it has no id to be found by
    return sorted(found)
