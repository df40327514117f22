"""Where an HTTP API is: what people give, checked before a token goes there. Pure."""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urlsplit

from air_executor.errors import SettingsError

_PREFIX = "/api/v1"


def check(text: str, *, allow_plain: bool = False) -> str:
    """The address of an API as it is used: `https://host:8470`, without a slash at its end.

    Args:
        allow_plain: whether a token may go to another host without TLS.

    Raises:
        SettingsError: that is none, or everybody on the way could read the token.
    """
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        raise SettingsError("that is no web address; give one such as https://air.example.org:8470") from None
    if parts.scheme.lower() not in ("http", "https") or not host or not host.isprintable() or " " in host:
        raise SettingsError("that is no web address; give one such as https://air.example.org:8470")
    if parts.username is not None or parts.password is not None:
        raise SettingsError(f"the address of {host} holds a user or a password; give the token as token=...")
    if parts.query or parts.fragment:
        raise SettingsError(f"the address of {host} ends in ?... or #...; give one such as https://{host}:8470")
    if parts.scheme.lower() == "http" and not allow_plain and not is_loopback(host):
        raise SettingsError(
            f"http://{host} has no TLS, so others could read the token on its way: use https://, or say allow_plain "
            "(AIR_EXECUTOR_ALLOW_PLAIN=1) if the network is trusted"
        )
    return _join(parts, host, port)


def _join(parts: SplitResult, host: str, port: int | None) -> str:
    name = f"[{host}]" if ":" in host else host
    path = parts.path.rstrip("/").removesuffix(_PREFIX)
    return f"{parts.scheme.lower()}://{name}{'' if port is None else f':{port}'}{path}"


def is_plain(url: str) -> bool:
    """Whether there is no TLS on the way to a checked address."""
    return url.startswith("http://")


def is_loopback(host: str) -> bool:
    """Whether only this host is at that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
