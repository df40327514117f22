"""The HTML document, the same for all pages, and what it loads: all in `static/`, and nothing has to be built."""

from __future__ import annotations

import functools
import hashlib
import html
from pathlib import Path
from urllib.parse import quote

from fastapi import HTTPException, Request, Response
from fastapi.responses import HTMLResponse

STATIC = Path(__file__).parent / "static"
DOCUMENT = "index.html"
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FOR_EVER = "private, max-age=31536000, immutable"
LOGIN = "/api/v2/auth/login"
"""Where Airflow logs people in."""


@functools.cache
def assets() -> dict[str, bytes]:
    """What may be loaded, by name."""
    return {path.name: path.read_bytes() for path in sorted(STATIC.iterdir()) if path.suffix in TYPES}


@functools.cache
def version() -> str:
    """Changes with each asset: it is a part of their addresses, so a browser may keep what it has."""
    digest = hashlib.sha256()
    for name, content in assets().items():
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def asset(wanted: str, name: str) -> Response:
    """An asset; kept by the browser if it was asked for by this version."""
    content = assets().get(name)
    if content is None:
        raise HTTPException(404, "there is no such file")
    kept = FOR_EVER if wanted == version() else "no-cache"
    return Response(content, media_type=TYPES[Path(name).suffix], headers={"cache-control": kept})


@functools.cache
def _template() -> str:
    return (STATIC / DOCUMENT).read_text("utf-8")


def document(request: Request) -> Response:
    """The document. Its base is where the pages are, whatever Airflow's address is."""
    base = html.escape(request.scope.get("root_path", "") + "/")
    return HTMLResponse(_template().replace("{base}", base).replace("{version}", version()))


def please_log_in(request: Request) -> Response:
    """For people who open an address of ours without being logged in to Airflow."""
    airflow = request.scope.get("root_path", "").rpartition("/")[0]
    login = html.escape(f"{airflow}{LOGIN}?next={quote(str(request.url), safe='')}")
    head = '<!doctype html><meta charset="utf-8"><title>Air-Executor</title>'
    return HTMLResponse(f'{head}<p><a href="{login}">Log in to Airflow</a></p>', 401)
