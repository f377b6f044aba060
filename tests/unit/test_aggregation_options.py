"""The option aggregation: what it may say, and that names and values in it stay names and values."""

from __future__ import annotations

import contextlib
from typing import Any

import postgast
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmaps.errors import InvalidMapConfig
from flowmaps.mapconfig import parse_mapconfig
from flowmaps.maps.resolved import Resolved, ResolvedLayer
from flowmaps.mapsql import TokenValues, substitute_tokens
from flowmaps.mapsql.aggregation import Aggregation, aggregated_sql, parse_aggregation
from flowmaps.mapsql.quoting import quoted_name, quoted_text
from flowmaps.settings import LimitSettings
from flowmaps.tile import TileCoord

SUM = {"aggregate_function": "sum", "aggregated_column": "value"}
VALUES = TokenValues.of_tile(TileCoord(3, 2, 1), srid=3857, buffer_px=16)


def statement(option: dict[str, Any], columns: tuple[str, ...] = ("geom", "value")) -> str:
    aggregation = parse_aggregation(option)
    assert aggregation is not None
    sql = aggregated_sql("select * from samples", aggregation, geom_column="geom", columns=columns)
    return substitute_tokens(sql, VALUES)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (False, None),
        (True, Aggregation()),
        (None, Aggregation()),
        ({}, Aggregation()),
        ({"threshold": 5, "resolution": 0.25}, Aggregation(threshold=5, resolution=0.25)),
        ({"placement": "centroid"}, Aggregation(placement="centroid")),
        ({"columns": {}}, Aggregation(placement="point-sample")),
        ({"dimensions": {}, "filters": {}}, Aggregation()),
    ],
)
def test_what_is_left_out_has_the_documented_default(raw: object, expected: Aggregation | None) -> None:
    assert parse_aggregation(raw) == expected


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("yes", "must be an object or a boolean"),
        (7, "must be an object or a boolean"),
        ({"resolution": 0}, "Invalid resolution, should be a number greather than 0"),
        ({"resolution": -1}, "Invalid resolution, should be a number greather than 0"),
        ({"resolution": "2"}, "Invalid resolution, should be a number greather than 0"),
        ({"resolution": True}, "Invalid resolution, should be a number greather than 0"),
        ({"resolution": float("inf")}, "Invalid resolution, should be a number greather than 0"),
        ({"threshold": 0}, "Invalid threshold, should be a number greather than 0"),
        ({"placement": "anywhere"}, "Invalid placement. Valid values: centroid, point-grid, point-sample"),
        ({"placement": ["centroid"]}, "Invalid placement"),
        ({"columns": []}, "aggregation.columns must be an object"),
        ({"columns": {"": SUM}}, "Invalid column name, should be a non empty string"),
        ({"columns": {"x" * 64: SUM}}, "must have 1 to 63 bytes"),
        ({"columns": {"a\0b": SUM}}, "Invalid column name"),
        ({"columns": {"_cdb_feature_count": SUM}}, "it is always present in the result"),
        ({"columns": {"the_geom_webmercator": SUM}}, "it is always present in the result"),
        ({"columns": {"a": {"aggregate_function": "median", "aggregated_column": "v"}}}, "Unsupported aggregation function median, valid ones: count, avg, sum, min, max, mode"),
        ({"columns": {"a": {"aggregate_function": ["sum"], "aggregated_column": "v"}}}, "Unsupported aggregation function"),
        ({"columns": {"a": {"aggregate_function": "sum"}}}, "Invalid aggregated column, should be a non empty string"),
        ({"columns": {"a": {"aggregate_function": "sum", "aggregated_column": 7}}}, "Invalid aggregated column"),
        ({"columns": {"a": {"aggregate_function": "sum", "aggregated_column": "*"}}}, "sum needs the name of one"),
        ({"columns": {"a": 7}}, "Invalid aggregated column"),
        ({"columns": {f"c{n}": SUM for n in range(65)}}, "has 65 names, the limit is 64"),
        ({"dimensions": {"a": 7}}, "Invalid dimension a"),
        ({"dimensions": {"a": {"column": ""}}}, "Invalid dimension a"),
        ({"dimensions": {"a": {"column": "t", "group": {"units": "fortnight"}}}}, 'Invalid time dimension a: Invalid units "fortnight"'),
        ({"dimensions": {"a": {"column": "t", "group": {"units": "day", "timezone": 0.5}}}}, "Invalid time dimension a: timezone must be a name, or seconds from UTC"),
        ({"cluster": "no"}, "The option aggregation.cluster must be true or false"),
        ({"columns": {"a": SUM}, "dimensions": {"a": "kind"}}, "both a column and a dimension"),
        ({"filters": {"a": {"equal": 1}}}, "Invalid filtered column: a"),
        ({"columns": {"a": SUM}, "filters": {"a": {"like": 1}}}, "Invalid filter parameter name: like"),
        ({"columns": {"a": SUM}, "filters": {"a": {"between": 1}}}, "Invalid filter parameter name: between"),
        ({"columns": {"a": SUM}, "filters": {"a": 7}}, "A filter must be an object of parameters"),
        ({"columns": {"a": SUM}, "filters": {"a": {"equal": 1, "not_equal": 2}}}, "A filter has one parameter"),
        ({"columns": {"a": SUM}, "filters": {"a": {"less_than": 1, "less_than_or_equal_to": 2}}}, "A filter has one parameter"),
        ({"columns": {"a": SUM}, "filters": {"a": {"in": []}}}, "must be a list of 1 to 1000 values"),
        ({"columns": {"a": SUM}, "filters": {"a": {"in": 7}}}, "must be a list of 1 to 1000 values"),
        ({"columns": {"a": SUM}, "filters": {"a": {"in": [1] * 1001}}}, "must be a list of 1 to 1000 values"),
        ({"columns": {"a": SUM}, "filters": {"a": {"equal": None}}}, "The value of a filter must be"),
        ({"columns": {"a": SUM}, "filters": {"a": {"equal": "x" * 1001}}}, "The value of a filter must be"),
        ({"columns": {"a": SUM}, "filters": {"a": {"equal": float("nan")}}}, "The value of a filter must be"),
        ({"columns": {"a": SUM}, "filters": {"a": [{"equal": 1}] * 65}}, "has 65 alternatives"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_refused(raw: object, message: str) -> None:
    with pytest.raises(InvalidMapConfig) as caught:
        parse_aggregation(raw)
    assert message in caught.value.message


NAMES = st.text(min_size=1, max_size=15).filter(
    lambda name: "\0" not in name and len(name.encode("utf-8", "replace")) <= 63
)


@given(NAMES, st.text(max_size=20).filter(lambda text: "\0" not in text))
def test_no_name_and_no_value_becomes_anything_else(name: str, value: str) -> None:
    option = {
        "placement": "centroid",
        "columns": {"a": {"aggregate_function": "max", "aggregated_column": name}},
        "dimensions": {"d": name},
        "filters": {"a": {"equal": value}, "d": {"in": [value, value]}},
    }
    try:
        sql = statement(option)
    except InvalidMapConfig:
        return
    try:
        fingerprint = postgast.fingerprint(sql).hex
    except UnicodeEncodeError:
        return
    plain = option | {
        "columns": {"a": {"aggregate_function": "max", "aggregated_column": "value"}},
        "dimensions": {"d": "value"},
        "filters": {"a": {"equal": "x"}, "d": {"in": ["x", "x"]}},
    }
    # The same query but for one name, which is found as a name.
    assert (
        postgast.fingerprint(sql.replace(quoted_name(name), '"value"')).hex
        == postgast.fingerprint(statement(plain)).hex
    )
    assert fingerprint


@pytest.mark.parametrize(
    ("name", "quoted"),
    [("a", '"a"'), ('a"b', '"a""b"'), ("!bbox!", 'U&"\\0021bbox\\0021"'), ("a!\\", 'U&"a\\0021\\\\"'), ("a\\b", '"a\\b"')],
)  # fmt: skip
def test_names_are_quoted_without_substitution_tokens(name: str, quoted: str) -> None:
    assert quoted_name(name) == quoted
    assert quoted == substitute_tokens(quoted, VALUES)


@pytest.mark.parametrize(
    ("text", "quoted"),
    [("a", "'a'"), ("it's", "'it''s'"), ("!bbox!", "E'\\x21bbox\\x21'"), ("\\'", "E'\\\\'''"), ("", "''")],
)
def test_texts_are_quoted_without_substitution_tokens(text: str, quoted: str) -> None:
    assert quoted_text(text) == quoted
    assert quoted == substitute_tokens(quoted, VALUES)


KEYS = st.sampled_from(
    ["resolution", "threshold", "placement", "columns", "dimensions", "filters", "a", "aggregate_function", "aggregated_column",
     "column", "group", "units", "in", "equal", "less_than"]
) | st.text(max_size=5)  # fmt: skip
LEAVES = (
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["sum", "centroid", "*"])
)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=20
)


