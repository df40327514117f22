"""Deliveries to a real receiver on loopback, and to addresses that are refused."""

from __future__ import annotations

import json
import runpy
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from air_executor import model, store, webhooks
from air_executor.model import JobState
from air_executor.paths import Home
from air_executor.webhooks import events, outbox, transport
from air_executor.webhooks.delivery import Delivery, Outcome, Verdict, explain
from air_executor.webhooks.sender import Outlet, Sender
from air_executor.webhooks.tables import WebhookSettings
from tests.receiver import SECRET, Got, Receiver, new

JOB = model.Job(
    "a", id="a.0123abcd", exit=model.Exit(model.ExitKind.EXIT_CODE, "it failed"), finished_at="2026-01-31T00:00:00Z"
)
HOME = Home(Path("/where/the/home/is"))
EVENT = events.of_job(HOME, "ops", JOB, JobState.FAILED)
NEVER = threading.Event()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    store.ensure_home(home)
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    return home


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with new().listening() as receiver:
        yield receiver


def deliver(home: Home, url: str, resolve: Any = None, event: dict[str, Any] = EVENT, **options: Any) -> Outcome:
    given = {"secret_file": "secret", "allow_private": True, "timeout": 5.0, **options}
    return Delivery(home, "ops", WebhookSettings(url=url, **given), environ={}, resolve=resolve).deliver(event)


def test_an_event_is_delivered_signed(home: Home, receiver: Receiver) -> None:
    assert deliver(home, receiver.url + "?a=b") == Outcome(Verdict.TAKEN)
    (got,) = receiver.got
    assert got.path.endswith("?a=b")
    assert webhooks.verify(got.headers, got.body, SECRET) == EVENT
    assert (got.headers["X-Air-Executor-Id"], got.headers["X-Air-Executor-Event"]) == (EVENT["id"], "job.failed")
    with pytest.raises(webhooks.ReplayError):
        webhooks.verify(got.headers, got.body, SECRET, seen={EVENT["id"]})


def test_a_chat_gets_a_text(home: Home, receiver: Receiver) -> None:
    assert deliver(home, receiver.url, kind="slack", secret_file=None).verdict is Verdict.TAKEN
    assert receiver.got[0].json == {"text": "a failed: it failed"}
    assert "X-Air-Executor-Signature" not in receiver.got[0].headers


def test_no_redirect_is_followed(home: Home, receiver: Receiver) -> None:
    receiver.answer = lambda got: (307, {"Location": receiver.url}, b"")
    outcome = deliver(home, receiver.url)
    assert outcome.verdict is Verdict.REFUSED and "redirect" in str(outcome.error)
    assert len(receiver.got) == 1


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("localhost", "loopback"),
        ("2130706433", "loopback"),
        ("0x7f.1", "loopback"),
        ("[::1]", "loopback"),
        ("[::ffff:127.0.0.1]", "loopback"),
        ("0.0.0.0", "no host"),
        ("[::]", "no host"),
        ("169.254.169.254", "link-local"),
        ("10.0.0.1", "private"),
        ("224.0.0.1", "multicast"),
    ],
)
def test_nothing_is_sent_to_this_host_or_its_network(host: str, kind: str, home: Home, receiver: Receiver) -> None:
    outcome = deliver(home, f"https://{host}:{receiver.port}/", allow_private=False)
    assert outcome.verdict is Verdict.AWAY and kind in str(outcome.error), outcome
    assert receiver.got == []


@pytest.mark.parametrize("host", ["0.0.0.0", "169.254.169.254", "[::ffff:169.254.169.254]", "224.0.0.1"])
def test_some_addresses_are_never_allowed(host: str, home: Home, receiver: Receiver) -> None:
    outcome = deliver(home, f"http://{host}:{receiver.port}/", timeout=0.5)
    assert "nothing is sent there" in str(outcome.error)


def found(*addresses: str) -> list[tuple[Any, ...]]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in addresses]


