"""`serve`: the HTTP API of the home."""

from __future__ import annotations

import argparse

from air_executor.cli import arguments, lookup
from air_executor.errors import SettingsError

_TEXT = """\
Serve the HTTP API of the home until SIGTERM or Ctrl-C; a second signal ends it
at once. Who uses it needs a token (air-executor token create). Flags go before
variables AIR_EXECUTOR_HTTP_*, and those before the table [http] in config.toml.

It is on 127.0.0.1 without TLS if nothing else is said. Other hosts reach it
only with TLS, or with --allow-plain, as behind a proxy that has TLS."""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.add_command(
        commands,
        "serve",
        run,
        help="serve the HTTP API",
        text=_TEXT,
        examples=("air-executor serve", "air-executor serve --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem"),
        has_json=False,
    )
    parser.add_argument("--host", metavar="ADDRESS", help="the address (default 127.0.0.1)")
    parser.add_argument("--port", type=int, metavar="N", help="the port (default 8470); 0: any that is free")
    parser.add_argument("--tls-cert", metavar="FILE", help="certificate, PEM")
    parser.add_argument("--tls-key", metavar="FILE", help="its private key; the same file if not given")
    parser.add_argument("--allow-plain", action="store_true", default=None, help="other hosts, too, without TLS")


def run(args: argparse.Namespace) -> int:
    """Serve."""
    from pathlib import Path

    from air_executor import settings, store

    home = lookup.find_home(args)
    files = {
        key: None if (given := getattr(args, key)) is None else str(Path(given).absolute())
        for key in ("tls_cert", "tls_key")
    }
    flags = {"host": args.host, "port": args.port, "allow_plain": args.allow_plain, **files}
    chosen = settings.override(settings.load(home).http, flags)
    try:
        from air_executor.http import server
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{error.name} is not installed, which serve needs: install this project's extra `api`"
        ) from None
    store.ensure_home(home)
    server.log_to_stderr()
    return server.serve(home, chosen)
