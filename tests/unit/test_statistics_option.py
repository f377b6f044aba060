"""The option metadata of a layer: what may be asked, and that other things are refused with their place."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmaps.errors import InvalidMapConfig
from flowmaps.mapconfig import parse_mapconfig
from flowmaps.mapconfig.statistics_option import ColumnStatistics, Sample, StatisticsOption, parse_statistics
from flowmaps.settings import LimitSettings


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (None, StatisticsOption()),
        ({}, StatisticsOption()),
        ({"somethingElse": 5}, StatisticsOption()),
        ({"featureCount": False, "columnStats": False, "sample": False}, StatisticsOption()),
        ({"featureCount": True, "geometryType": True}, StatisticsOption(feature_count=True, geometry_type=True)),
        ({"columns": True, "dimensions": True}, StatisticsOption(columns=True, dimensions=True)),
        ({"aggrFeatureCount": 0}, StatisticsOption(aggregated_zoom=0)),
        ({"aggrFeatureCount": 7}, StatisticsOption(aggregated_zoom=7)),
        ({"aggrFeatureCount": False}, StatisticsOption()),
        ({"columnStats": True}, StatisticsOption(column_statistics=ColumnStatistics(1024, True))),
        (
            {"columnStats": {"topCategories": 3, "includeNulls": False}},
            StatisticsOption(column_statistics=ColumnStatistics(3, False)),
        ),
        ({"sample": True}, StatisticsOption(sample=Sample(100, None))),
        (
            {"sample": {"num_rows": 5, "include_columns": ["a", "b", "a"]}},
            StatisticsOption(sample=Sample(5, ("a", "b"))),
        ),
    ],
)
def test_what_is_asked_is_read(raw: object, expected: StatisticsOption) -> None:
    assert parse_statistics(raw) == expected


@pytest.mark.parametrize(
    ("raw", "member"),
    [
        ("all", ""),
        ([], ""),
        ({"featureCount": 1}, ".featureCount"),
        ({"columns": "yes"}, ".columns"),
        ({"aggrFeatureCount": 31}, ".aggrFeatureCount"),
        ({"aggrFeatureCount": -1}, ".aggrFeatureCount"),
        ({"aggrFeatureCount": True}, ".aggrFeatureCount"),
        ({"aggrFeatureCount": "3"}, ".aggrFeatureCount"),
        ({"columnStats": 5}, ".columnStats"),
        ({"columnStats": {"topCategories": 0}}, ".columnStats.topCategories"),
        ({"columnStats": {"topCategories": 1025}}, ".columnStats.topCategories"),
        ({"columnStats": {"includeNulls": 1}}, ".columnStats.includeNulls"),
        ({"sample": "x"}, ".sample"),
        ({"sample": {"num_rows": 1001}}, ".sample.num_rows"),
        ({"sample": {"num_rows": 1.5}}, ".sample.num_rows"),
        ({"sample": {"include_columns": []}}, ".sample.include_columns"),
        ({"sample": {"include_columns": "a"}}, ".sample.include_columns"),
        ({"sample": {"include_columns": [5]}}, ".sample.include_columns"),
        ({"sample": {"include_columns": ["a"] * 65}}, ".sample.include_columns"),
    ],
)
def test_a_wrong_wish_is_refused_with_its_place(raw: object, member: str) -> None:
    layer = {"options": {"sql": "select 1", "cartocss": "#l{}", "cartocss_version": "3.0.12", "metadata": raw}}
    with pytest.raises(InvalidMapConfig) as caught:
        parse_mapconfig({"layers": [layer]}, limits=LimitSettings())
    assert caught.value.member == f"layers[0].options.metadata{member}"
    assert caught.value.layer == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    ["featureCount", "aggrFeatureCount", "geometryType", "columns", "columnStats", "dimensions", "sample"]
)
INNER = st.dictionaries(st.sampled_from(["topCategories", "includeNulls", "num_rows", "include_columns"]), JSON)


@given(st.dictionaries(NAMES, JSON | INNER, max_size=4))
def test_any_wish_is_read_or_refused(raw: dict[str, Any]) -> None:
    with contextlib.suppress(InvalidMapConfig):
        assert isinstance(parse_statistics(raw), StatisticsOption)
