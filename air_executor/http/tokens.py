"""Tokens for the HTTP API, one file each: `<home>/http/tokens/<id>.json`.

A token is shown once, as `ax_<id>_<secret>`. The file has a hash of the secret; the secret is 32 random bytes, so
nobody can guess it from a hash that is quick to compute. When a token was last used is the modification time of a file
beside it, so that whoever notes that never writes back a token that was revoked meanwhile.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

from air_executor import _files, model
from air_executor.errors import CorruptFileError, InvalidInputError, NotFoundError
from air_executor.paths import Home

PREFIX = "ax"
MAX_NAME = 100
MAX_AGE = 10 * 365 * 86_400.0
USE_NOTED_EVERY = 60.0
_TOKEN = re.compile(r"ax_([0-9a-f]{12})_([0-9a-f]{64})\Z")
_ID_LENGTH = 12
_ID = re.compile(r"[0-9a-f]{12}\Z")
_KEYS = frozenset({"id", "name", "digest", "scopes", "created_at", "by", "expires_at", "revoked_at", "revoked_by"})


class Scope(str, enum.Enum):
    """What a token may be used for."""

    READ = "read"
    """See runs, their tasks, results and logs; pipelines; queues."""
    SUBMIT = "submit"
    """Create runs, start them anew, add tasks to them."""
    CANCEL = "cancel"
    """Stop runs."""
    ADMIN = "admin"
    """All of this, and pause and resume queues."""

    __str__ = str.__str__


class Standing(enum.Enum):
    """Whether a token counts."""

    VALID = "valid"
    EXPIRED = "has expired"
    REVOKED = "was revoked"


@dataclass(frozen=True)
class Token:
    """What is known of a token; not its secret."""

    id: str
    name: str
    digest: str
    """SHA-256 of the secret, in hexadecimal."""
    scopes: tuple[str, ...]
    created_at: str
    by: str
    expires_at: str | None = None
    revoked_at: str | None = None
    revoked_by: str | None = None

    @property
    def user(self) -> str:
        """Who did what was done with it."""
        return f"token {self.name} ({self.id})"

    def allows(self, scope: Scope) -> bool:
        """Whether it may be used for this, as long as it is valid."""
        return scope.value in self.scopes or Scope.ADMIN.value in self.scopes

    def standing(self, now: float) -> Standing:
        """Whether it counts at a time, given in seconds since the epoch."""
        if self.revoked_at is not None:
            return Standing.REVOKED
        if self.expires_at is not None and model.parse_time(self.expires_at).timestamp() <= now:
            return Standing.EXPIRED
        return Standing.VALID


# --- The text that people see ---


def parse(text: str) -> tuple[str, str] | None:
    """Id and secret of what may be a token; None if it cannot be one."""
    found = _TOKEN.match(text)
    return (found[1], found[2]) if found else None


def matches(token: Token, secret: str) -> bool:
    """Whether it is the token's secret; takes the same time whatever is wrong with it."""
    return hmac.compare_digest(token.digest, _digest(secret))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


# --- Files ---


def create(
    home: Home, name: str, scopes: Sequence[str], *, by: str, lifetime: float | None = None
) -> tuple[Token, str]:
    """A new token, and what its user needs, which is never shown again.

    Args:
        lifetime: seconds after which it counts no more; None: it counts until it is revoked.

    Raises:
        InvalidInputError: the name, a scope or the time.
        OSError: the home refused.
    """
    _check(name, scopes, lifetime)
    secret, now = secrets.token_hex(32), time.time()
    expires_at = None if lifetime is None else model.from_timestamp(now + lifetime)
    wanted = tuple(scope.value for scope in Scope if scope.value in scopes)
    token = Token(secrets.token_hex(6), name, _digest(secret), wanted, model.from_timestamp(now), by, expires_at)
    for directory in (home.http, home.http_tokens):
        _files.make_directory(directory)
    _files.replace_object(home.http_token(token.id), asdict(token), durable=True)
    return token, f"{PREFIX}_{token.id}_{secret}"


