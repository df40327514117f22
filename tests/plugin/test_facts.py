"""What Airflow tells of itself for `doctor`: from where options come, what is wrong with them, and nothing secret."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from socket import create_server

import pytest
from airflow.configuration import AirflowConfigParser

from air_executor.doctor import facts as words
from airflow_plugin import facts

SECRET = "hunter2"


@pytest.fixture
def configured() -> AirflowConfigParser:
    """Airflow's configuration, in which this is written into airflow.cfg."""
    parser = AirflowConfigParser()
    parser.read_string("[core]\nexecutor = LocalExecutor\n[air_executor]\nslots = none\nsync_wait = 99\nx = 1")
    return parser


def test_where_an_option_comes_from(configured: AirflowConfigParser, monkeypatch: pytest.MonkeyPatch) -> None:
    def source(section: str, name: str) -> str:
        return facts._option(configured, section, name).source

    monkeypatch.delenv("AIRFLOW__CORE__EXECUTOR", raising=False)
    assert source("core", "executor") == words.FILE
    assert source("core", "parallelism") == words.DEFAULT
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "LocalExecutor")
    assert facts._option(configured, "core", "executor") == words.Option(
        "LocalExecutor", words.ENVIRONMENT, "AIRFLOW__CORE__EXECUTOR"
    )
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD", "echo")
    assert facts._option(configured, "database", "sql_alchemy_conn").source == words.ENVIRONMENT


def test_secrets_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"postgresql+psycopg2://me:{SECRET}@127.0.0.1:1/db?password={SECRET}"
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", address)
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", f"http://me:{SECRET}@127.0.0.1:1/execution/?{SECRET}")
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "airflow_plugin.AirExecutor")
    monkeypatch.setenv("AIRFLOW__AIR_EXECUTOR__SLOTS", SECRET)
    told = facts.gather()
    assert SECRET not in told.to_json()
    assert told.api == "http://127.0.0.1:1/execution/" and told.api_trouble == "Connection refused"
    assert told.database == words.Database("postgresql", "127.0.0.1:1", "OperationalError")
    assert told.wrong == [
        "[air_executor] slots must be a whole number of at least 1 (it is set by AIRFLOW__AIR_EXECUTOR__SLOTS)"
    ]
    assert told.missing == [] and told.loads == ""


def test_all_that_is_wrong_is_told(configured: AirflowConfigParser, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(facts.config.unknown_options(configured, {})) == [
        "unknown option [air_executor] x; known are " + ", ".join(facts.config.KNOWN)
    ]
    found = list(facts.malformed(configured))
    assert [sentence.split()[1] for sentence in found] == ["slots", "sync_wait"]
    monkeypatch.setenv("AIR_EXECUTOR_HOME", SECRET)
    assert facts._chosen(configured) == {}
    (relative,) = [sentence for sentence in facts.malformed(configured) if "AIR_EXECUTOR_HOME" in sentence]
    assert SECRET not in relative


def test_another_executor_is_asked_for_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "LocalExecutor")
    monkeypatch.setattr(facts, "look_at_database", None)
    assert facts.gather().database == words.Database()


def test_an_api_server_that_listens() -> None:
    with create_server(("127.0.0.1", 0)) as server:
        assert facts._why_no_answer(f"http://127.0.0.1:{server.getsockname()[1]}/execution/") == ""
    assert facts._why_no_answer("http://[/") == "it is no address"
    assert facts.without_user("http://a:b@[::1]:8/execution/?c#d") == "http://[::1]:8/execution/"


def test_databases(tmp_path: Path) -> None:
    path = tmp_path / "airflow.db"
    address = f"sqlite:///{path}"
    assert facts.look_at_database(address) == words.Database("sqlite", str(path), migrated=False)
    assert not path.exists(), "looking makes no database"
    with sqlite3.connect(path) as connection:
        assert not facts.look_at_database(address).migrated
        connection.execute("CREATE TABLE alembic_version (version_num)")
        connection.execute("INSERT INTO alembic_version VALUES ('x')")
    connection.close()
    assert facts.look_at_database(address) == words.Database("sqlite", str(path))
    path.write_text("no database")
    assert facts.look_at_database(address).trouble == "DatabaseError"
    assert facts.look_at_database(f"no address {SECRET}").trouble == "ArgumentError"
