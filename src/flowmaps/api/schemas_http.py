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
                    "sqlstate": {"type": "string"},
                    "layer": {"type": "object"},
                    "context": {"type": "object"},
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
_CLUSTER: dict[str, Any] = {
    "type": "object",
    "required": ["rows", "fields", "truncated"],
    "properties": {
        "rows": {"type": "array", "items": {"type": "object"}},
        "fields": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "dataTypeID"],
                "properties": {"name": {"type": "string"}, "dataTypeID": {"type": "integer"}},
            },
        },
        "truncated": {"type": "boolean", "description": "Whether there are more rows."},
    },
}
_DESCRIPTIONS = {
    400: "The request is wrong; the message says what and where.",
    401: "No valid token.",
    403: "The token lacks the role.",
    404: "There is no such thing.",
    409: "The tenant has too many named maps.",
    413: "The body is too large.",
    429: "The tenant has too many maps.",
    503: "Try again after the time in Retry-After.",
}
SECURED: dict[str, Any] = {"security": [{"bearer": []}]}
CREATE_MAP: dict[str, Any] = {
    **SECURED,
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


TEMPLATE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["version", "name", "layergroup"],
                    "properties": {
                        "version": {"const": "0.0.1"},
                        "name": {"type": "string"},
                        "auth": {"type": "object"},
                        "placeholders": {"type": "object"},
                        "layergroup": {"type": "object", "description": "MapConfig with placeholders."},
                        "view": {"type": "object"},
                    },
                }
            }
        },
    }
}
PARAMETERS_BODY: dict[str, Any] = {
    "requestBody": {
        "required": False,
        "content": {"application/json": {"schema": {"type": "object", "description": "Values by placeholder."}}},
    }
}
_NAMED: dict[str, Any] = {
    "id": {"type": "object", "required": ["template_id"], "properties": {"template_id": {"type": "string"}}},
    "list": {
        "type": "object",
        "required": ["template_ids"],
        "properties": {"template_ids": {"type": "array", "items": {"type": "string"}}},
    },
    "template": {"type": "object", "required": ["template"], "properties": {"template": {"type": "object"}}},
}


def named_answers(kind: str, *statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the description of the answers about templates."""
    return {**answers(*statuses), 200: {"description": "Done.", "content": _json(_NAMED[kind])}}


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the description of the answers with these statuses; by JSONP every one of them is a script."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        if status == 200:
            found[status] = {"description": "Done.", "content": _json(_CREATED)}
        else:
            found[status] = {"description": _DESCRIPTIONS[status], "content": _json(_ERRORS)}
    return found


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}, "text/javascript": {"schema": {"type": "string"}}}


def _with_200(kinds: tuple[str, ...], description: str) -> dict[int | str, dict[str, Any]]:
    found = answers(400, 403, 404, 503)
    found[200] = {"description": description, "content": {kind: {} for kind in (*kinds, "text/javascript")}}
    found[304] = {"description": "The client has this very answer already."}
    return found


def tile_answers() -> dict[int | str, dict[str, Any]]:
    """Return the description of the answers to a tile's address."""
    kinds = ("image/png", "image/jpeg", "image/webp", "application/json", "application/x-protobuf")
    found = _with_200(kinds, "The tile.")
    found[204] = {"description": "A vector tile without features."}
    return found


def image_answers() -> dict[int | str, dict[str, Any]]:
    return _with_200(("image/png", "image/jpeg", "image/webp"), "The image.")


def attribute_answers() -> dict[int | str, dict[str, Any]]:
    return _with_200(("application/json",), "The feature's attributes.")


def cluster_answers() -> dict[int | str, dict[str, Any]]:
    found = _with_200(("application/json",), "The rows.")
    found[200]["content"]["application/json"] = {"schema": _CLUSTER}
    return found


def tilejson_answers() -> dict[int | str, dict[str, Any]]:
    return _with_200(("application/json",), "TileJSON 3.0.")
