"""Requests that nobody thought of: no answer is a 500, and each is one that the OpenAPI description promises."""

import time
from typing import Any, cast
from urllib.parse import quote

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import checks

from maps_fixtures import FILL, NIGHTLY, POINTS, RED, MapsServer, layer

EXAMPLES = 2000 if NIGHTLY else 25
SECONDS = 120 if NIGHTLY else 6
"""Each of five parts takes at most this long: together ten minutes at night, half a minute otherwise."""
CHECKS = [checks.status_code_conformance, checks.content_type_conformance, checks.response_schema_conformance]
RELAXED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
    derandomize=not NIGHTLY,
    database=None,
)


class Patience:
    """Tells when the time of a part is over; what was tried until then has passed."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._end = time.monotonic() + seconds

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self._end


@pytest.fixture(scope="module")
def created(maps: MapsServer) -> dict[str, Any]:
    style = 'Map { -torque-frame-count: 4; -torque-resolution: 2; -torque-time-attribute: t; -torque-aggregation-function: "count(*)"; } #l { marker-width: 3; marker-fill: red; }'  # fmt: skip
    return maps.create(
        layer(POINTS, RED, interactivity="identifier", attributes={"id": "identifier", "columns": ["survey_id"]}),
        {"type": "plain", "options": {"color": "red"}},
        {"type": "torque", "options": {"sql": "select *, created_date_time as t from datapoint", "cartocss": style}},
        layer("select * from lands", FILL, interactivity="name"),
    )


def test_every_operation_answers_as_it_is_described(maps: MapsServer, created: dict[str, Any]) -> None:
    schema = schemathesis.openapi.from_url(f"{maps.url}/openapi.json")
    operations: list[Any] = [cast("Any", result).ok() for result in schema.get_all_operations()]
    names = {
        operation.definition.raw["operationId"] for operation in operations if "operationId" in operation.definition.raw
    }
    assert {"create_map", "create_map_by_address", "revoke_map", "tile", "layer_tile", "attributes"} <= names
    assert {"static_center", "static_bbox", "map_tilejson", "layer_tilejson", "describe_map"} <= names
    seconds = SECONDS / len(operations)
    for operation in operations:
        patience = Patience(seconds)

        @settings(RELAXED, max_examples=200 if NIGHTLY else 8)
        @given(
            case=operation.as_strategy(),
            use_map=st.booleans(),
            is_known=st.booleans(),
            patience=st.just(patience),
        )
        def run(case: Any, use_map: bool, is_known: bool, patience: Patience) -> None:
            if patience.is_over:
                return
            if use_map and case.method != "DELETE" and "layergroupid" in (case.path_parameters or {}):
                case.path_parameters["layergroupid"] = created["layergroupid"]
            headers = maps.authorization if is_known and case.method != "DELETE" else {}
            answer = case.call(headers=headers, timeout=30)
            # 503 is an answer: come back later.
            assert answer.status_code < 500 or answer.status_code == 503, answer.text
            case.validate_response(answer, checks=CHECKS)

        run()
        while NIGHTLY and not patience.is_over:
            run()


SEGMENT = st.one_of(
    st.sampled_from(
        ["0", "1", "2", "3", "-1", "0,1", "all", "mapnik", "torque", "plain", "layer0", "attributes", "static", "a"]
    ),
    st.integers(-(10**20), 10**20).map(str),
    st.floats().map(str),
    st.text(max_size=20),
)
LAST = st.one_of(
    st.sampled_from(
        [
            "0.png",
            "0@2x.png",
            "0.grid.json",
            "0.mvt",
            "0.geojson",
            "0.torque.json",
            "0.torque.png",
            "0.webp",
            "0",
            "a",
            "0.json",
        ]
    ),
    st.tuples(SEGMENT, st.sampled_from(["png", "mvt", "geojson", "jpg", "x", "", "grid.json"])).map(".".join),
)


def test_no_address_below_a_map_breaks_the_server(maps: MapsServer, created: dict[str, Any]) -> None:
    patience = Patience()

    def ask(segments: list[str], last: str, callback: str | None) -> None:
        if patience.is_over:
            return
        path = "/".join(quote(part, safe=",:@") for part in [*segments, last])
        query = {} if callback is None else {"callback": callback}
        answer = maps.get(created, path, **query)
        assert answer.status_code in (200, 204, 400, 403, 404, 503), (path, answer.text)

    RELAXED(given(st.lists(SEGMENT, max_size=6), LAST, st.none() | st.text(max_size=30))(ask))()


def test_no_static_address_breaks_the_server(maps: MapsServer, created: dict[str, Any]) -> None:
    number = st.one_of(st.integers(-500, 500).map(str), st.floats().map(str), st.text(max_size=8))
    size = st.one_of(st.integers(-1, 400).map(str), st.just("9999999"), st.text(max_size=5))

    patience = Patience()

    def ask(parts: list[str], width: str, height: str, name: str, kind: str) -> None:
        if patience.is_over:
            return
        place = "/".join(quote(part, safe="") for part in parts[:3])
        if kind == "bbox":
            place = ",".join(quote(part, safe="") for part in parts)
        path = f"{place}/{quote(width, safe='')}/{quote(height, safe='')}.{name}"
        answer = maps.static(created, kind, path, layer="1")
        assert answer.status_code in (200, 400, 404, 503), (path, answer.text)

    names, kinds = st.sampled_from(["png", "jpg", "gif"]), st.sampled_from(["center", "bbox"])
    RELAXED(given(st.lists(number, min_size=4, max_size=4), size, size, names, kinds)(ask))()


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "sql": st.sampled_from([POINTS, "select 1", "select * from nope", "bogus", ";"]) | st.text(max_size=30) | JSON,
        "cartocss": st.sampled_from([RED, "#l{", ""]) | st.text(max_size=30) | JSON,
        "cartocss_version": st.sampled_from(["2.0.0", "3.0.12", "9"]) | JSON,
        "geom_column": st.sampled_from(["geom", "the_geom_webmercator", "nope", '"; drop']) | JSON,
        "geom_type": st.sampled_from(["geometry", "raster"]) | JSON,
        "srid": st.sampled_from([3857, 4326, 0]) | JSON,
        "raster_band": JSON,
        "interactivity": st.sampled_from(["identifier", ["identifier"], "a,,b"]) | JSON,
        "attributes": st.sampled_from([{"id": "identifier", "columns": ["survey_id"]}]) | JSON,
        "minzoom": JSON,
        "maxzoom": JSON,
        "vector_extent": JSON,
        "vector_simplify_extent": JSON,
        "affected_tables": JSON,
        "color": st.sampled_from(["red", "#fff", [1, 2, 3]]) | JSON,
        "urlTemplate": st.sampled_from(["http://localhost/{z}"]) | JSON,
        "subdomains": JSON,
        "imageUrl": JSON,
        "step": JSON,
    },
)
LAYER = st.fixed_dictionaries(
    {"options": OPTIONS | JSON},
    optional={"type": st.sampled_from(["mapnik", "torque", "http", "plain"]) | JSON, "id": JSON},
)
DOCUMENT = st.fixed_dictionaries(
    {"layers": st.lists(LAYER, max_size=3) | JSON},
    optional={
        "version": st.sampled_from(["1.0.0", "1.8.0"]) | JSON,
        "buffersize": JSON,
        "minzoom": JSON,
        "maxzoom": JSON,
    },
)


def test_no_document_breaks_the_server(maps: MapsServer) -> None:
    patience = Patience()

    def ask(document: object) -> None:
        if patience.is_over:
            return
        answer = maps.post(document)
        assert answer.status_code in (200, 400, 403, 404, 503), (document, answer.text)
        if answer.status_code == 200:
            for path in (
                "0/0/0.png",
                "all/0/0/0.png",
                "0/0/0.mvt",
                "0/0/0/0.grid.json",
                "0/0/0/0.torque.json",
                "0/attributes/1",
            ):
                tile = maps.get(answer.json(), path)
                assert tile.status_code in (200, 204, 400, 403, 404, 503), (document, path, tile.text)

    RELAXED(given(DOCUMENT)(ask))()


def test_no_query_or_style_breaks_the_server(maps: MapsServer) -> None:
    """Texts made of the words of both languages get further than any noise."""
    sql_words = ["select", "*", "from", "datapoint", "where", "(", ")", ",", "and", "or", "identifier", "geom", "!bbox!", "1", "'x'", '"', ";", "--", "/*", "case", "when", "null", "::", "text", "&&", "$$", "union", "limit", "offset"]  # fmt: skip
    css_words = ["#l", "{", "}", ";", ":", "marker-width", "marker-fill", "red", "3", "[", "]", "identifier", "=", ">", "(", ")", ",", "@a", "line-width", "text-name", "'", '"', "//", "/*", "Map", "zoom", "::a", "url", "rgb", "#fff", "%"]  # fmt: skip
    sqls = st.lists(st.sampled_from(sql_words), max_size=14).map(" ".join)
    styles = st.lists(st.sampled_from(css_words), max_size=16).map(" ".join)

    patience = Patience()

    def ask(sql: str, css: str, is_sql: bool) -> None:
        if patience.is_over:
            return
        entry = layer(sql if is_sql else POINTS, RED if is_sql else css)
        answer = maps.post({"version": "1.8.0", "layers": [entry]})
        assert answer.status_code in (200, 400, 403, 404, 503), (entry, answer.text)

    RELAXED(given(sqls, styles, st.booleans())(ask))()
