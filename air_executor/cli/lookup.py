"""From what somebody typed to a home and a job."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from air_executor.errors import HomeError, InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from air_executor.client import AirExecutorClient
    from air_executor.paths import Home
    from air_executor.runners import RunnerInfo
    from air_executor.sightings import Sightings

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


def find_runner(home: Home, text: str | None, seen: Sightings) -> RunnerInfo:
    """The live runner that is meant by its id or the start of it; the only one if none was named.

    Raises:
        NotFoundError: there is none.
        InvalidInputError: there are several.
    """
    from air_executor import runners

    alive = runners.alive_runners(home, seen)
    found = [info for info in alive if info.id == text] or [info for info in alive if info.id.startswith(text or "")]
    if not found:
        raise NotFoundError(f"no runner{f' {text}' if text else ''} is running in {home.root}")
    if len(found) > 1:
        raise InvalidInputError(f"which runner? There are {', '.join(info.id for info in found)}; give one of them")
    return found[0]


def find_job(home: Home, text: str) -> str:
    """The name of the job that was given as a name, the start of a name, or an id.

    Raises:
        InvalidNameError: it can be none of these.
        NotFoundError: nothing matches.
        InvalidInputError: several match.
    """
    from air_executor import store

    text = store.name_of(home, text)
    if home.job(text).root.is_dir():
        return text
    matches = sorted(name for name in store.names(home) if name.startswith(text))
    if not matches:
        raise NotFoundError(f"there is no job named {text} in {home.root}; air-executor list shows the jobs")
    if len(matches) > 1:
        more = f" and {len(matches) - _SHOWN} more" if len(matches) > _SHOWN else ""
        raise InvalidInputError(f"{text} may be {', '.join(matches[:_SHOWN])}{more}; give more of the name")
    return matches[0]
