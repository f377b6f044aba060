"""Sign a map: the same map of the same tenant always has the same token, and nobody can guess it."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping

TOKEN_CHARS = 32


def canonical(document: Mapping[str, object]) -> bytes:
    """Return *document* as compact JSON; the order of members does not matter to the result."""
    return json.dumps(_plain(document), ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode(
        "utf-8", "surrogatepass"
    )


def _plain(value: object) -> object:
    """Return *value* with whole floats as integers, as JSON does not tell 1.0 from 1."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value


def signature(document: Mapping[str, object], *, tenant: str, key: bytes) -> str:
    """Return the token of a map: 32 hexadecimal digits, an HMAC over the tenant and the canonical document."""
    name = tenant.encode()
    message = b"%d:%s:%s" % (len(name), name, canonical(document))
    return hmac.new(key, b"layergroup:" + message, hashlib.sha256).hexdigest()[:TOKEN_CHARS]
