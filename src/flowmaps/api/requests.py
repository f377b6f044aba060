"""Read what a request brings: its body, as JSON, within limits."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from flowmaps.errors import InvalidRequest, RequestTooLarge


async def read_json(request: Request, *, most_bytes: int) -> Any:
    """Return the body as decoded JSON; raise `InvalidRequest` or `RequestTooLarge`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise InvalidRequest("POST data must be of type application/json", member="Content-Type")
    body = await _read(request, most_bytes)
    try:
        return json.loads(body, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InvalidRequest(f"SyntaxError: the body is not JSON: {reason}", member="body") from error


async def _read(request: Request, most_bytes: int) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > most_bytes:
        raise RequestTooLarge(f"the body has {declared} bytes, the limit is {most_bytes}")
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > most_bytes:
                raise RequestTooLarge(f"the body has more than {most_bytes} bytes")
            parts.append(part)
    except ClientDisconnect as error:
        raise InvalidRequest("the client went away") from error
    return b"".join(parts)


def refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def parse_aggregation_param(text: str | None) -> bool | None:
    """Return the query parameter ``aggregation``; raise `InvalidRequest`."""
    if text in (None, "true", "false"):
        return None if text is None else text == "true"
    message = f"Invalid value for 'aggregation' query param: {text[:40]}. Valid ones are 'true' or 'false'"
    raise InvalidRequest(message, member="aggregation")