@given(st.dictionaries(KEYS, JSON, max_size=6))
def test_any_option_is_read_or_refused(raw: dict[str, Any]) -> None:
    with contextlib.suppress(InvalidMapConfig):
        aggregation = parse_aggregation(raw)
        assert aggregation is not None
        aggregated_sql("select 1", aggregation, geom_column="geom", columns=("geom",))


def test_what_the_data_decided_survives_its_storage() -> None:
    style = {"cartocss": "#l { marker-width: ramp([a], 1, 2); }", "cartocss_version": "3.0.12"}
    document = {"layers": [{"options": {"sql": "select 1", "aggregation": {"threshold": 1}, **style}}]}
    config = parse_mapconfig(document, limits=LimitSettings())
    meta = {"rules": [{"prop": "marker-width"}]}
    resolved = Resolved({0: ResolvedLayer("#l { marker-width: 1; }", meta, ("a", "the_geom_webmercator"))}, True)
    again = Resolved.of_stored(resolved.stored_in(config.document))
    assert again == resolved
    assert again.styled(config).layers[0].cartocss == "#l { marker-width: 1; }"
    assert "_cdb_feature_count" in (again.aggregated_sql(config.layers[0], "select 1") or "")
    assert again.metadata(config.layers[0], is_vector_only=False) == {
        "cartocss_meta": meta,
        "aggregation": {"png": True, "mvt": True},
    }
    assert Resolved.of_stored(config.document) == Resolved()
    assert Resolved().stored_in(config.document) is config.document
    assert Resolved().aggregated_sql(config.layers[0], "select 1") is None
