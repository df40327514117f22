"""The address and the secret of a webhook, read where its table says. Neither is ever in a message.

They are read for each delivery: whoever replaces a secret's file restarts nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from air_executor import _files
from air_executor.errors import CorruptFileError, SettingsError
from air_executor.paths import Home
from air_executor.webhooks import tables
from air_executor.webhooks.tables import WebhookSettings

MIN_SECRET = 16
"""Bytes of the key of signatures."""
MAX_FILE = 65536


@dataclass(frozen=True)
class Target:
    """Where to send, and with which secret."""

    url: str = field(repr=False)
    secret: str | None = field(repr=False)

    @property
    def place(self) -> str:
        """Scheme, host and port: what may be shown of a URL."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"


def find(home: Home, name: str, table: WebhookSettings, environ: Mapping[str, str] = os.environ) -> Target:
    """The target of a webhook.

    Raises:
        SettingsError: it is not where the table says, or is none.
    """
    here = f"[webhooks.{name}]"
    url = table.url or _read(home, here, "url", table.url_file, table.url_env, environ)
    if url is None:
        raise SettingsError(f"{here} has no url")
    tables.check_url(f"{here} url", url, table)
    secret = _read(home, here, "secret", table.secret_file, table.secret_env, environ)
    if secret is not None and table.kind != tables.AIRFLOW and len(secret.encode()) < MIN_SECRET:
        raise SettingsError(f"{here} the secret has less than {MIN_SECRET} bytes; make one with openssl rand -hex 32")
    if secret is not None and table.kind == tables.AIRFLOW and table.user is None and not secret.isascii():
        raise SettingsError(f"{here} the token has characters that no token has")
    return Target(url, secret)


def _read(
    home: Home, here: str, what: str, file: str | None, variable: str | None, environ: Mapping[str, str]
) -> str | None:
    """What a file or a variable holds, without the white space around it."""
    if variable is not None:
        where, text = f"{what}_env", environ.get(variable)
        if text is None:
            raise SettingsError(f"{here} {where} names a variable that is not set where events are sent from")
    elif file is not None:
        where, text = f"{what}_file", _read_file(home, f"{here} {what}_file", file)
    else:
        return None
    if not text.strip() or not text.strip().isprintable():
        raise SettingsError(f"{here} {where} leads to nothing that can be used: it must be one line that is not empty")
    return text.strip()


def _read_file(home: Home, where: str, name: str) -> str:
    try:
        content = _files.read_bytes(home.root / name)
        if len(content) > MAX_FILE:
            raise SettingsError(f"{where} names a file of more than {MAX_FILE} bytes")
        return content.decode("utf-8")
    except (CorruptFileError, UnicodeDecodeError):
        why = "it is not a file with text that can be read"
    except OSError as error:
        why = error.strerror or "it is not there"
    raise SettingsError(f"{where} names a file that cannot be used: {why}")
