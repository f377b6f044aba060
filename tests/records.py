"""Records and maps that tests of several kinds send."""

from __future__ import annotations

from typing import Any

from flowmaps.producer import datapoint_schema

SURVEY = 7
CREATED_MS = 1_700_000_000_000


def record(
    identifier: str, longitude: float | None = 4.9, latitude: float | None = 52.37, **more: Any
) -> dict[str, Any]:
    """Return a record of the published schema; *more* are further fields, under their names there."""
    fields: dict[str, Any] = {field["name"]: None for field in datapoint_schema()["fields"]}
    fields |= {
        "ambiguous": False,
        "createdDateTime": CREATED_MS,
        "displayName": f"Point {identifier}",
        "identifier": identifier,
        "lastSurveyalInstanceId": 1,
        "lastSurveyedDate": CREATED_MS,
        "lastUpdateDateTime": CREATED_MS,
        "latitude": latitude,
        "longitude": longitude,
        "surveyGroupId": SURVEY,
        "surveyInstanceContrib": [1],
    }
    return fields | more


def map_of(**options: Any) -> dict[str, Any]:
    """Return the replaced system's sample MapConfig, with other options where given; None takes one away."""
    layer = {
        "sql": f"select * from datapoint where survey_id='{SURVEY}'",
        "geom_column": "geom",
        "srid": 4326,
        "cartocss": "#s { marker-width: 10; marker-fill: #e00050; }",
        "cartocss_version": "2.0.0",
        "interactivity": "identifier",
    } | options
    wanted = {name: value for name, value in layer.items() if value is not None}
    return {"version": "1.5.0", "layers": [{"type": "mapnik", "options": wanted}]}
