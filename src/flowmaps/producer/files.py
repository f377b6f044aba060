"""Read datapoints from a file, CSV, GeoJSON or JSON lines, as records of the published schema.

What the schema requires and the file lacks gets a plain default; every other column or property becomes an optional
field of its own. The file is read twice: once to check every record and to find the fields' types, once to write.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from flowmaps.datapoint import parse_datapoint
from flowmaps.errors import InvalidRequest, RecordError
from flowmaps.producer.avro import datapoint_schema

FileFormat = Literal["csv", "geojson", "jsonl"]
_SUFFIXES: Mapping[str, FileFormat] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".geojson": "geojson",
    ".json": "geojson",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".geojsonl": "jsonl",
}
_MAX_LONG = 2**63
_OTHER = re.compile(r"[^A-Za-z0-9_]")
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})")
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_NAMES: Mapping[str, tuple[str, ...]] = {
    "identifier": ("identifier", "id"),
    "surveyGroupId": ("surveyGroupId", "survey_group_id", "surveyId", "survey_id"),
    "latitude": ("latitude", "lat", "y"),
    "longitude": ("longitude", "lon", "lng", "long", "x"),
    "createdDateTime": ("createdDateTime", "created_date_time"),
    "lastUpdateDateTime": ("lastUpdateDateTime", "last_update_date_time"),
}
"""Spellings of the fields that every record has; the first that the file has is taken."""
_TIMES = ("createdDateTime", "lastUpdateDateTime", "lastSurveyedDate")


@dataclass(frozen=True, slots=True)
class FileRecords:
    """A checked file: how many records, the Avro schema that they fit, and the records themselves, read anew."""

    count: int
    schema: dict[str, Any]
    _source: _Source
    _fields: Mapping[str, str]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        types = {field["name"]: field["type"] for field in self.schema["fields"]}
        for number, item in self._source.items():
            record = self._source.record(number, item)
            extras = {name: record.pop(name) for name in list(record) if name in self._fields}
            for name, value in extras.items():
                field = self._fields[name]
                record[field] = _as_type(value, types[field][1])
            yield record


def read_file(
    path: Path, file_format: FileFormat | None = None, *, survey: int | None = None, now_ms: int | None = None
) -> FileRecords:
    """Return the file's records; *survey* and the time *now_ms* stand where a record names none.

    Raise `InvalidRequest` for a file of another form, `RecordError` naming the record that cannot be a datapoint.
    """
    known = file_format or _SUFFIXES.get(path.suffix.lower())
    if known is None:
        raise InvalidRequest(f"{path.name}: name the format, as the suffix {path.suffix!r} does not", member="format")
    now = now_ms if now_ms is not None else round(datetime.now(UTC).timestamp() * 1000)
    schema = datapoint_schema()
    published = {field["name"]: field["type"] for field in schema["fields"]}
    source = _Source(path, known, survey, now, published)
    kinds: dict[str, set[str]] = {}
    count = 0
    for number, item in source.items():
        count += 1
        record = source.record(number, item)
        try:
            parse_datapoint(record)
        except RecordError as error:
            raise RecordError(f"{path.name}, record {number}: {error.message}", reason=error.reason) from error
        for name, value in record.items():
            if name not in published:
                kinds.setdefault(name, set()).add(_kind(value))
    fields = _field_names(kinds, published)
    schema["fields"] = [
        *schema["fields"],
        *(
            {"name": fields[name], "type": ["null", _type_of(kinds[name])], "default": None, "doc": name}
            for name in kinds
        ),
    ]
    return FileRecords(count, schema, source, fields)


@dataclass(frozen=True, slots=True)
class _Source:
    path: Path
    file_format: FileFormat
    survey: int | None
    now_ms: int
    published: Mapping[str, Any]

    def items(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yield the number of each record, from 1, and what the file says."""
        with _readable(self.path):
            if self.file_format == "csv":
                yield from _csv_items(self.path)
            elif self.file_format == "geojson":
                yield from _geojson_items(self.path)
            else:
                yield from _json_lines(self.path)

    def record(self, number: int, item: Mapping[str, Any]) -> dict[str, Any]:
        """Return *item* with the names and types of the published schema, and its other fields as they are."""
        left = dict(item)
        record: dict[str, Any] = {}
        for field, names in _NAMES.items():
            record[field] = next((left[name] for name in names if left.get(name) is not None), None)
            taken = next((name for name in names if left.get(name) is not None), field)
            left.pop(taken, None)
            left.pop(field, None)
        if record["identifier"] is None:
            raise RecordError(f"{self.path.name}, record {number}: no identifier or id", reason="missing-identifier")
        record["identifier"] = str(record["identifier"])
        record |= {name: left.pop(name, None) for name in self.published if name not in record}
        self._fill(number, record)
        return record | left

    def _fill(self, number: int, record: dict[str, Any]) -> None:
        try:
            for field in ("latitude", "longitude"):
                record[field] = None if record[field] is None else float(record[field])
            for field in _TIMES:
                record[field] = _milliseconds(record[field])
            survey = record["surveyGroupId"] if record["surveyGroupId"] is not None else self.survey
            if survey is None:
                raise RecordError(
                    f"{self.path.name}, record {number}: no surveyGroupId, and no other is given",
                    reason="missing-survey",
                )
            record["surveyGroupId"] = int(survey)
        except (ValueError, TypeError, OverflowError) as error:
            raise RecordError(f"{self.path.name}, record {number}: {error}", reason="invalid-type") from error
        created = record["createdDateTime"]
        if record["lastUpdateDateTime"] is None:
            record["lastUpdateDateTime"] = created if created is not None else self.now_ms
        if created is None:
            record["createdDateTime"] = record["lastUpdateDateTime"]
        if record["lastSurveyedDate"] is None:
            record["lastSurveyedDate"] = record["lastUpdateDateTime"]
        for field, value in (("ambiguous", False), ("lastSurveyalInstanceId", 0), ("surveyInstanceContrib", [])):
            if record[field] is None:
                record[field] = value
        if isinstance(record["ambiguous"], str):
            record["ambiguous"] = record["ambiguous"].lower() == "true"


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path.name} is not UTF-8: {error}") from error
    except csv.Error as error:
        raise InvalidRequest(f"{path.name} is no CSV: {error}") from error


