"""The option ``metadata`` of a mapnik layer: what creation is to tell of the layer's data. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowmaps.errors import InvalidMapConfig

DEFAULT_CATEGORIES = 1024
DEFAULT_SAMPLE_ROWS = 100
MOST_SAMPLE_ROWS = 1000
MOST_SAMPLE_COLUMNS = 64
DEEPEST_ZOOM = 30


@dataclass(frozen=True, slots=True)
class ColumnStatistics:
    """How the values of columns are told: the most frequent *top_categories* of each text column."""

    top_categories: int = DEFAULT_CATEGORIES
    include_nulls: bool = True


@dataclass(frozen=True, slots=True)
class Sample:
    """Some rows; *columns* None is all of them."""

    rows: int = DEFAULT_SAMPLE_ROWS
    columns: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class StatisticsOption:
    """What is told beside the estimated number of rows; *aggregated_zoom* is where aggregated points are counted."""

    feature_count: bool = False
    aggregated_zoom: int | None = None
    geometry_type: bool = False
    columns: bool = False
    column_statistics: ColumnStatistics | None = None
    dimensions: bool = False
    sample: Sample | None = None


def parse_statistics(raw: object) -> StatisticsOption:
    """Return what the option asks for; members that mean nothing are ignored, as by the first servers.

    Raise `InvalidMapConfig` whose *member* is the path inside the option.
    """
    if raw is None:
        return StatisticsOption()
    if not isinstance(raw, Mapping):
        raise InvalidMapConfig("The option metadata must be an object", member="")
    return StatisticsOption(
        feature_count=_flag(raw, "featureCount"),
        aggregated_zoom=_whole(raw, "aggrFeatureCount", 0, DEEPEST_ZOOM) if raw.get("aggrFeatureCount") else _zero(raw),
        geometry_type=_flag(raw, "geometryType"),
        columns=_flag(raw, "columns"),
        column_statistics=_column_statistics(raw.get("columnStats")),
        dimensions=_flag(raw, "dimensions"),
        sample=_sample(raw.get("sample")),
    )


def _zero(raw: Mapping[str, Any]) -> int | None:
    """Return 0 for the zoom 0, which is not the same as nothing."""
    value = raw.get("aggrFeatureCount")
    return 0 if value == 0 and not isinstance(value, bool) else None


def _flag(raw: Mapping[str, Any], name: str) -> bool:
    value = raw.get(name)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise InvalidMapConfig(f"The option metadata.{name} must be true or false", member=name)


def _whole(raw: Mapping[str, Any], path: str, least: int, most: int) -> int:
    value = raw.get(path.rpartition(".")[2])
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        text = f"The option metadata.{path} must be a whole number from {least} to {most}"
        raise InvalidMapConfig(text, member=path)
    return value


def _column_statistics(raw: object) -> ColumnStatistics | None:
    if raw is None or isinstance(raw, bool):
        return ColumnStatistics() if raw else None
    if not isinstance(raw, Mapping):
        raise InvalidMapConfig("The option metadata.columnStats must be an object or a boolean", member="columnStats")
    nulls = raw.get("includeNulls", True)
    if not isinstance(nulls, bool):
        text = "The option metadata.columnStats.includeNulls must be true or false"
        raise InvalidMapConfig(text, member="columnStats.includeNulls")
    top = DEFAULT_CATEGORIES
    if raw.get("topCategories") is not None:
        top = _whole(raw, "columnStats.topCategories", 1, DEFAULT_CATEGORIES)
    return ColumnStatistics(top, nulls)


def _sample(raw: object) -> Sample | None:
    if raw is None or isinstance(raw, bool):
        return Sample() if raw else None
    if not isinstance(raw, Mapping):
        raise InvalidMapConfig("The option metadata.sample must be an object or a boolean", member="sample")
    rows = DEFAULT_SAMPLE_ROWS
    if raw.get("num_rows") is not None:
        rows = _whole(raw, "sample.num_rows", 1, MOST_SAMPLE_ROWS)
    columns = raw.get("include_columns")
    if columns is None:
        return Sample(rows)
    if (
        not isinstance(columns, list)
        or not 0 < len(columns) <= MOST_SAMPLE_COLUMNS
        or not all(isinstance(name, str) and name for name in columns)
    ):
        text = f"The option metadata.sample.include_columns must be a list of 1 to {MOST_SAMPLE_COLUMNS} columns"
        raise InvalidMapConfig(text, member="sample.include_columns")
    return Sample(rows, tuple(dict.fromkeys(columns)))
