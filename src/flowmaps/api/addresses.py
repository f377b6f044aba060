"""Our own address, as clients see it."""

from __future__ import annotations

import re

from starlette.requests import Request

from flowmaps.settings import ServeSettings

_HOST = re.compile(r"[A-Za-z0-9.\-_]{1,253}(?::[0-9]{1,5})?|\[[0-9a-fA-F:.]{2,45}\](?::[0-9]{1,5})?")


def public_base(request: Request, settings: ServeSettings) -> str:
    """Return the address that tiles are under, without a slash at its end; relative where the request names no host."""
    if settings.public_url:
        return settings.public_url.rstrip("/")
    host = request.headers.get("host", "")
    if not _HOST.fullmatch(host):
        return ""
    scheme = request.headers.get("x-forwarded-proto", request.url.scheme)
    return f"{'https' if scheme == 'https' else 'http'}://{host}"
