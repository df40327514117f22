"""The section `[air_executor]`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from airflow.executors.base_executor import ExecutorConf

from air_executor.errors import SettingsError
from air_executor.paths import Home
from airflow_plugin import config

ENVIRONMENT = {"AIRFLOW_HOME": "/af"}


class Source:
    """A configuration with just these options."""

    def __init__(self, options: Mapping[str, str], default_queue: str | None = "default") -> None:
        self.options, self.default_queue = options, default_queue

    def get(self, section: str, key: str, **_: Any) -> str | None:
        return self.default_queue if section == "operators" else self.options.get(key)

    def getsection(self, section: str) -> Mapping[str, Any] | None:
        return self.options or None


def load(environ: Mapping[str, str] = ENVIRONMENT, **options: str) -> config.Options:
    return config.load(Source(options), environ)


def test_defaults() -> None:
    assert load() == config.Options(Path("/af/.air-executor"), "default", ("default",), True, None, sys.executable)


def test_the_home_is_found_as_people_expect() -> None:
    assert load(base_path="/data/air").base_path == Path("/data/air")
    assert load({**ENVIRONMENT, "AIR_EXECUTOR_HOME": "/env"}).base_path == Path("/env")
    assert load({**ENVIRONMENT, "AIR_EXECUTOR_HOME": "/env"}, base_path="/data").base_path == Path("/data")
    assert load(base_path="~/air").base_path == Path.home() / "air"


def test_options() -> None:
    options = load(start_runner="False", slots="3", queues="a, b,a", python=sys.executable)
    assert (options.start_runner, options.slots, options.queues) == (False, 3, ("a", "b"))
    assert options.python == sys.executable
    assert load(token_lifetime="90").token_lifetime == 90.0


def test_the_runner_serves_the_queues_that_have_a_table_unless_they_are_chosen(home: Home) -> None:
    home.config.write_text("[queues.gpu]\nlauncher = 'slurm'\n[queues.default]\n[runner]\nslots = 'x'\n")
    assert config.served(load(base_path=str(home.root))) == ("default", "gpu")
    assert config.served(load(base_path=str(home.root), queues="a")) == ("a",)
    home.config.write_text("[queues.gpu]\nlauncher = 'slurp'\n")
    with pytest.raises(SettingsError, match="launcher must be one of local, slurm"):
        config.served(load(base_path=str(home.root)))
    assert config.served(load(base_path=str(home.root), queues="a")) == ("a",)


def test_the_runner_serves_the_default_queue_of_airflow() -> None:
    assert config.load(Source({}, "batch"), ENVIRONMENT).queues == ("batch",)
    assert config.load(Source({}, None), ENVIRONMENT).default_queue == "default"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sltos": "3"}, "unknown option [air_executor] sltos; did you mean slots?"),
        ({"colour": "red"}, "unknown option [air_executor] colour; known are base_path"),
        ({"base_path": "air"}, "[air_executor] base_path must be an absolute path, not 'air'"),
        ({"slots": "many"}, "[air_executor] slots must be a whole number of at least 1, not 'many'"),
        ({"slots": "0"}, "[air_executor] slots must be a whole number"),
        ({"start_runner": "perhaps"}, "[air_executor] start_runner must be True or False, not 'perhaps'"),
        ({"queues": "a b"}, "[air_executor] queues: the queue 'a b'"),
        ({"token_lifetime": "long"}, "[air_executor] token_lifetime must be a number of seconds above 0, not 'long'"),
        ({"token_lifetime": "-1"}, "[air_executor] token_lifetime must be a number of seconds above 0"),
        ({"token_lifetime": "inf"}, "[air_executor] token_lifetime must be a number of seconds above 0"),
        ({"python": "python3"}, "[air_executor] python must be the absolute path of a Python, not 'python3'"),
        ({"python": "/no/such/python"}, "[air_executor] python must be the absolute path"),
    ],
)
def test_what_is_wrong_is_named(options: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(**options)
    assert message in str(caught.value)


def test_an_unknown_variable_is_named() -> None:
    with pytest.raises(SettingsError, match="AIRFLOW__AIR_EXECUTOR__SLTOS; did you mean slots"):
        load({**ENVIRONMENT, "AIRFLOW__AIR_EXECUTOR__SLTOS": "3"})


def test_a_relative_home_in_the_environment_is_named() -> None:
    with pytest.raises(SettingsError, match=r"\$AIR_EXECUTOR_HOME must be an absolute path"):
        load({"AIR_EXECUTOR_HOME": "air"})


def test_airflows_own_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__AIR_EXECUTOR__SLOTS", "7")
    monkeypatch.setenv("AIRFLOW__RED___AIR_EXECUTOR__BASE_PATH", "/red")
    assert config.load(ExecutorConf()).slots == 7
    assert config.load(ExecutorConf("red")).base_path == Path("/red")
    assert config.load(ExecutorConf("red")).slots is None
