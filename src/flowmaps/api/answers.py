"""Turn results and errors into HTTP answers: one table of statuses, one shape of errors, JSONP, ETag."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import Response

from flowmaps.errors import (
    CallerError,
    ConfigurationError,
    FlowMapsError,
    Forbidden,
    InvalidCartoCSS,
    InvalidMapConfig,
    InvalidRamp,
    InvalidRequest,
    InvalidSQL,
    RecordError,
    RequestTooLarge,
    TemporaryError,
    TileOutOfRange,
    Unauthenticated,
    UnknownFeature,
    UnknownMap,
    UnknownRelation,
    UnknownTenant,
    UnsupportedFormat,
)
from flowmaps.mapstore import TooManyMaps, TooManyNamedMaps, UnknownNamedMap

JSON = "application/json; charset=utf-8"
JAVASCRIPT = "text/javascript; charset=utf-8"
CACHE_RENEWED = "public, max-age=3600"
"""For addresses with a cache buster: new data give the map a new address."""
CACHE_SHORT = "public, max-age=60"
_NOT_A_NAME = re.compile(r"[^A-Za-z0-9_$.\[\]]")
_log = structlog.get_logger()

STATUSES: Mapping[type[FlowMapsError], int] = {
    InvalidRequest: 400,
    InvalidMapConfig: 400,
    InvalidCartoCSS: 400,
    InvalidSQL: 400,
    UnknownRelation: 404,
    UnknownTenant: 400,
    UnknownMap: 400,
    UnknownFeature: 404,
    TileOutOfRange: 400,
    UnsupportedFormat: 400,
    RequestTooLarge: 413,
    Unauthenticated: 401,
    Forbidden: 403,
    TooManyMaps: 429,
    TooManyNamedMaps: 409,
    UnknownNamedMap: 404,
    CallerError: 400,
    TemporaryError: 503,
    RecordError: 500,
    ConfigurationError: 500,
    FlowMapsError: 500,
}
"""Error class → status; a class that is not listed has that of its nearest ancestor."""

_KINDS: Mapping[type[FlowMapsError], str] = {
    Unauthenticated: "auth",
    Forbidden: "auth",
    TooManyMaps: "limit",
    TooManyNamedMaps: "limit",
    TemporaryError: "limit",
    TileOutOfRange: "tile",
    UnsupportedFormat: "tile",
}


def status_of(error: FlowMapsError) -> int:
    if isinstance(error, UnsupportedFormat) and error.not_found:
        return 404
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def _context(error: FlowMapsError) -> dict[str, Any]:
    """Return the entry of `errors_with_context`."""
    kind = next((_KINDS[ancestor] for ancestor in type(error).__mro__ if ancestor in _KINDS), "unknown")
    context: dict[str, Any] = {"type": kind, "message": error.message}
    if isinstance(error, InvalidMapConfig):
        context["type"] = error.kind
        if error.subtype is not None:
            context["subtype"] = error.subtype
        if error.layer is not None:
            context["layer"] = {"id": error.layer_id, "index": error.layer, "type": error.layer_type}
            if isinstance(error, InvalidRamp):
                source = {"start": error.start._asdict(), "end": error.end._asdict()}
                context["layer"]["context"] = {"selector": error.selector, "source": source}
        if error.member is not None:
            context["member"] = error.member
        if error.position is not None:
            start = {"line": error.position.line, "column": error.position.column}
            context["context"] = {"source": {"start": start}}
        if isinstance(error, InvalidSQL) and error.sqlstate is not None:
            context["sqlstate"] = error.sqlstate
    elif isinstance(error, InvalidRequest | Forbidden) and error.member is not None:
        context["member"] = error.member
    return context


def error_document(error: FlowMapsError) -> dict[str, Any]:
    return {"errors": [error.message], "errors_with_context": [_context(error)]}


def error_answer(request: Request, error: FlowMapsError) -> Response:
    """Return the answer to an error, wrapped for JSONP where the request asks for it."""
    status = status_of(error)
    if status >= 500:
        _log.warning("request failed", path=request.url.path, error=type(error).__name__, detail=error.message)
    headers = {"Cache-Control": "no-store"}
    if isinstance(error, TemporaryError):
        headers["Retry-After"] = str(error.retry_after_seconds)
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    return json_answer(request, error_document(error), status=status, headers=headers)


def json_answer(
    request: Request, document: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return data_answer(request, body, status=status, headers=headers)


def data_answer(
    request: Request, body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return *body*, which is JSON, or a call of the function that the request names; then the status is 200."""
    callbacks = request.query_params.getlist("callback")
    name = _NOT_A_NAME.sub("", callbacks[0])[:128] if len(callbacks) == 1 else ""
    if not name:
        return Response(body, status, dict(headers or {}), JSON)
    body = body.replace("\u2028".encode(), rb"\u2028").replace("\u2029".encode(), rb"\u2029")
    called = f"/**/ typeof {name} === 'function' && {name}(".encode() + body + b");"
    return Response(called, 200, {**(headers or {}), "X-Content-Type-Options": "nosniff"}, JAVASCRIPT)


def with_etag(request: Request, answer: Response) -> Response:
    """Add a strong ETag; answer 304 where the client has this very body."""
    etag = f'"{hashlib.blake2b(answer.body, digest_size=12).hexdigest()}"'
    answer.headers["ETag"] = etag
    wanted = request.headers.get("if-none-match", "")
    # nginx weakens tags of bodies that it compresses.
    known = {part.strip().removeprefix("W/") for part in wanted.split(",")}
    if etag in known or "*" in known:
        headers = {name: answer.headers[name] for name in ("ETag", "Cache-Control") if name in answer.headers}
        return Response(status_code=304, headers=headers)
    return answer
