"""The parts of an Airflow installation that somebody started beside the runner: who registered, and who lives.

One file each, written by the script that starts them (`air-executor component register`), read by `status`. Nothing
here starts or stops anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from air_executor import _files, model, processes, validation
from air_executor.errors import CorruptFileError, NotFoundError
from air_executor.paths import Home


@dataclass(frozen=True)
class Component:
    """The content of components/<name>.json."""

    name: str
    process: model.Process
    log: str | None = None
    url: str | None = None
    """Where it answers, such as the api-server's `http://127.0.0.1:8080`."""

    @property
    def alive(self) -> bool | None:
        """Whether its process lives; None if it is another host's and cannot be seen from here."""
        return processes.is_alive(self.process)


def register(home: Home, component: Component) -> None:
    """Remember a component, in place of one of the same name."""
    validation.check_name("the component", component.name)
    process = model.to_dict(component.process)
    content = {"schema": model.SCHEMA, "name": component.name, "log": component.log, "url": component.url}
    content |= {key: process[key] for key in ("pid", "start_time", "host", "boot_id")}
    _files.replace_object(home.component(component.name), content)


def unregister(home: Home, name: str) -> None:
    """Forget a component.

    Raises:
        NotFoundError: there is none of that name.
    """
    validation.check_name("the component", name)
    try:
        home.component(name).unlink()
    except FileNotFoundError:
        raise NotFoundError(f"there is no component {name} in {home.root}") from None


def read(path: Path) -> Component:
    """One component's file.

    Raises:
        FileNotFoundError: it is gone.
        CorruptFileError: it is damaged.
    """
    content = _files.read_object(path)
    try:
        same_boot = {"boot_id": processes.boot_id(), **content}  # whoever writes the file by hand may leave it out
        process = model.from_dict(model.Process, {key: same_boot[key] for key in _PROCESS_KEYS})
        validation.check_process(process)
        return Component(path.stem, process, _text(content.get("log")), _text(content.get("url")))
    except (KeyError, ValueError) as error:
        raise CorruptFileError(path, f"is not a component's file ({error})") from None


_PROCESS_KEYS = ("host", "boot_id", "pid", "start_time")


def read_all(home: Home) -> list[Component | CorruptFileError]:
    """Every registered component, by name; the error in place of one whose file is damaged."""
    found: list[Component | CorruptFileError] = []
    for path in sorted(home.components.glob("*.json")):
        try:
            found.append(read(path))
        except CorruptFileError as error:
            found.append(error)
        except FileNotFoundError:
            continue  # unregistered meanwhile
    return found


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
