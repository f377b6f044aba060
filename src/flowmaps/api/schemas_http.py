"""What the OpenAPI description says of bodies and answers."""

from __future__ import annotations

from typing import Any

_ERRORS: dict[str, Any] = {
    "type": "object",
    "required": ["errors", "errors_with_context"],
    "properties": {
        "errors": {"type": "array", "items": {"type": "string"}},
        "errors_with_context": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "message"],
                "properties": {
                    "type": {"type": "string"},
                    "subtype": {"type": "string"},
                    "message": {"type": "string"},
                    "member": {"type": "string"},
                    "layer": {"type": "object"},
                },
            },
        },
    },
}
_CREATED: dict[str, Any] = {
    "type": "object",
    "required": ["layergroupid", "metadata", "last_updated"],
    "properties": {
        "layergroupid": {"type": "string"},
        "metadata": {
            "type": "object",
            "required": ["layers"],
            "properties": {
                "layers": {"type": "array", "items": {"type": "object"}},
                "bounds": {"type": ["array", "null"], "items": {"type": "number"}},
            },
        },
        "last_updated": {"type": "string", "format": "date-time"},
    },
}
_DESCRIPTIONS = {
    400: "The request is wrong; the message says what and where.",
    401: "No valid token.",
    403: "The token lacks the role.",
    404: "There is no such thing.",
    413: "The body is too large.",
    429: "The tenant has too many maps.",
    503: "Try again after the time in Retry-After.",
}
CREATE_MAP: dict[str, Any] = {
    "security": [{"bearer": []}],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["topic", "map"],
                    "properties": {
                        "topic": {"type": "string", "description": "Kafka topic, which is the tenant."},
                        "map": {"type": "object", "description": "MapConfig, versions 1.0.0 to 1.8.0."},
                    },
                }
            }
        },
    },
}


def answers(*statuses: int, media_type: str = "application/json") -> dict[int | str, dict[str, Any]]:
    """Return the description of the answers with these statuses."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        if status == 200:
            found[status] = {"description": "Done.", "content": {media_type: {"schema": _CREATED}}}
        else:
            found[status] = {
                "description": _DESCRIPTIONS[status],
                "content": {"application/json": {"schema": _ERRORS}},
            }
    return found


def tile_answers() -> dict[int | str, dict[str, Any]]:
    """Return the description of the answers to a tile's address."""
    kinds = ("image/png", "application/json", "text/javascript", "application/x-protobuf")
    found = answers(400, 403, 404, 503)
    found[200] = {"description": "The tile.", "content": {kind: {} for kind in kinds}}
    found[204] = {"description": "A vector tile without features."}
    found[304] = {"description": "The client has this tile already."}
    return found