def _check(name: str, scopes: Sequence[str], lifetime: float | None) -> None:
    if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise InvalidInputError(
            f"the name of a token is 1 to {MAX_NAME} characters that can be printed, not {name!r:.80}"
        )
    known = [scope.value for scope in Scope]
    if unknown := [scope for scope in scopes if scope not in known]:
        raise InvalidInputError(f"{unknown[0]!r:.60} is no scope; scopes are {', '.join(known)}")
    if not scopes:
        raise InvalidInputError(f"a token needs at least one scope: {', '.join(known)}")
    if lifetime is not None and not 0 < lifetime <= MAX_AGE:
        raise InvalidInputError(
            "a token expires after more than 0 seconds and at most 10 years; leave it out for never"
        )


def read(home: Home, token_id: str) -> Token:
    """A token.

    Raises:
        NotFoundError: there is none of that id.
        CorruptFileError: its file is damaged; nobody is let in with it.
    """
    path = home.http_token(token_id)
    try:
        if not _ID.match(token_id):
            raise FileNotFoundError
        content = _files.read_object(path)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(
            f"there is no token {_shown(token_id)!r} in {home.root}; list them with: air-executor token list"
        ) from None
    token = _from_content(content)
    if token is None or token.id != token_id:
        raise CorruptFileError(path, "is not what a token's file is; remove it and create another token")
    return token


def _shown(token_id: str) -> str:
    """What should be an id, for a message: it may be a secret."""
    return token_id if len(token_id) <= _ID_LENGTH else f"{token_id[:4]}..."


def _from_content(content: dict[str, object]) -> Token | None:
    """None unless every value is what it should be."""
    known = {key: value for key, value in content.items() if key in _KEYS}
    scopes = known.pop("scopes", None)
    if not isinstance(scopes, list) or not all(
        isinstance(each, (str, type(None))) for each in [*scopes, *known.values()]
    ):
        return None
    try:
        token = Token(**known, scopes=tuple(scopes))  # type: ignore[arg-type]
        token.standing(0.0)
    except (TypeError, ValueError):
        return None
    texts = (token.id, token.name, token.digest, token.created_at, token.by, *token.scopes)
    return token if all(isinstance(each, str) for each in texts) else None


def revoke(home: Home, token_id: str, *, by: str) -> Token:
    """Let a token count no more; raises as `read`. One that was revoked before stays as it is."""
    token = read(home, token_id)
    if token.revoked_at is None:
        token = replace(token, revoked_at=model.now(), revoked_by=by)
        _files.replace_object(home.http_token(token_id), asdict(token), durable=True)
    return token


def all_tokens(home: Home) -> list[Token | CorruptFileError]:
    """Those of a home, the oldest first; in the place of one whose file is damaged, what is wrong with it."""
    found: list[Token | CorruptFileError] = []
    for token_id in _ids(home):
        try:
            found.append(read(home, token_id))
        except NotFoundError:
            continue
        except CorruptFileError as error:
            found.append(error)
    return sorted(found, key=lambda each: each.created_at if isinstance(each, Token) else "")


def _ids(home: Home) -> Iterable[str]:
    try:
        return [path.stem for path in home.http_tokens.iterdir() if path.suffix == ".json" and _ID.match(path.stem)]
    except (FileNotFoundError, NotADirectoryError):
        return []


# --- When it was last used ---


def last_used(home: Home, token_id: str) -> float | None:
    """Seconds since the epoch, a minute too early at most; None if it never was."""
    try:
        return home.http_token_use(token_id).stat().st_mtime
    except OSError:
        return None


def note_use(home: Home, token_id: str) -> None:
    """Note that it is used now. Where that cannot be noted, it is used all the same."""
    with contextlib.suppress(OSError):
        home.http_token_use(token_id).touch(_files.PRIVATE_FILE)
