"""Name a tenant's database and roles."""

from __future__ import annotations

import hashlib
import re
import secrets

MAX_NAME_BYTES = 63
"""PostgreSQL cuts longer names without a word."""
_PREFIX = "afm_"
_OTHER = re.compile(r"[^a-z0-9]")


def plain_name(topic: str) -> str:
    """Return ``afm_`` and the lower-cased topic with every other character as ``_``; many topics share one."""
    return _PREFIX + _OTHER.sub("_", topic.lower())


def database_names(topic: str) -> tuple[str, ...]:
    """Return the names that *topic* may have, best first.

    The plain name is given to the first topic that claims it, the name with a hash to all that come later or whose
    plain name is too long. The longer hash is for the day when two topics share the shorter.
    """
    plain = plain_name(topic)
    digest = hashlib.sha256(topic.encode("utf-8", "surrogatepass")).hexdigest()
    hashed = tuple(f"{plain[: MAX_NAME_BYTES - size - 1]}_{digest[:size]}" for size in (10, 32))
    return (plain, *hashed) if len(plain) <= MAX_NAME_BYTES else hashed


def database_name(topic: str) -> str:
    """Return the name that *topic* gets where no other topic has taken it before."""
    return database_names(topic)[0]


def new_role_name(part: str) -> str:
    """Return an unused name of a role; roles are shared by all databases of a server, so that it is random."""
    return f"{_PREFIX}{secrets.token_hex(12)}_{part}"


def new_password() -> str:
    return secrets.token_urlsafe(32)
