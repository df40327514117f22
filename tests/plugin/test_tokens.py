"""How long the tokens of workloads live, by Airflow's own generator and validator."""

from __future__ import annotations

import time
import uuid

import jwt
import pytest
from airflow.api_fastapi.auth.tokens import JWTGenerator, JWTValidator, get_sig_validation_args
from airflow.configuration import conf
from airflow.executors import workloads
from airflow.executors.base_executor import BaseExecutor

from airflow_plugin import tokens
from airflow_plugin.executor import AirExecutor

DAY = 24 * 3600


def claims_of(token: str) -> dict[str, object]:
    validator = JWTValidator(
        issuer=conf.get("api_auth", "jwt_issuer", fallback=None),
        audience=conf.get_mandatory_list_value("execution_api", "jwt_audience"),
        **get_sig_validation_args(),
    )
    return dict(validator.validated_claims(token))


def workload_token(executor: BaseExecutor, subject: str) -> dict[str, object]:
    return claims_of(workloads.ExecuteTask.generate_token(subject, executor.jwt_generator))


def test_a_token_differs_from_airflows_own_in_its_life_alone(executor: AirExecutor) -> None:
    subject = str(uuid.uuid4())
    ours, airflows = workload_token(executor, subject), workload_token(BaseExecutor(), subject)
    assert ours["exp"] == int(str(ours["iat"])) + 7 * DAY
    assert airflows["exp"] == int(str(airflows["iat"])) + 600
    once = ("jti", "exp", "iat", "nbf")
    assert ours.keys() == airflows.keys()
    assert {name: ours[name] for name in ours if name not in once} == {
        name: airflows[name] for name in airflows if name not in once
    }
    assert (ours["scope"], ours["sub"]) == ("workload", subject)


@pytest.mark.parametrize(("option", "seconds"), [("86400", DAY), ("5", 600)])
def test_the_life_is_an_option_and_never_shorter_than_airflows(
    home: object, monkeypatch: pytest.MonkeyPatch, option: str, seconds: int
) -> None:
    monkeypatch.setenv("AIRFLOW__AIR_EXECUTOR__TOKEN_LIFETIME", option)
    claims = workload_token(AirExecutor(), "subject")
    assert int(str(claims["exp"])) - int(str(claims["iat"])) == seconds


def test_tokens_for_anything_else_live_as_long_as_airflow_says(executor: AirExecutor) -> None:
    lifetime = conf.getint("execution_api", "jwt_expiration_time")
    assert executor.jwt_generator.valid_for == lifetime
    for extras in ({"sub": "1", "scope": "execution"}, {"sub": "1"}):
        claims = claims_of(executor.jwt_generator.generate(extras))
        assert int(str(claims["exp"])) - int(str(claims["iat"])) == lifetime


def test_a_wrong_option_leaves_airflows_tokens(home: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__AIR_EXECUTOR__TOKEN_LIFETIME", "long")
    claims = workload_token(AirExecutor(), "subject")
    assert int(str(claims["exp"])) - int(str(claims["iat"])) == 600


def test_a_token_that_is_too_old_or_too_new_is_told_from_a_good_one() -> None:
    token = JWTGenerator(secret_key="a" * 64, valid_for=60, audience="here").generate({"sub": "1"})
    issued = jwt.decode(token, options={"verify_signature": False})["iat"]
    assert [tokens.is_out_of_date(token, issued + seconds) for seconds in (-1, 0, 59, 60)] == [True, False, False, True]


@pytest.mark.parametrize("token", ["", "secret-token", "a.b.c", jwt.encode({"sub": "1"}, "a" * 64)])
def test_what_has_no_dates_is_not_out_of_date(token: str) -> None:
    assert not tokens.is_out_of_date(token, time.time())
