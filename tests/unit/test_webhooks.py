"""Webhooks: every decision, as pure functions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from air_executor import model, settings, validation, webhooks
from air_executor.errors import InvalidJobError, SettingsError
from air_executor.model import Job, JobState
from air_executor.paths import Home
from air_executor.webhooks import addresses, delivery, events, outbox, routes, sender, signing, tables, targets
from air_executor.webhooks.delivery import Outcome, Verdict
from air_executor.webhooks.sender import Waiting
from air_executor.webhooks.tables import WebhookSettings
from air_executor.webhooks.transport import Answer

SECRET = "0123456789abcdef0123"
HOME = Home(Path("/where/the/home/is"))
NOW = 1_800_000_000
BODY = json.dumps({"id": "ops/job.00000000,1", "event": "job.completed"}).encode()


def headers(body: bytes = BODY, secret: str = SECRET, at: float | None = None) -> dict[str, str]:
    return {"x-air-executor-signature": webhooks.sign(body, secret, NOW if at is None else at)}


# --- Signatures ---


def test_what_was_signed_is_verified() -> None:
    event = webhooks.verify(headers(), BODY, SECRET, now=NOW)
    assert event == json.loads(BODY)
    with_id = {**headers(), "X-AIR-EXECUTOR-ID": event["id"]}
    assert webhooks.verify(with_id, BODY, SECRET.encode(), seen={"other"}, now=NOW) == event


@pytest.mark.parametrize(
    "around", [f"{SECRET}\n", f" \t{SECRET}\r\n", f"{SECRET}\n".encode(), f"\u00a0{SECRET}".encode()]
)
def test_white_space_around_a_secret_does_not_count(around: str | bytes) -> None:
    assert webhooks.sign(BODY, around, NOW) == webhooks.sign(BODY, SECRET, NOW)
    assert webhooks.verify(headers(), BODY, around, now=NOW) == json.loads(BODY)


@pytest.mark.parametrize("empty", ["", b"", " \n", b"\n"])
def test_nothing_is_signed_with_an_empty_secret(empty: str | bytes) -> None:
    with pytest.raises(ValueError, match="is empty"):
        webhooks.sign(BODY, empty, NOW)


def test_a_secret_may_be_any_bytes() -> None:
    assert webhooks.sign(BODY, b"\xff\xfe key\n", NOW) == webhooks.sign(BODY, b"\xff\xfe key", NOW)


def test_the_signature_is_what_the_documentation_says() -> None:
    import hashlib
    import hmac

    digest = hmac.new(SECRET.encode(), b"1700000000." + BODY, hashlib.sha256).hexdigest()
    assert webhooks.sign(BODY, SECRET, 1700000000.9) == f"t=1700000000,v1={digest}"


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"X-Air-Executor-Signature": ""},
        {"X-Air-Executor-Signature": "t=1,v1="},
        {"X-Air-Executor-Signature": "v1=00"},
        {"X-Air-Executor-Signature": f"t={NOW}"},
        {"X-Air-Executor-Signature": f"t={NOW},v1=é"},
        {"X-Air-Executor-Signature": f"t={'9' * 5000},v1=00"},
        headers(secret="another secret"),
        headers(body=BODY + b" "),
        headers(at=NOW - 400),
        headers(at=NOW + 400),
        {**headers(), "X-Air-Executor-Id": "ops/another.00000000,1"},
    ],
)
def test_what_is_forged_or_old_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(webhooks.VerificationError) as caught:
        webhooks.verify(given, BODY, SECRET, now=NOW)
    assert SECRET not in str(caught.value)


def test_the_time_cannot_be_changed_alone() -> None:
    old = signing.sign(BODY, SECRET, NOW - 1000)
    renewed = f"t={NOW},{old.partition(',')[2]}"
    with pytest.raises(webhooks.VerificationError, match="signature"):
        webhooks.verify({"X-Air-Executor-Signature": renewed}, BODY, SECRET, now=NOW)


def test_a_replay_is_refused() -> None:
    with pytest.raises(webhooks.ReplayError) as caught:
        webhooks.verify(headers(), BODY, SECRET, seen={"ops/job.00000000,1"}, now=NOW)
    assert caught.value.event_id == "ops/job.00000000,1"


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"id": 3}', b"[" * 100_000])
def test_a_body_that_is_no_event_is_refused(body: bytes) -> None:
    with pytest.raises(webhooks.VerificationError, match="no event"):
        webhooks.verify(headers(body), body, SECRET, now=NOW)


# --- Addresses ---


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("8.8.8.8", None),
        ("2001:4860:4860::8888", None),
        ("::ffff:8.8.8.8", None),
        ("64:ff9b::808:808", None),
        ("127.0.0.1", "loopback"),
        ("127.8.9.10", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("64:ff9b::7f00:1", "loopback"),
        ("::7f00:1", "loopback"),
        ("10.1.2.3", "private"),
        ("172.16.0.1", "private"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "private"),
        ("fd00::1", "private"),
        ("fec0::1", "private"),
        ("::ffff:10.0.0.1", "private"),
        ("2002:a00:1::1", "private"),
        ("0.0.0.0", "no host"),
        ("::", "no host"),
        ("::ffff:0.0.0.0", "no host"),
        ("169.254.169.254", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("::ffff:169.254.169.254", "link-local"),
        ("64:ff9b::a9fe:a9fe", "link-local"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("240.0.0.1", "reserved"),
        ("::ffff:0:7f00:1", "reserved"),
        ("64:ff9b:1::7f00:1", "reserved"),
        ("4000::1", "reserved"),
        ("fd00:ec2::254", "metadata"),
        ("::ffff:100.100.100.200", "metadata"),
        ("example", "no address"),
    ],
)
def test_which_addresses_are_allowed(address: str, kind: str | None) -> None:
    why = addresses.why_not(address, allow_private=False)
    assert (kind is None and why is None) or (kind is not None and kind in str(why)), why
    private = addresses.why_not(address, allow_private=True)
    assert private == (None if kind in (None, "loopback", "private") else why)


# --- Tables ---


def read(text: str, tmp_path: Path) -> WebhookSettings:
    home = Home(tmp_path)
    home.config.write_text(text)
    return settings.load(home, {}).webhooks["ops"]


GOOD = '[webhooks.ops]\nurl = "https://example.org/x"\nsecret_file = "s"\n'


def test_a_table_is_read(tmp_path: Path) -> None:
    found = read(GOOD + 'states = ["failed"]\npipelines = ["*"]\nlabels = { team = "data" }\ntimeout = 3\n', tmp_path)
    assert (found.kind, found.states, found.pipelines, found.labels) == ("json", ("failed",), ("*",), {"team": "data"})
    assert (found.timeout, found.max_attempts, found.allow_private) == (3.0, 0, False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[webhooks]\nops = 1\n", "write [webhooks.ops]"),
        ('[webhooks."a b"]\n', "must start with a letter"),
        (f"[webhooks.{'a' * 41}]\n", "41 characters long"),
        (GOOD + 'urk = "x"\n', "did you mean url?"),
        (GOOD + 'secret = "hunter2hunter2"\n', "secret_file or secret_env"),
        (GOOD + 'password = "hunter2hunter2"\n', "user, and secret_file or secret_env"),
        (GOOD + 'secret_env = "X"\n', "both secret_file and secret_env"),
        (GOOD + 'kind = "xml"\n', "one of json, slack, airflow"),
        (GOOD + 'kind = "airflow"\n', "needs dag_id"),
        (GOOD + 'dag_id = "x"\n', 'set kind = "airflow"'),
        (GOOD + 'user = "x"\n', "user is for those of the kind airflow"),
        (GOOD + 'states = ["working"]\n', "completed, failed, cancelled"),
        (GOOD + "states = []\n", "completed, failed, cancelled"),
        (GOOD + 'pipelines = ["a/b"]\n', "names of pipelines"),
        (GOOD + "labels = { a = 1 }\n", "map text to text"),
        (GOOD + 'all_jobs = true\npipelines = ["a"]\n', "leave out one of them"),
        (GOOD + "timeout = 0\n", "more than 0 s"),
        (GOOD + "timeout = 1000\n", "at most 120 s"),
        (GOOD + "max_attempts = -1\n", "0 for any number"),
        (GOOD + "give_up_after = 0\n", "more than 0 s"),
        ('[webhooks.ops]\nsecret_file = "s"\n', "one of url, url_file, url_env"),
        ('[webhooks.ops]\nurl = "https://example.org"\n', "one of secret_file, secret_env"),
        (GOOD.replace("https://example.org/x", "http://example.org/hunter2"), "must be https://"),
        (GOOD.replace("https://example.org/x", "ftp://example.org/hunter2"), "form https://HOST"),
        (GOOD.replace("https://example.org/x", "https:///hunter2"), "form https://HOST"),
        (GOOD.replace("https://example.org/x", "https://me:hunter2@example.org"), "neither a user"),
        (GOOD.replace("https://example.org/x", "https://example.org:99999/hunter2"), "no URL"),
        (GOOD.replace("https://example.org/x", "https://example.org/hunter2 x"), "no URL"),
        (GOOD.replace("https://example.org/x", "https://example.org/\\nHost: hunter2"), "no URL"),
        (GOOD.replace('secret_file = "s"', 'secret_env = "hunter2-hunter2"'), "name of an environment variable"),
        (GOOD.replace('"https://example.org/x"', '["hunter2"]'), "must be a text"),
    ],
)
def test_a_table_with_a_mistake_is_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        read(text, tmp_path)
    assert said in str(caught.value)
    assert str(tmp_path / "config.toml") in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_chat_needs_no_secret(tmp_path: Path) -> None:
    found = read('[webhooks.ops]\nkind = "slack"\nurl_env = "HOOK"\n', tmp_path)
    target = targets.find(Home(tmp_path), "ops", found, {"HOOK": "https://chat.example.org/T0/secret\n"})
    assert (target.url, target.secret, target.place) == (
        "https://chat.example.org/T0/secret",
        None,
        "https://chat.example.org",
    )
    assert "T0" not in repr(target)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        (b"", "nothing that can be used"),
        (b"short-hunter2", "less than 16 bytes"),
        (b"a line hunter2\nand another one", "nothing that can be used"),
        (b"\xff\xfe hunter2", "not a file with text"),
        (b"hunter2" * 20000, "more than 65536 bytes"),
    ],
)
def test_a_secret_that_is_none_is_refused(content: bytes | None, said: str, tmp_path: Path) -> None:
    table = read(GOOD, tmp_path)
    if content is not None:
        (tmp_path / "s").write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        targets.find(Home(tmp_path), "ops", table, {})
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)


# --- Which webhooks are told ---


def route(**values: Any) -> dict[str, Any]:
    return {"states": list(tables.STATES), "pipelines": [], "labels": {}, "all_jobs": False, **values}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, []),
        ({"all_jobs": True}, ["all"]),
        ({"pipelines": ["nightly"]}, ["all"]),
        ({"pipelines": ["*"]}, ["all"]),
        ({"pipelines": ["other"]}, []),
        ({"labels": {"team": "data"}}, ["all"]),
        ({"labels": {"team": "web"}}, []),
        ({"labels": {"team": "data"}, "pipelines": ["other"]}, []),
        ({"labels": {"team": "data"}, "pipelines": ["nightly"]}, ["all"]),
        ({"all_jobs": True, "states": ["failed"]}, []),
    ],
)
def test_which_webhooks_choose_a_job(values: dict[str, Any], told: list[str]) -> None:
    job = Job("a", labels={"pipeline": "nightly", "team": "data"})
    assert routes.chosen({"all": route(**values)}, job, JobState.COMPLETED) == told


def test_a_job_of_no_pipeline_is_of_none() -> None:
    assert routes.chosen({"w": route(pipelines=["*"])}, Job("a"), JobState.FAILED) == []


def test_a_job_names_webhooks() -> None:
    known = {"a": route(), "b": route(states=["failed"]), "c": route(all_jobs=True)}
    job = Job("x", webhooks=["b", "a", "gone"])
    assert routes.chosen(known, job, JobState.COMPLETED) == ["a", "gone", "c"]
    assert routes.chosen(known, job, JobState.FAILED) == ["b", "a", "gone", "c"]


@pytest.mark.parametrize("names", ["ops", ["a/b"], [""], ["a" * 41], [3], ["a"] * 21, None])
def test_names_of_webhooks_are_checked(names: Any) -> None:
    with pytest.raises((InvalidJobError, ValueError)):
        validation.check_job(Job("a", webhooks=names))


# --- What is told ---


def ended(**values: Any) -> Job:
    outcome = model.Exit(model.ExitKind.EXIT_CODE, "task <a> & b failed", code=3)
    return Job("a", id="a.0123abcd", attempt=2, exit=outcome, finished_at=model.now(), **values)


def test_an_event_holds_no_secret() -> None:
    job = ended(labels={"pipeline": "p"}, slurm={"extra": ["--hunter2"]}, extra={"hunter2": 1})
    event = events.of_job(HOME, "ops", job, JobState.FAILED)
    assert (event["id"], event["event"], event["at"]) == ("ops/a.0123abcd,2", "job.failed", job.finished_at)
    assert event["job"]["pipeline"] == "p"
    assert event["job"]["exit"] == {"kind": "exit_code", "reason": "task <a> & b failed"}
    assert "hunter2" not in json.dumps(event)


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("task a failed: command not found: /opt/hunter2", "task a failed: command not found"),
        ("damaged: /where/the/home/is/jobs/a/state.json: is empty", "damaged: jobs/a/state.json: is empty"),
    ],
)
def test_a_reason_tells_no_command_and_no_place(reason: str, told: str) -> None:
    job = Job("a", exit=model.Exit(model.ExitKind.START_FAILED, reason))
    assert events.of_job(HOME, "ops", job, JobState.FAILED)["job"]["exit"]["reason"] == told


def test_a_text_for_a_chat() -> None:
    event = events.of_job(HOME, "ops", ended(), JobState.FAILED)
    assert events.as_text(event) == "a (attempt 2) failed: task &lt;a&gt; &amp; b failed"
    assert events.as_text(events.ping("ops", "00000000")) == "Air-Executor: ping"


def test_an_id_from_a_damaged_file_becomes_no_path() -> None:
    job = Job("a", id="../../etc/passwd")
    assert outbox.is_stem(events.file_stem(job))
    assert events.file_stem(job).startswith("a.")


def test_the_id_of_a_dag_run_is_one_that_airflow_takes() -> None:
    event = events.of_job(HOME, "ops", Job("n" * 200, attempt=12), JobState.FAILED)
    name = delivery.run_id(event)
    assert len(name) <= 200 and validation.is_name(name)
    assert name == delivery.run_id(dict(event))
    assert name != delivery.run_id(events.of_job(HOME, "other", Job("n" * 200, attempt=12), JobState.FAILED))


# --- When it is sent ---


@pytest.mark.parametrize(
    ("status", "fields", "verdict", "wait"),
    [
        (200, {}, Verdict.TAKEN, 0),
        (204, {}, Verdict.TAKEN, 0),
        (302, {"location": "http://169.254.169.254/"}, Verdict.REFUSED, 0),
        (400, {}, Verdict.REFUSED, 0),
        (404, {}, Verdict.REFUSED, 0),
        (410, {}, Verdict.NEVER, 0),
        (429, {"retry-after": "7"}, Verdict.AWAY, 7),
        (500, {}, Verdict.AWAY, 0),
        (503, {"retry-after": "99999"}, Verdict.AWAY, 3600),
        (503, {"retry-after": "Wed, 21 Oct 2026"}, Verdict.AWAY, 0),
    ],
)
def test_what_an_answer_means(status: int, fields: dict[str, str], verdict: Verdict, wait: float) -> None:
    outcome = delivery.judge(Answer(status, fields, b"words of the receiver"))
    assert (outcome.verdict, outcome.wait) == (verdict, wait)
    assert "words" not in str(outcome.error)


def test_of_each_job_the_earliest_attempt_goes_first() -> None:
    def waiting(stem: str, at: str = "2026", tries: int = 0) -> Waiting:
        return Waiting(stem, at, tries, 0.0)

    found = [waiting("a.1,2"), waiting("a.1,10"), waiting("b.1,1", tries=3), waiting("c.1,1", "2025"), waiting("a.1,3")]
    assert [each.stem for each in sender.heads(found)] == ["c.1,1", "a.1,2", "b.1,1"]


def test_delays_grow_up_to_a_limit() -> None:
    assert [sender.delay(n) for n in (1, 2, 3, 4, 12, 13, 10_000)] == [1, 2, 4, 8, 2048, 3600, 3600]
    assert sender.delay(50, sender.MAX_PAUSE) == 60


def test_when_an_entry_is_due() -> None:
    def due(next_at: float) -> bool:
        return sender.is_due(Waiting("a.1,1", "", 1, next_at), now=1000.0)

    assert due(0.0) and due(1000.0)
    assert not due(1001.0)
    assert due(1000.0 + 10 * sender.MAX_DELAY), "a clock was set back"


@pytest.mark.parametrize(
    ("tries", "age", "table", "verdict", "hopeless"),
    [
        (1000, 10, {}, Verdict.AWAY, False),
        (1, 3 * 86_400 + 10, {}, Verdict.AWAY, True),
        (3, 10, {"max_attempts": 3}, Verdict.REFUSED, True),
        (2, 10, {"max_attempts": 3}, Verdict.REFUSED, False),
        (1, 10, {}, Verdict.NEVER, True),
    ],
)
def test_when_an_event_is_given_up(tries: int, age: float, table: Any, verdict: Verdict, hopeless: bool) -> None:
    entry = outbox.Entry("w", "a.1,1", {}, model.from_timestamp(5_000_000 - age), tries)
    assert sender.is_hopeless(entry, Outcome(verdict, "x"), WebhookSettings(**table), 5_000_000) is hopeless