def test_a_name_that_leads_here_is_refused_and_asked_for_once(
    home: Home, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rebinding: the second answer would be another one. What is connected to is what was looked at."""
    answers = [found("203.0.113.7", "127.0.0.1", "192.0.2.1", "8.8.8.8"), found("127.0.0.1")]
    asked: list[Any] = []
    reached: list[Any] = []

    def resolve(*given: Any, **_: Any) -> list[tuple[Any, ...]]:
        asked.append(given)
        return answers[len(asked) - 1]

    def connect(_: socket.socket, address: Any) -> None:
        reached.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(transport.socket.socket, "connect", connect)
    outcome = deliver(home, "https://ops.example.org/", resolve, allow_private=False)
    assert outcome == Outcome(Verdict.AWAY, "ops.example.org port 443: Connection refused")
    assert (len(asked), reached) == (1, [("8.8.8.8", 443)])
    outcome = deliver(home, "https://ops.example.org/", resolve, allow_private=False)
    assert "ops.example.org is at 127.0.0.1, which is a loopback address" in str(outcome.error)
    assert len(reached) == 1


def test_where_a_connection_came_to_is_looked_at(
    home: Home, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_addresses", lambda *_: [(2, 1, 6, "", ("127.0.0.1", receiver.port))])
    outcome = deliver(home, receiver.url.replace("http:", "https:"), allow_private=False)
    assert "which is a loopback address" in str(outcome.error)
    assert receiver.got == []


def test_what_goes_wrong_is_told_without_secrets(home: Home, receiver: Receiver) -> None:
    def answer(got: Got) -> tuple[int, dict[str, str], bytes] | None:
        return None if got.path == "/none" else (500, {}, b"you said " + got.body)

    receiver.answer = answer
    base = f"http://127.0.0.1:{receiver.port}"
    outcomes = [
        deliver(home, receiver.url),
        deliver(home, f"{base}/none"),
        deliver(home, receiver.url.replace("http:", "https:")),
        deliver(home, f"http://127.0.0.1:{new().port}/secret-part-of-the-path"),
        deliver(home, "http://no-such-host.invalid/secret-part-of-the-path", _unknown),
        deliver(home, receiver.url, secret_file="missing"),
    ]
    whys = [str(outcome.error) for outcome in outcomes]
    assert [outcome.verdict for outcome in outcomes] == [Verdict.AWAY] * len(outcomes)
    assert [why.partition(" port ")[0] for why in whys[:1]] == ["HTTP 500"]
    assert "no HTTP server" in whys[1] or "closed" in whys[1]
    assert "no TLS" in whys[2] and "refused" in whys[3] and "not known" in whys[4]
    assert not [why for why in whys if SECRET in why or "secret-part" in why]


def _unknown(*_: Any, **__: Any) -> list[tuple[Any, ...]]:
    raise socket.gaierror(-2, "Name or service not known")


def test_a_receiver_that_drips_is_given_up_in_time(home: Home) -> None:
    """Each read comes in time, and there would be no end of them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                while not over.wait(0.02):
                    try:
                        connection.sendall(b"X: y\r\n")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            port = server.getsockname()[1]
            outcome = deliver(home, f"http://127.0.0.1:{port}/", timeout=0.3)
        finally:
            over.set()
            thread.join()
    assert outcome == Outcome(Verdict.AWAY, f"127.0.0.1 port {port}: no answer within 0.3 s")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of a receiver named localhost, signed by itself: the key and the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(timezone.utc)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path / "certificate.pem"
    path.write_bytes(private + made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return path


def test_a_certificate_is_checked(home: Home, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    receiver = new()
    receiver.context = context
    with receiver.listening():
        url = f"https://localhost:{receiver.port}/"
        unknown = deliver(home, url)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        known, other = deliver(home, url), deliver(home, f"https://127.0.0.1:{receiver.port}/")
    assert unknown.verdict is Verdict.AWAY
    assert "localhost: its certificate is not valid: self-signed" in str(unknown.error).replace(
        "self signed", "self-signed"
    )
    assert known == Outcome(Verdict.TAKEN)
    assert "127.0.0.1: its certificate is not valid: IP address mismatch" in str(other.error)
    assert len(receiver.got) == 1 and receiver.got[0].headers["Host"] == f"localhost:{receiver.port}"


# --- Airflow, in the shape that its API has ---


class Airflow:
    """Logs in one user, and makes one run of each id."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver, self.tokens, self.runs = receiver, 0, dict[str, Any]()
        self.valid = "none"
        receiver.answer = self.answer

    def answer(self, got: Got) -> tuple[int, dict[str, str], bytes]:
        if got.path == "/auth/token":
            if got.json != {"username": "ana", "password": SECRET}:
                return 401, {}, b'{"detail": "no"}'
            self.tokens += 1
            self.valid = f"token-{self.tokens}"
            return 201, {}, json.dumps({"access_token": self.valid}).encode()
        if got.headers.get("Authorization") != f"Bearer {self.valid}":
            return 401, {}, b""
        if (got.method, got.path) == ("GET", "/api/v2/dags/follow%20up"):
            return 200, {}, b"{}"
        if (got.method, got.path) != ("POST", "/api/v2/dags/follow%20up/dagRuns"):
            return 404, {}, b""
        if got.json["dag_run_id"] in self.runs:
            return 409, {}, b""
        self.runs[got.json["dag_run_id"]] = got.json
        return 200, {}, b"{}"


def test_a_dag_run_is_made_once(home: Home, receiver: Receiver) -> None:
    airflow = Airflow(receiver)
    table = WebhookSettings(
        url=f"http://127.0.0.1:{receiver.port}/",
        kind="airflow",
        user="ana",
        dag_id="follow up",
        secret_file="secret",
        allow_private=True,
    )
    delivery = Delivery(home, "ops", table, environ={})
    assert delivery.deliver(events.ping("ops", "0" * 8)).verdict is Verdict.TAKEN
    assert delivery.deliver(EVENT).verdict is Verdict.TAKEN
    airflow.valid = "expired"
    assert delivery.deliver(EVENT).verdict is Verdict.TAKEN
    (run,) = airflow.runs.values()
    assert (run["conf"], run["logical_date"], airflow.tokens) == (EVENT, None, 2)
    (home.root / "secret").write_text("another password")
    assert delivery.deliver(EVENT) == Outcome(
        Verdict.AWAY, "Airflow does not log in the user of [webhooks.ops]: HTTP 401: the user or the password is wrong"
    )
    receiver.answer = lambda _: (404, {}, b"")
    here = f"http://127.0.0.1:{receiver.port}"
    assert f"what answers at {here} is not Airflow's API server" in str(delivery.deliver(EVENT).error)


def test_a_dag_run_with_a_token(home: Home, receiver: Receiver) -> None:
    airflow = Airflow(receiver)
    airflow.valid = SECRET
    base = f"http://127.0.0.1:{receiver.port}"
    assert deliver(home, base, kind="airflow", dag_id="follow up").verdict is Verdict.TAKEN
    told = f"HTTP 404: Airflow at {base} has no DAG other, or the url is not that of Airflow's API server"
    for event in (EVENT, events.ping("ops", "0" * 8)):
        assert deliver(home, base, kind="airflow", dag_id="other", event=event) == Outcome(Verdict.REFUSED, told)
    airflow.valid = "expired"
    told = f"HTTP 401: Airflow at {base} does not take the token: it has expired, or another Airflow made it"
    assert deliver(home, base, kind="airflow", dag_id="follow up") == Outcome(Verdict.REFUSED, told)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, "makes no run of the DAG next: see its import errors"),
        (
            403,
            "the token does not count any more, or has no right to make runs of the DAG next in Airflow at https://here",
        ),
        (409, None),
        (500, None),
    ],
)
def test_what_airflow_means_with_a_status(status: int, said: str | None) -> None:
    table = WebhookSettings(kind="airflow", dag_id="next")
    found = explain(status, table, "https://here", "make runs of")
    assert found is None if said is None else said in str(found)


# --- Rounds ---


def test_what_somebody_sends_again_does_not_wait_for_a_receiver_that_was_away(home: Home, receiver: Receiver) -> None:
    receiver.answer = lambda _: (503, {"Retry-After": "3000"}, b"")
    put(home, "a,1")
    put(home, "b,1")
    sending = outlet(home, receiver)
    assert (sending.round(NEVER) or 0) > 1000 and len(receiver.got) == 1
    receiver.answer = lambda _: (200, {}, b"")
    assert (sending.round(NEVER) or 0) > 1000 and len(receiver.got) == 1
    outbox.resend(home, outbox.find(home, "ops/b.0123abcd,1"))
    sending.round(NEVER)
    assert receiver.ids[1:] == ["ops/b.0123abcd,1"]


def put(home: Home, stem: str, **values: Any) -> None:
    name, _, attempt = stem.partition(",")
    job = model.Job(name, id=f"{name}.0123abcd", attempt=int(attempt), finished_at=model.now())
    event = events.of_job(HOME, "ops", job, JobState.COMPLETED)
    outbox.write(home, outbox.Entry("ops", events.file_stem(job), event, model.now(), **values))


def outlet(home: Home, receiver: Receiver, **options: Any) -> Outlet:
    made = Outlet(home, "ops")
    made.use(WebhookSettings(url=receiver.url, secret_file="secret", allow_private=True, **options))
    return made


def test_a_round_sends_what_is_due_in_order(home: Home, receiver: Receiver) -> None:
    for stem in ("a,2", "a,1", "b,1"):
        put(home, stem)
    sending = outlet(home, receiver)
    while sending.round(NEVER) is not None:
        pass
    jobs = [got.json["job"] for got in receiver.got]
    assert [(job["name"], job["attempt"]) for job in jobs if job["name"] == "a"] == [("a", 1), ("a", 2)]
    assert len(jobs) == 3 and outbox.stems(home, "ops") == []


def test_a_later_attempt_waits_for_an_earlier_one(home: Home, receiver: Receiver) -> None:
    for stem in ("a,1", "a,2", "b,1"):
        put(home, stem)
    receiver.answer = lambda got: (400 if got.json["job"]["name"] == "a" else 200, {}, b"")
    sending = outlet(home, receiver)
    assert (sending.round(NEVER) or 0) > 0.5
    assert sorted(receiver.ids) == ["ops/a.0123abcd,1", "ops/b.0123abcd,1"]
    entry = outbox.read(home, "ops", "a.0123abcd,1")
    assert (entry.tries, entry.error) == (1, "HTTP 400") and entry.next_at is not None
    sending.round(NEVER)
    assert len(receiver.got) == 2, "it was tried before its time"


def test_what_is_sent_again_waits_no_longer(home: Home, receiver: Receiver) -> None:
    put(home, "a,1")
    receiver.answer = lambda got: (400, {"Retry-After": "3600"}, b"")
    sending = outlet(home, receiver)
    assert (sending.round(NEVER) or 0) > 1000
    receiver.answer = lambda got: (200, {}, b"")
    outbox.resend(home, outbox.read(home, "ops", "a.0123abcd,1"))
    assert sending.round(NEVER) is None
    assert len(receiver.got) == 2 and outbox.stems(home, "ops") == []


def test_a_receiver_that_is_away_is_left_alone(home: Home, receiver: Receiver) -> None:
    for number in range(5):
        put(home, f"j{number},1")
    receiver.answer = lambda got: (503, {"Retry-After": "30"}, b"")
    sending = outlet(home, receiver)
    assert (sending.round(NEVER) or 0) > 20
    sending.round(NEVER)
    assert len(receiver.got) == 1


def test_what_is_given_up_is_kept(home: Home, receiver: Receiver) -> None:
    put(home, "a,1", tries=2)
    put(home, "a,2")
    receiver.answer = lambda got: (400 if got.json["job"]["attempt"] == 1 else 200, {}, b"")
    sending = outlet(home, receiver, max_attempts=3)
    while sending.round(NEVER) is not None:
        pass
    assert outbox.stems(home, "ops") == []
    entry = outbox.read(home, "ops", "a.0123abcd,1", dead=True)
    assert (entry.tries, entry.error) == (3, "HTTP 400")
    assert receiver.ids == ["ops/a.0123abcd,1", "ops/a.0123abcd,2"]


def test_a_state_that_is_no_longer_wanted_is_not_sent(home: Home, receiver: Receiver) -> None:
    put(home, "a,1")
    assert outlet(home, receiver, states=("failed",)).round(NEVER) is None
    assert receiver.got == [] and outbox.stems(home, "ops") == []


def test_a_signal_ends_the_sender_wherever_it_interrupts_it(home: Home) -> None:
    """As it goes to sleep, holding whatever it holds for that."""
    sending, signals = Sender(home), iter(range(5))

    def interrupt(frame: FrameType, event: str, _: object) -> Any:
        above = frame.f_back.f_code.co_name if frame.f_back else ""
        asleep = frame.f_code.co_name == "_sleep" or (frame.f_code.co_name, above) == ("wait", "_rest")
        if event == "line" and asleep and next(signals, None) is not None:
            sending.end()
        return interrupt

    def run() -> None:
        sys.settrace(interrupt)
        try:
            sending.run()
        finally:
            sys.settrace(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def test_a_webhook_without_a_table_keeps_its_events(home: Home) -> None:
    put(home, "a,1")
    alone = Outlet(home, "ops")
    alone.use(None)
    alone.round(NEVER)
    assert outbox.read(home, "ops", "a.0123abcd,1").error == "config.toml has no table [webhooks.ops]"


# --- The example of a receiver ---


def test_the_example_deals_with_each_event_once(home: Home, tmp_path: Path) -> None:
    example: Any = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "webhooks" / "receiver.py"))
    dealt: list[Any] = []

    def deal(event: dict[str, Any]) -> None:
        dealt.append(event)
        if len(dealt) == 1:
            raise OSError("it cannot be dealt with now")

    server = example["server"](0, example["Events"](SECRET, tmp_path / "seen", deal))
    server.handle_error = lambda *_: None
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/"
    try:
        assert deliver(home, url).verdict is Verdict.AWAY
        assert [deliver(home, url).verdict for _ in range(2)] == [Verdict.TAKEN] * 2
        (home.root / "secret").write_text("another secret that nobody knows")
        assert deliver(home, url) == Outcome(Verdict.REFUSED, "HTTP 400")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert dealt == [EVENT, EVENT]
    assert (tmp_path / "seen").read_text() == f"{EVENT['id']}\n"