def _csv_items(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        head = file.readline()
        file.seek(0)
        delimiter = max(",;\t", key=head.count)
        rows = csv.DictReader(file, delimiter=delimiter, strict=True)
        for number, row in enumerate(rows, 1):
            if None in row:
                raise RecordError(f"{path.name}, record {number}: more cells than columns", reason="invalid-type")
            yield number, {name.strip(): _cell(value) for name, value in row.items()}


def _cell(text: str | None) -> Any:
    """Return what a cell holds; a number only where it is written as one, so that 007 stays a text."""
    if text is None or not text.strip():
        return None
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text):
        return float(text)
    return text


def _geojson_items(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        try:
            document = json.load(file)
        except ValueError as error:
            raise InvalidRequest(f"{path.name} is no JSON: {error}") from error
    kind = document.get("type") if isinstance(document, dict) else None
    features = document.get("features") if kind == "FeatureCollection" else [document] if kind == "Feature" else None
    if not isinstance(features, list):
        raise InvalidRequest(f"{path.name} is no GeoJSON FeatureCollection")
    for number, feature in enumerate(features, 1):
        yield number, _feature(feature, f"{path.name}, record {number}")


def _feature(feature: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(feature, dict) or feature.get("type") != "Feature":
        raise RecordError(f"{where}: no GeoJSON Feature", reason="invalid-type")
    properties = feature.get("properties") or {}
    geometry = feature.get("geometry")
    if not isinstance(properties, dict):
        raise RecordError(f"{where}: properties are no object", reason="invalid-type")
    item = dict(properties)
    if "id" in feature:
        item.setdefault("identifier", feature["id"])
    if geometry is None:
        return item
    position = geometry.get("coordinates") if isinstance(geometry, dict) and geometry.get("type") == "Point" else None
    if not isinstance(position, list) or len(position) < 2:
        raise RecordError(f"{where}: the geometry is no Point", reason="invalid-coordinates")
    return {**item, "longitude": position[0], "latitude": position[1]}


def _json_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{path.name}, record {number}"
            try:
                item = json.loads(line)
            except ValueError as error:
                raise RecordError(f"{where}: no JSON: {error}", reason="invalid-type") from error
            if not isinstance(item, dict):
                raise RecordError(f"{where}: not an object", reason="invalid-type")
            yield number, _feature(item, where) if item.get("type") == "Feature" else item


def _milliseconds(value: Any) -> int | None:
    """Return milliseconds since 1970 of a number that is one, or of a time in ISO 8601, UTC where it names no zone."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no time")
    time = datetime.fromisoformat(value)
    return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "long" if -_MAX_LONG <= value < _MAX_LONG else "string"
    return "double" if isinstance(value, float) else "string"


def _type_of(kinds: set[str]) -> str:
    left = kinds - {"null"}
    if left == {"long", "double"}:
        return "double"
    return left.pop() if len(left) == 1 else "string"


def _as_type(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind == "double":
        return float(value)
    if kind == "string" and not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return value


def _field_names(names: Iterable[str], published: Iterable[str]) -> dict[str, str]:
    """Return a name that Avro allows for each of *names*, and no two the same."""
    used = set(published)
    fields = {}
    for name in names:
        plain = _OTHER.sub("_", name) or "_"
        if plain[0].isdigit():
            plain = f"_{plain}"
        field, number = plain, 1
        while field in used:
            number += 1
            field = f"{plain}_{number}"
        used.add(field)
        fields[name] = field
    return fields
