"""One request to the API: TLS, the token, time limits, and further tries where they can do no harm."""

from __future__ import annotations

import contextlib
import os
import ssl
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from air_executor.errors import AirExecutorError, RemoteError, SettingsError, UnreachableError
from air_executor.remote import address, answers
from air_executor.remote.patience import AT_ONCE, LATER, REFUSED_UNDONE, Patience, retry_after

if TYPE_CHECKING:
    import httpx

TOKEN_VARIABLE = "AIR_EXECUTOR_TOKEN"  # noqa: S105  # its name
CA_VARIABLE = "AIR_EXECUTOR_CA_FILE"
PLAIN_VARIABLE = "AIR_EXECUTOR_ALLOW_PLAIN"
CONNECT_TIMEOUT = 10.0
ANSWER_TIMEOUT = 30.0
"""Seconds without a byte of an answer, beside those that the server was asked to wait."""
BASE = "/api/v1"


@dataclass(frozen=True)
class Access:
    """Where the API is, and how one is let in."""

    url: str
    token: str = field(repr=False)
    verify: bool | str = True
    """Whether its certificate is checked, or the file with the certificates that may have signed it."""


def find_access(
    url: str,
    token: str | None = None,
    *,
    verify: bool | str | None = None,
    allow_plain: bool | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Access:
    """How one is let in; what is not given comes of the environment.

    Raises:
        SettingsError: the address is none, other people could read the token, or there is no token.
    """
    if allow_plain is None:
        allow_plain = environ.get(PLAIN_VARIABLE, "").strip().lower() in ("1", "true", "yes", "on")
    checked = address.check(url, allow_plain=allow_plain)
    found = (token if token is not None else environ.get(TOKEN_VARIABLE, "")).strip()
    if not found or not found.isascii() or not found.isprintable() or " " in found:
        what = "the token is none" if found else "there is no token"
        raise SettingsError(
            f"{what} for {checked}; give token=... or set {TOKEN_VARIABLE} to one that "
            "`air-executor token create` has printed on the home's host"
        )
    return Access(checked, found, verify if verify is not None else environ.get(CA_VARIABLE) or True)


class Transport:
    """Asks the API of one home. Thread-safe; in a forked process it has connections of its own."""

    def __init__(self, access: Access, patience: Patience | None = None) -> None:
        self.access = access
        self._patience = patience or Patience()
        self._lock = threading.Lock()
        self._pid = 0
        self._http: httpx.Client | None = None

    @property
    def url(self) -> str:
        """Where the API is."""
        return self.access.url

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        key: str | None = None,
        repeatable: bool = True,
        wait: float = 0.0,
        patience: Patience | None = None,
        urgent: bool = False,
    ) -> Any:
        """What is answered, as JSON; None if nothing is; raises as `send`.

        Raises:
            AirExecutorError: what the API says, or that it says nothing; see `answers.to_error`.
        """
        response = self.send(
            method,
            path,
            body=body,
            query=query,
            key=key,
            repeatable=repeatable,
            wait=wait,
            patience=patience,
            urgent=urgent,
        )
        if response.status_code == 204:
            return None
        return self._json(response)

    def send(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        key: str | None = None,
        repeatable: bool = True,
        wait: float = 0.0,
        patience: Patience | None = None,
        urgent: bool = False,
    ) -> httpx.Response:
        """An answer that is no refusal.

        Args:
            path: below `/api/v1`, quoted.
            key: the Idempotency-Key: with it, the request may be made again.
            repeatable: whether it may be made again although it may have been carried out.
            wait: seconds that the server takes before it answers.
            patience: for this request, instead of the one that all have.
            urgent: with a connection of its own, and few tries: the handler of a signal may have interrupted another
                request of this thread.
        """
        patience = AT_ONCE if urgent else patience or self._patience
        tried, since = 0, 0.0
        while True:
            tried += 1
            outcome = self._try(method, path, body, query, key, wait, urgent)
            if not isinstance(outcome, _Later):
                return outcome
            since = since or time.monotonic()
            may = repeatable or outcome.undone
            pause = patience.pause(tried, outcome.asked, time.monotonic() - since) if may else -1.0
            if pause < 0:
                raise outcome.error
            time.sleep(pause)

    def _try(
        self,
        method: str,
        path: str,
        body: Any,
        query: Mapping[str, Any] | None,
        key: str | None,
        wait: float,
        urgent: bool,
    ) -> httpx.Response | _Later:
        try:
            import httpx
        except ImportError:
            raise SettingsError("over HTTP, httpx is needed: install httpx, or this project's extra `api`") from None
        limits = httpx.Timeout(ANSWER_TIMEOUT, connect=CONNECT_TIMEOUT, read=ANSWER_TIMEOUT + wait)
        headers = {} if key is None else {"Idempotency-Key": key}
        try:
            with self._connections(urgent) as http:
                response = http.request(
                    method, f"{BASE}{path}", json=body, params=query, headers=headers, timeout=limits
                )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            return self._no_way(error)
        except httpx.TransportError as error:
            return _Later(self._unreachable(error))
        except httpx.HTTPError as error:  # such as an answer that is damaged
            raise RemoteError(f"the answer of {self.url} cannot be read: {type(error).__name__}") from None
        if response.is_success:
            return response
        refusal = answers.to_error(self.url, response.status_code, _problem(response))
        if response.status_code in LATER:
            asked = retry_after(response.headers.get("retry-after"))
            if not isinstance(refusal, RemoteError):
                later: AirExecutorError = refusal  # such as a home that cannot be used at this moment
            else:
                later = UnreachableError(str(refusal), asked)
            return _Later(later, asked, response.status_code in REFUSED_UNDONE)
        raise refusal

    def _no_way(self, error: Exception) -> _Later:
        """Nothing was sent. What is wrong with a certificate is so the next time, too."""
        if "CERTIFICATE" in str(error).upper():
            raise RemoteError(
                f"the certificate of {self.url} is not trusted ({error}); if it is the right server, give the file "
                f"with the certificate that signed it: verify=..., or {CA_VARIABLE}"
            ) from None
        return _Later(self._unreachable(error), undone=True)

    def _unreachable(self, error: Exception) -> UnreachableError:
        said = str(error) or type(error).__name__
        return UnreachableError(
            f"{self.url} does not answer: {said}; see whether `air-executor serve` runs there, and whether this host "
            "may reach it"
        )

    def _json(self, response: httpx.Response) -> Any:
        try:
            return response.json()
        except ValueError:
            raise RemoteError(f"{self.url} answers, and not as the API does: is that its address?") from None

    # --- Connections ---

    @contextlib.contextmanager
    def _connections(self, own: bool) -> Iterator[httpx.Client]:
        if own:
            with self._make() as http:
                yield http
            return
        if self._pid != os.getpid():  # no lock: in a fork, another thread may have held it
            self._lock = threading.Lock()
            self._http, self._pid = None, os.getpid()
        with self._lock:
            if self._http is None:
                self._http = self._make()
                weakref.finalize(self, self._http.close).atexit = False
        yield self._http

    def _make(self) -> httpx.Client:
        import httpx

        return httpx.Client(
            base_url=self.url,
            headers={
                "Authorization": f"Bearer {self.access.token}",
                "User-Agent": "air-executor",
                "Accept": "application/json",
            },
            verify=self._tls(),
            trust_env=not address.is_plain(self.url),  # a proxy could read what has no TLS
            follow_redirects=False,
        )

    def _tls(self) -> ssl.SSLContext | bool:
        verify = self.access.verify
        if not isinstance(verify, str):
            return verify
        try:
            return ssl.create_default_context(cafile=verify)
        except (OSError, ssl.SSLError) as error:
            why = getattr(error, "strerror", None) or "it holds no certificate"
            raise SettingsError(f"the certificates in {verify} cannot be read: {why}") from None

    def close(self) -> None:
        """Give connections back; the next request makes others."""
        if self._pid == os.getpid() and self._http is not None:
            self._http.close()
            self._http = None


@dataclass(frozen=True)
class _Later:
    """A try that may be followed by another."""

    error: AirExecutorError
    asked: float | None = None
    undone: bool = False
    """Whether it is known that nothing was carried out."""


def _problem(response: httpx.Response) -> object:
    try:
        return response.json()
    except ValueError:
        return None
