"""The hook: which home a connection means, what is wrong with others, and what the button "Test" says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.providers_manager import ProvidersManager
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

from air_executor import testing
from air_executor.errors import HomeError, SettingsError
from air_executor.paths import Home
from airflow_plugin import hook, provider
from airflow_plugin.hook import AirJobHook
from tests.http import apart
from tests.plugin import fleet

SECRET = "s3cr3t-t0ken"


def connection(**fields: Any) -> Connection:
    return Connection(conn_id="here", **{"conn_type": "air_executor", **fields})


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a connection that Airflow finds."""

    def make(conn_id: str = "here", **fields: Any) -> AirJobHook:
        content = {"conn_type": "air_executor", **fields}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(content))
        return AirJobHook(conn_id)

    return make


def test_without_a_connection_it_is_the_home_of_the_executor(home: Home) -> None:
    assert AirJobHook().get_conn().home.root == home.root


def test_a_connection_says_which_home(connect: Any, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    extra = {"environment": "prod", "queue": "heavy", "poll_interval": 2}
    found = connect(host=str(tmp_path / "other"), extra=extra)
    assert found.target == hook.Target(tmp_path / "other", True, "prod", "heavy", 2.0)
    assert found.get_conn().home.root == tmp_path / "other"
    assert found.queue == "heavy"


def test_a_connection_of_the_default_name_counts(connect: Any, tmp_path: Path) -> None:
    assert connect("air_executor_default", host=str(tmp_path)).get_conn().home.root == tmp_path


def test_a_connection_without_a_home_leaves_that_of_the_executor(connect: Any, home: Home) -> None:
    assert connect(extra={"queue": "heavy"}).target == hook.Target(home.root, queue="heavy")


def test_a_connection_as_an_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    written = connection(host=str(tmp_path), extra=json.dumps({"queue": "heavy"})).get_uri()
    monkeypatch.setenv("AIRFLOW_CONN_HERE", written)
    assert AirJobHook("here").target == hook.Target(tmp_path, True, queue="heavy")


def test_a_named_connection_that_is_missing_is_an_error(home: Home) -> None:
    with pytest.raises(AirflowNotFoundException, match="nowhere"):
        AirJobHook("nowhere").get_conn()


def test_a_connection_that_points_nowhere_is_an_error(connect: Any, tmp_path: Path) -> None:
    with pytest.raises(HomeError, match=r"'here' points to .*/none, which is no directory"):
        connect(host=str(tmp_path / "none")).get_conn()
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"conn_type": "postgres", "host": "db"}, "is of the type 'postgres'; 'air_executor' is needed"),
        ({"host": "http://air.example.org"}, "has no TLS"),
        ({"host": "air.example.org", "schema": "http"}, "has no TLS"),
        ({"schema": "https"}, "has the schema https and no host"),
        ({"host": "https://"}, "is no web address"),
        ({"host": "https://me:pw@air.example.org"}, "holds a user or a password"),
        ({"host": "https://air.example.org", "password": ""}, "has no password; give it the token"),
        ({"host": "https://air.example.org", "extra": '{"jitter": 1}'}, "jitter must be a number from 0 to below 1"),
        (
            {"host": "https://air.example.org", "extra": '{"verify": "/none"}'},
            "verify must be a file",
        ),
        ({"host": "https://air.example.org", "extra": '{"allow_plain": "maybe"}'}, "allow_plain must be true or false"),
        ({"host": "https://air.example.org", "extra": '{"organization": 1}'}, "organization must be text, not int"),
        ({"host": "jobs"}, "must be an absolute path, not 'jobs'"),
        ({"host": "/tmp", "extra": '{"poll_interval": "often"}'}, "poll_interval must be a number of seconds above 0"),
        ({"host": "/tmp", "extra": '{"poll_interval": -1}'}, "poll_interval must be a number of seconds above 0"),
        ({"host": "/tmp", "extra": '{"queue": "../up"}'}, "the queue '../up' must start with"),
        ({"host": "/tmp", "extra": '{"environment": 3}'}, "environment must be text, not int"),
    ],
)
def test_what_cannot_be_understood_is_an_error(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        hook.read_connection("here", connection(**{"password": SECRET, **fields}))
    assert message in str(caught.value) and "'here'" in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "https://air.example.org:8470"}, "https://air.example.org:8470"),
        ({"host": "https://air.example.org", "port": 8470}, "https://air.example.org:8470"),
        ({"host": "https://air.example.org:1/below/", "port": 8470}, "https://air.example.org:1/below"),
        ({"host": "air.example.org", "schema": "https", "port": 8470}, "https://air.example.org:8470"),
        ({"host": "AIR.example.org", "schema": "HTTPS"}, "https://air.example.org"),
        ({"host": "http://127.0.0.1:8470/api/v1"}, "http://127.0.0.1:8470"),
        ({"host": "https://[fd00::1]", "port": 8470}, "https://[fd00::1]:8470"),
        ({"host": "http://air", "extra": '{"allow_plain": true}'}, "http://air"),
    ],
)
def test_a_connection_says_which_web_address(monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], url: str) -> None:
    target = hook.read_connection("here", connection(password=SECRET, **fields))
    assert (target.address, target.home, target.token, target.named) == (url, None, SECRET, True)
    assert SECRET not in repr(target)
    monkeypatch.setenv("AIRFLOW_CONN_HERE", connection(password=SECRET, **fields).get_uri())
    assert AirJobHook("here").target.address == url
    client = AirJobHook("here").get_conn()
    assert client.address == url and SECRET not in repr(client) + repr(vars(client))


