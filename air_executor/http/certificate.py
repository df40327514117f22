"""The certificate of the server: read when it starts, and again when its files are others."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from air_executor.errors import SettingsError
from air_executor.paths import Home

log = logging.getLogger("air_executor.http")

Stamp = tuple[tuple[int, int, int], ...]


class Certificate:
    """A certificate and its key.

    Raises:
        SettingsError: they cannot be read, or are none.
    """

    def __init__(self, home: Home, cert: str, key: str | None) -> None:
        self._cert = home.root / Path(cert).expanduser()
        self._key = home.root / Path(key or cert).expanduser()
        self._stamp = self._look()
        self.context = self._current = self._read()
        """TLS with it; connections that come later have what `renew` has read.

        A context has one certificate of each kind of key, so another one is never read into it: it is put in its place.
        """
        self.context.sni_callback = lambda connection, _name, _context: setattr(connection, "context", self._current)

    def renew(self) -> None:
        """Use what the files hold now, if that is another certificate and can be used; else go on with the old one."""
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._current = self._read()
        except SettingsError as error:  # such as between the two files, which are replaced one after the other
            log.warning("the certificate is not renewed, the old one goes on: %s", error)
        else:
            log.info("the certificate is renewed: %s", self._cert)

    def _look(self) -> Stamp:
        """What is another one if a file is."""
        try:
            stats = [path.stat() for path in (self._cert, self._key)]
        except OSError:
            return ()
        return tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats)

    def _read(self) -> ssl.SSLContext:
        for what, path in (("tls_cert", self._cert), ("tls_key", self._key)):
            try:
                with path.open("rb"):
                    pass
            except OSError as error:
                raise SettingsError(f"[http] {what}: {path} cannot be read: {error.strerror}") from None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self._cert, self._key, password=_no_password)
        except _Encrypted:
            raise SettingsError(
                f"[http] tls_key: {self._key} is encrypted; give a key without a password, mode 0600"
            ) from None
        except (ssl.SSLError, OSError) as error:
            why = getattr(error, "reason", None) or "they are not PEM"
            raise SettingsError(f"[http] {self._cert} and {self._key} are no certificate and its key: {why}") from None
        return context


class _Encrypted(Exception):
    """A key that needs a password."""


def _no_password() -> str:
    """Else OpenSSL would ask for it on the terminal."""
    raise _Encrypted
