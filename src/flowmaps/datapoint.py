"""Turn a decoded Avro record into a `Datapoint`.

Two generations of record are understood, in camelCase and in snake_case: the published one, whose survey is
``surveyGroupId``, and the older one with ``surveyId``. Every other field is kept in `Datapoint.properties`.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from flowmaps.errors import RecordError

MAX_IDENTIFIER_BYTES = 1024
"""Both texts that PostgreSQL keeps in a B-tree must fit one of its entries (2704 bytes), with room to spare."""
MAX_PROPERTIES_BYTES = 262_144
"""As JSON. A tile may read thousands of datapoints, so that one of a megabyte would slow its neighbours."""
MAX_DEPTH = 32

_IDENTIFIER = ("identifier",)
_SURVEY = ("surveyGroupId", "survey_group_id", "surveyId", "survey_id")
_LONGITUDE = ("longitude",)
_LATITUDE = ("latitude",)
_CREATED = ("createdDateTime", "created_date_time")
_UPDATED = ("lastUpdateDateTime", "last_update_date_time")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_AS_THEY_ARE = frozenset({str, int, bool, type(None)})
_encode = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True, slots=True)
class Datapoint:
    """One survey answer; longitude and latitude in degrees (EPSG:4326), both None where it has no location."""

    identifier: str
    survey_id: str
    created: datetime | None
    updated: datetime
    longitude: float | None
    latitude: float | None
    properties: dict[str, Any]
    properties_json: str
    """The properties as JSON text, made once: checking its size needs it, and storing it."""

    @property
    def located(self) -> bool:
        return self.longitude is not None


def parse_datapoint(record: Mapping[str, Any]) -> Datapoint:
    """Return the datapoint that *record* holds; raise `RecordError` naming the first reason why it holds none.

    A record with only one of longitude and latitude has no location. A record without a time of its last
    update counts as updated when it was created.
    """
    if not isinstance(record, Mapping):
        raise RecordError(f"a datapoint is an Avro record, not {_kind(record)}", reason="invalid-type")
    used: set[str] = set()
    identifier = _text(record, _IDENTIFIER, used, "missing-identifier")
    survey_id = _text(record, _SURVEY, used, "missing-survey")
    created = _time(record, _CREATED, used)
    updated = _time(record, _UPDATED, used) or created
    if updated is None:
        raise RecordError("the record has neither lastUpdateDateTime nor createdDateTime", reason="missing-time")
    longitude = _degrees(record, _LONGITUDE, used, 180.0)
    latitude = _degrees(record, _LATITUDE, used, 90.0)
    if longitude is None or latitude is None:
        longitude = latitude = None
    properties = {
        # Most fields are as JSON has them: a call for each would cost more than all the rest.
        str(name): value if value.__class__ in _AS_THEY_ARE else _plain(value, 0)
        for name, value in record.items()
        if name not in used
    }
    return Datapoint(
        identifier, survey_id, created, updated, longitude, latitude, properties, _checked_json(properties)
    )


def _pick(record: Mapping[str, Any], names: Iterable[str], used: set[str]) -> tuple[str, Any]:
    """Return the first of *names* with a value; all of a field's spellings that are null count as used."""
    found: tuple[str, Any] = ("", None)
    for name in names:
        if name not in record:
            continue
        value = record[name]
        if value is None:
            used.add(name)
        elif not found[0]:
            used.add(name)
            found = (name, value)
    return found


def _text(record: Mapping[str, Any], names: tuple[str, ...], used: set[str], missing: str) -> str:
    name, value = _pick(record, names, used)
    if value is None:
        raise RecordError(f"the record has no {names[0]}", reason=missing)
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise RecordError(f"{name} is {_kind(value)}, not a text or an integer", reason="invalid-type")
    if isinstance(value, str):
        _check_text(value, name)
    text = str(value)
    if len(text) > MAX_IDENTIFIER_BYTES or len(text.encode()) > MAX_IDENTIFIER_BYTES:
        raise RecordError(f"{name} is longer than {MAX_IDENTIFIER_BYTES} bytes", reason="too-large")
    return text


def _time(record: Mapping[str, Any], names: tuple[str, ...], used: set[str]) -> datetime | None:
    """Return milliseconds since 1970, or what fastavro made of a timestamp type, as a time in UTC."""
    name, value = _pick(record, names, used)
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if isinstance(value, bool) or not isinstance(value, int):
        raise RecordError(f"{name} is {_kind(value)}, not milliseconds since 1970", reason="invalid-type")
    try:
        return _EPOCH + timedelta(milliseconds=value)
    except OverflowError:
        raise RecordError(f"{name} {value} is no time of the years 1 to 9999", reason="invalid-time") from None


def _degrees(record: Mapping[str, Any], names: tuple[str, ...], used: set[str], limit: float) -> float | None:
    name, value = _pick(record, names, used)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RecordError(f"{name} is {_kind(value)}, not a number", reason="invalid-type")
    # Not written as two comparisons of which NaN fails none.
    if not -limit <= value <= limit:
        raise RecordError(f"{name} {value} is not within ±{limit:g} degrees", reason="invalid-coordinates")
    return float(value)


def _plain(value: Any, depth: int) -> Any:
    """Return *value* as JSON can hold it: times as ISO 8601, bytes as base64, decimals as text, NaN as null."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth >= MAX_DEPTH:
        raise RecordError(f"a field is nested more than {MAX_DEPTH} levels deep", reason="too-large")
    if isinstance(value, Mapping):
        return {str(name): _plain(item, depth + 1) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (Decimal, UUID)):
        return str(value)
    raise RecordError(f"a field is {_kind(value)}, which has no JSON form", reason="invalid-type")


def _checked_json(properties: dict[str, Any]) -> str:
    try:
        text = _encode(properties)
        size = len(text.encode())
    except UnicodeEncodeError:
        raise RecordError("a field's text is no valid Unicode", reason="invalid-text") from None
    except ValueError as error:
        raise RecordError(f"a field has no JSON form: {error}", reason="too-large") from None
    if size > MAX_PROPERTIES_BYTES:
        raise RecordError(f"the other fields take {size} bytes of at most {MAX_PROPERTIES_BYTES}", reason="too-large")
    # JSON writes the character as an escape, and a text that spells the escape has its backslash doubled.
    if "\\u0000" in text and _has_nul(properties):
        raise RecordError("a field's text has the character NUL, which PostgreSQL cannot hold", reason="nul-character")
    return text


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any("\0" in name or _has_nul(item) for name, item in value.items())
    return isinstance(value, list) and any(map(_has_nul, value))


def _check_text(text: str, name: str) -> None:
    if "\0" in text:
        raise RecordError(f"{name} has the character NUL, which PostgreSQL cannot hold", reason="nul-character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RecordError(f"{name} is no valid Unicode", reason="invalid-text") from None


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"