def test_what_a_connection_says_of_all_that_goes_over_it() -> None:
    extra = {"organization": "sales", "jitter": "0.5", "poll_interval": 3, "verify": "false", "environment": "prod"}
    found = hook.read_connection("here", connection(host="https://air", password=SECRET, extra=json.dumps(extra)))
    assert (found.labels, found.jitter, found.poll_interval) == ({"organization": "sales"}, 0.5, 3.0)
    assert (found.verify, found.environment, found.allow_plain) == (False, "prod", None)


def test_the_button_asks_the_api(connect: Any, home: Home, servers: apart.HttpServers) -> None:
    fleet.serve(home, "default")
    with servers.serving(home) as url:
        worked, words = connect(host=url, password=apart.token(home)).test_connection()
        assert worked and words == f"{url} can be used; its queue 'default' is served by a runner"
        for fields, why in (
            ({"password": apart.token(home), "extra": {"queue": "other"}}, "no runner serves its queue 'other'"),
            ({"password": apart.token(home, "read")}, "its token lacks the scope submit and cancel"),
            ({"password": "ax_none"}, "refuses the token"),
        ):
            worked, words = connect(host=url, **fields).test_connection()
            assert not worked and why in words and "ax_" not in words.replace("ax_<id>", "")


def test_the_button_says_who_would_run_a_job(connect: Any, home: Home) -> None:
    with testing.running_runner(home, "--queues", "default,heavy") as runner:
        worked, words = connect(host=str(home.root)).test_connection()
        assert worked and f"served by {runner.id}" in words
        worked, words = connect(host=str(home.root), extra={"queue": "other"}).test_connection()
        assert not worked and "no runner serves its queue 'other' (1 serve other queues)" in words


def test_the_button_says_that_nobody_would(connect: Any, home: Home, tmp_path: Path) -> None:
    worked, words = connect(host=str(home.root)).test_connection()
    assert not worked and "no runner serves its queue 'default'" in words and "runner start" in words
    worked, words = connect(host=str(tmp_path / "none")).test_connection()
    assert not worked and "no directory" in words


def test_the_button_says_that_a_home_cannot_be_written(connect: Any) -> None:
    worked, words = connect(host="/proc/self").test_connection()  # not even by root
    assert not worked and "/proc/self cannot be written" in words


def test_airflow_knows_the_type_and_its_form() -> None:
    manager = ProvidersManager()
    found = ProvidersManagerTaskRuntime().hooks["air_executor"]
    assert found is not None
    assert (found.hook_name, found.hook_class_name) == ("Air-Executor", "airflow_plugin.hook.AirJobHook")
    assert found.connection_id_attribute_name == "air_conn_id" and found.connection_testable
    widgets = {name.removeprefix("extra__air_executor__") for name in manager.connection_form_widgets}
    assert {"environment", "queue", "poll_interval", "organization", "jitter", "verify", "allow_plain"} <= widgets
    behaviour = manager.field_behaviours["air_executor"]
    assert behaviour["relabeling"] == {"host": "Home", "password": "Token"}
    assert "extra" in behaviour["hidden_fields"]


def test_the_hook_of_a_connection_is_ours(connect: Any, home: Home) -> None:
    connect(host=str(home.root))
    found = Connection.get("here").get_hook()
    assert isinstance(found, AirJobHook) and found.get_conn().home.root == home.root


def test_the_provider_info_is_as_airflow_wants_it() -> None:
    import airflow
    import jsonschema

    folder = Path(airflow.__file__).parent
    info = provider.get_provider_info()
    jsonschema.validate(info, json.loads((folder / "provider_info.schema.json").read_text()))
    schema = json.loads((folder / "provider.yaml.schema.json").read_text())
    for name in ("connection-types", "operators", "sensors", "hooks", "triggers", "task-decorators"):
        jsonschema.validate(info[name], schema["properties"][name] | {"definitions": schema.get("definitions", {})})
